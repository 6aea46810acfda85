#pragma once

#include <functional>
#include <vector>

namespace hippodrome {

struct TimingOptions {
  int repeats = 5;             // samples kept at least
  double time_limit = 10.0;    // seconds for everything; 0: none
  double settle = 0.02;        // warm-up ends when two medians in a row agree to this share …
  int most_warmups = 12;       // … or after this many calls
};

struct Timing {
  std::vector<double> samples;  // seconds, in order taken, after warm-up
  int warmups = 0;
  bool timed_out = false;       // the limit was reached before `repeats` samples
  double median() const;
  double quantile(double q) const;
};

// Calls `work` until its time settles, then takes samples. `after_warmup` is called between the two (to reset peaks).
// Work must be synchronous. When the very first call passes the limit, its time is the one sample.
Timing measure_time(const std::function<void()>& work, const TimingOptions& options,
                    const std::function<void()>& after_warmup = nullptr);

double quantile(std::vector<double> values, double q);

// y ≈ c·x^exponent by least squares on logarithms; needs two points at least.
double power_law_exponent(const std::vector<double>& x, const std::vector<double>& y);

// Where the curves through (x, a) and (x, b), straight between points on log-log axes, cross for the last time such that `a`
// is below `b` from there on; 0 when `a` is below everywhere, NaN when it is not below at the last point.
double crossover(const std::vector<double>& x, const std::vector<double>& a, const std::vector<double>& b);

}  // namespace hippodrome

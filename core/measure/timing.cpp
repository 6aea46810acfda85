#include "core/measure/timing.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

namespace hippodrome {
namespace {

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

double quantile(std::vector<double> values, double q) {
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  std::sort(values.begin(), values.end());
  const double place = q * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
}

double Timing::median() const { return hippodrome::quantile(samples, 0.5); }
double Timing::quantile(double q) const { return hippodrome::quantile(samples, q); }

Timing measure_time(const std::function<void()>& work, const TimingOptions& options,
                    const std::function<void()>& after_warmup) {
  Timing timing;
  double spent = 0.0;
  const auto over = [&] { return options.time_limit > 0.0 && spent > options.time_limit; };
  // Medians of the last three calls, one call apart.
  std::vector<double> warm;
  double last_median = 0.0;
  while (static_cast<int>(warm.size()) < options.most_warmups) {
    warm.push_back(seconds_of(work));
    spent += warm.back();
    if (options.time_limit > 0.0 && spent > 0.4 * options.time_limit) break;
    const std::vector<double> recent(warm.end() - std::min<std::ptrdiff_t>(3, std::ssize(warm)), warm.end());
    const double median = quantile(recent, 0.5);
    if (warm.size() >= 2 && std::abs(median - last_median) <= options.settle * median) break;
    last_median = median;
  }
  timing.warmups = static_cast<int>(warm.size());
  // Without time for a sample, what was seen so far is the result, its peaks included.
  if (after_warmup && !over()) after_warmup();
  while (static_cast<int>(timing.samples.size()) < options.repeats && !over()) {
    timing.samples.push_back(seconds_of(work));
    spent += timing.samples.back();
  }
  timing.timed_out = static_cast<int>(timing.samples.size()) < options.repeats;
  if (timing.samples.empty()) {
    timing.samples.push_back(warm.back());
    --timing.warmups;
  }
  return timing;
}

double power_law_exponent(const std::vector<double>& x, const std::vector<double>& y) {
  const auto n = static_cast<double>(x.size());
  double sx = 0, sy = 0, sxx = 0, sxy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double lx = std::log(x[i]), ly = std::log(y[i]);
    sx += lx, sy += ly, sxx += lx * lx, sxy += lx * ly;
  }
  return (n * sxy - sx * sy) / (n * sxx - sx * sx);
}

double crossover(const std::vector<double>& x, const std::vector<double>& a, const std::vector<double>& b) {
  const auto difference = [&](size_t i) { return std::log(a[i]) - std::log(b[i]); };
  if (x.empty() || difference(x.size() - 1) >= 0.0) return std::numeric_limits<double>::quiet_NaN();
  size_t first_below = x.size() - 1;
  while (first_below > 0 && difference(first_below - 1) < 0.0) --first_below;
  if (first_below == 0) return 0.0;
  const double before = difference(first_below - 1), after = difference(first_below);
  const double share = before / (before - after);
  return std::exp(std::log(x[first_below - 1]) + share * (std::log(x[first_below]) - std::log(x[first_below - 1])));
}

}  // namespace hippodrome

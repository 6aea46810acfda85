#pragma once

#include <bit>
#include <cmath>
#include <compare>
#include <cstdint>
#include <type_traits>

namespace hippodrome {

// Counts the floating-point operations of reference loops run on CountingScalar, on this thread, while it lives. One at a time.
class FlopMeter {
 public:
  FlopMeter() { active_ = this; }
  ~FlopMeter() { active_ = nullptr; }
  FlopMeter(const FlopMeter&) = delete;
  FlopMeter& operator=(const FlopMeter&) = delete;

  static FlopMeter* active() { return active_; }
  void add(double flops) { flops_ += flops; }
  double flops() const { return flops_; }

 private:
  static inline thread_local FlopMeter* active_ = nullptr;
  double flops_ = 0.0;
};

// A double that tells the active FlopMeter of each +, −, ×, ÷ and elementary function (one operation each). It has a double's
// layout, so that a reference runs on the tensors it is given: std::bit_cast<Params<CountingScalar>>(params).
struct CountingScalar {
  double value;

  CountingScalar() = default;
  CountingScalar(double v) : value(v) {}  // NOLINT: references write S(1.0) and plain constants alike

  static CountingScalar counted(double v) {
    if (FlopMeter* meter = FlopMeter::active()) meter->add(1.0);
    return CountingScalar(v);
  }
  friend CountingScalar operator+(CountingScalar a, CountingScalar b) { return counted(a.value + b.value); }
  friend CountingScalar operator-(CountingScalar a, CountingScalar b) { return counted(a.value - b.value); }
  friend CountingScalar operator*(CountingScalar a, CountingScalar b) { return counted(a.value * b.value); }
  friend CountingScalar operator/(CountingScalar a, CountingScalar b) { return counted(a.value / b.value); }
  friend CountingScalar operator-(CountingScalar a) { return CountingScalar(-a.value); }
  CountingScalar& operator+=(CountingScalar b) { return *this = *this + b; }
  CountingScalar& operator-=(CountingScalar b) { return *this = *this - b; }
  CountingScalar& operator*=(CountingScalar b) { return *this = *this * b; }
  friend auto operator<=>(CountingScalar a, CountingScalar b) { return a.value <=> b.value; }
  friend bool operator==(CountingScalar a, CountingScalar b) { return a.value == b.value; }
  friend CountingScalar exp(CountingScalar a) { return counted(std::exp(a.value)); }
  friend CountingScalar expm1(CountingScalar a) { return counted(std::expm1(a.value)); }
  friend CountingScalar sin(CountingScalar a) { return counted(std::sin(a.value)); }
  friend CountingScalar cos(CountingScalar a) { return counted(std::cos(a.value)); }
  friend CountingScalar log1p(CountingScalar a) { return counted(std::log1p(a.value)); }
  friend CountingScalar tanh(CountingScalar a) { return counted(std::tanh(a.value)); }
  friend CountingScalar sqrt(CountingScalar a) { return counted(std::sqrt(a.value)); }
};
static_assert(sizeof(CountingScalar) == sizeof(double));

// reference(params); on CountingScalar instead while a FlopMeter lives and T is double, with the same result.
template <template <class> class Params, class T, class Reference>
void run_counted(const Params<T>& params, const Reference& reference) {
  if constexpr (std::is_same_v<T, double>) {
    if (FlopMeter::active()) {
      reference(std::bit_cast<Params<CountingScalar>>(params));
      return;
    }
  }
  reference(params);
}

}  // namespace hippodrome

// Two ways to do the same, timed in turns, so that a busy neighbour disturbs both alike.
#pragma once

#include <algorithm>
#include <chrono>
#include <vector>

namespace hippodrome::side_by_side {

template <class F>
double seconds(const F& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Runs the timed loop and gives its nanoseconds per element.
template <class State, class F>
double ns_per_element(State& state, double elements, const F& work) {
  double total = 0;
  for (auto _ : state) total += seconds(work);
  return total * 1e9 / (static_cast<double>(state.iterations()) * elements);
}

// Median time of `other` over median time of `ours`, after one warm-up of each.
template <class Ours, class Other>
double ratio(const Ours& ours, const Other& other, int repeats) {
  ours();
  other();
  std::vector<double> a, b;
  for (int i = 0; i < repeats; ++i) {
    a.push_back(seconds(ours));
    b.push_back(seconds(other));
  }
  std::nth_element(a.begin(), a.begin() + repeats / 2, a.end());
  std::nth_element(b.begin(), b.begin() + repeats / 2, b.end());
  return b[repeats / 2] / a[repeats / 2];
}

}  // namespace hippodrome::side_by_side

// Two ways to do the same, timed in turns, so that a busy neighbour disturbs both alike.
#pragma once

#include <ATen/Parallel.h>
#include <time.h>

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

// On one thread the thread's own time: on a busy machine long runs of a slow side are interrupted, which would flatter
// us.
template <class F>
double seconds_of_thread(const F& work) {
  const clockid_t clock = at::get_num_threads() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;
  timespec begin, end;
  clock_gettime(clock, &begin);
  work();
  clock_gettime(clock, &end);
  return static_cast<double>(end.tv_sec - begin.tv_sec) + 1e-9 * static_cast<double>(end.tv_nsec - begin.tv_nsec);
}

inline double median(std::vector<double> samples) {
  std::nth_element(samples.begin(), samples.begin() + samples.size() / 2, samples.end());
  return samples[samples.size() / 2];
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
  return median(b) / median(a);
}

// Both in the timed loop of a benchmark with manual time, the slow reference in every eighth turn. Sets the counters
// ns_per_element and speedup_vs_reference from medians.
template <class State, class Fused, class Reference>
void measure_with_reference(State& state, double elements, const Fused& fused, const Reference& reference) {
  std::vector<double> fused_times, reference_times;
  for (auto _ : state) {
    fused_times.push_back(seconds_of_thread(fused));
    state.SetIterationTime(fused_times.back());
    if (fused_times.size() % 8 == 1) reference_times.push_back(seconds_of_thread(reference));
  }
  state.counters["ns_per_element"] = median(fused_times) / elements * 1e9;
  state.counters["speedup_vs_reference"] = median(reference_times) / median(fused_times);
}

}  // namespace hippodrome::side_by_side

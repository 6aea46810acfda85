// Runs CUDA kernels (block.h) on the CPU, slowly: for tests on machines without a GPU.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <vector>

#include "core/cuda/block.h"
#include "core/cuda/fiber_block.h"

namespace hippodrome::cuda {

// In which order threads and blocks take their turns: phase by phase from the first to the last, or the other way round
// with each thread running on until it meets a barrier (fiber_block.h). A kernel without races gives the same bits in
// both.
enum class Order { kForwards, kBackwards };

template <int kThreads>
class EmulatedBlock {
 public:
  template <class R>
  class PerThread {
   public:
    PerThread() : values_(kThreads) {}
    R& operator[](int thread) { return values_[static_cast<size_t>(thread)]; }

   private:
    std::vector<R> values_;
  };

  EmulatedBlock(int64_t index, int64_t shared_bytes)
      // Not-a-number until it is written, as what a GPU's shared memory holds is anything.
      : index_(index),
        memory_(static_cast<size_t>(shared_bytes + 15) / 16,
                Unit{{0xFFFFFFFFu, 0xFFFFFFFFu, 0xFFFFFFFFu, 0xFFFFFFFFu}}) {}

  int64_t index() const { return index_; }

  template <class F>
  void each(const F& f) {
    for (int thread = 0; thread < kThreads; ++thread) f(thread);
  }
  template <class F>
  void alone(const F& f) {
    each(f);
  }

  template <class T>
  T* shared(int64_t count) {
    T* const result = reinterpret_cast<T*>(reinterpret_cast<unsigned char*>(memory_.data()) + used_);
    used_ += shared_size<T>(count);
    if (used_ > static_cast<int64_t>(memory_.size() * sizeof(Unit)))
      throw std::logic_error("a block takes more shared memory than shared_bytes() says");
    return result;
  }

  template <int kWidth, class S>
  void sum_over_lanes(PerThread<S>& x) {
    exchange<kWidth>(x, [](S mine, S other) { return mine + other; });
  }
  template <int kWidth, class S>
  void max_over_lanes(PerThread<S>& x) {
    exchange<kWidth>(x, [](S mine, S other) { return mine > other ? mine : other; });
  }

 private:
  struct alignas(16) Unit {
    uint32_t words[4];
  };

  template <int kWidth, class S, class F>
  void exchange(PerThread<S>& x, const F& combine) {
    for (int distance = kWidth / 2; distance > 0; distance /= 2) {
      PerThread<S> before = x;
      for (int thread = 0; thread < kThreads; ++thread) x[thread] = combine(before[thread], before[thread ^ distance]);
    }
  }

  int64_t index_;
  int64_t used_ = 0;
  std::vector<Unit> memory_;
};

struct EmulatedLauncher {
  Order order = Order::kForwards;
  template <class Kernel, class Params>
  const char* run(const Params& p) const {
#ifdef __SANITIZE_THREAD__
    constexpr bool fibers = true;  // the sanitizer would see nothing in phases
#else
    const bool fibers = order == Order::kBackwards;
#endif
    if (fibers) return FiberLauncher{}.run<Kernel>(p);
    for (int64_t index = 0; index < Kernel::blocks(p); ++index) {
      EmulatedBlock<Kernel::kThreads> block(index, Kernel::shared_bytes(p));
      Kernel::run(block, p);
    }
    return nullptr;
  }
};

}  // namespace hippodrome::cuda

// Runs CUDA kernels (block.h) on the CPU with a thread of its own for each of a block's. The phases of the emulator's
// blocks follow one another as if a barrier stood behind each; here threads run on until they meet one, as on a GPU,
// and what a thread keeps outside of PerThread is its own. The threads are fibers, which a barrier costs little, and
// which ThreadSanitizer takes for threads: it sees what they do to each other between two barriers.
#pragma once

#include <ucontext.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <type_traits>
#include <vector>

#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

#include "core/cuda/block.h"

namespace hippodrome::cuda {

// Fibers that take turns on this thread, the last first: each runs until it yields or ends.
class Fibers {
 public:
  // Runs body(0), …, body(count - 1), each in a fiber, to their ends.
  void run(int count, const std::function<void(int)>& body) {
    body_ = &body;
    fibers_.clear();
    for (int i = 0; i < count; ++i) fibers_.push_back(std::make_unique<Fiber>());
#ifdef __SANITIZE_THREAD__
    scheduler_sanitizer_ = __tsan_get_current_fiber();
#endif
    for (auto& fiber : fibers_) start(*fiber);
    for (int left = count; left > 0;) {
      for (int i = count - 1; i >= 0; --i) {
        Fiber& fiber = *fibers_[static_cast<size_t>(i)];
        if (fiber.done.load(kRelaxed)) continue;
        current_.store(i, kRelaxed);
        enter(fiber);
        if (fiber.done.load(kRelaxed)) --left;
      }
    }
#ifdef __SANITIZE_THREAD__
    for (auto& fiber : fibers_) __tsan_destroy_fiber(fiber->sanitizer);
#endif
  }

  void yield() {
    Fiber& fiber = *fibers_[static_cast<size_t>(current_.load(kRelaxed))];
#ifdef __SANITIZE_THREAD__
    __tsan_switch_to_fiber(scheduler_sanitizer_, __tsan_switch_to_fiber_no_sync);
#endif
    swapcontext(&fiber.context, &scheduler_);
  }

 private:
  static constexpr size_t kStack = 256 * 1024;
  // For whose turn it is: atomic, so that the sanitizer takes it for no race, and relaxed, so that it orders nothing.
  static constexpr auto kRelaxed = std::memory_order_relaxed;
  struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[kStack]};
    std::atomic<bool> done{false}, entered{false};
    void* sanitizer = nullptr;
  };

  void start(Fiber& fiber) {
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    const auto self = reinterpret_cast<uintptr_t>(this);
    makecontext(&fiber.context, reinterpret_cast<void (*)()>(&Fibers::main_of_fiber), 2,
                static_cast<unsigned>(self >> 32), static_cast<unsigned>(self));
#ifdef __SANITIZE_THREAD__
    fiber.sanitizer = __tsan_create_fiber(0);
#endif
  }
  void enter(Fiber& fiber) {
#ifdef __SANITIZE_THREAD__
    // What came before the launch is seen by all its threads; nothing else is by a mere change of turns.
    __tsan_switch_to_fiber(fiber.sanitizer,
                           fiber.entered.exchange(true, kRelaxed) ? __tsan_switch_to_fiber_no_sync : 0);
#endif
    swapcontext(&scheduler_, &fiber.context);
  }
  static void main_of_fiber(unsigned high, unsigned low) {
    auto* self = reinterpret_cast<Fibers*>((static_cast<uintptr_t>(high) << 32) | low);
    (*self->body_)(self->current_.load(kRelaxed));
    self->fibers_[static_cast<size_t>(self->current_.load(kRelaxed))]->done.store(true, kRelaxed);
#ifdef __SANITIZE_THREAD__
    __tsan_switch_to_fiber(self->scheduler_sanitizer_, 0);  // what follows the launch sees what it did
#endif
    setcontext(&self->scheduler_);
  }

  const std::function<void(int)>* body_ = nullptr;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  ucontext_t scheduler_;
  void* scheduler_sanitizer_ = nullptr;
  std::atomic<int> current_{0};
};

// Lets `count` fibers wait for each other. What they did before it is seen after it.
class FiberBarrier {
 public:
  explicit FiberBarrier(int count) : count_(count) {}
  void wait(Fibers& fibers) {
    // Relaxed, so that the counting itself orders nothing. Of two generations in turn, a fiber that is through already
    // does not hand to those behind what it does next.
    const int64_t generation = generation_.load(std::memory_order_relaxed);
#ifdef __SANITIZE_THREAD__
    __tsan_release(&order_[generation % 2]);
#endif
    if (arrived_.fetch_add(1, std::memory_order_relaxed) + 1 == count_) {
      arrived_.store(0, std::memory_order_relaxed);
      generation_.store(generation + 1, std::memory_order_relaxed);
    }
    while (generation_.load(std::memory_order_relaxed) == generation) fibers.yield();
#ifdef __SANITIZE_THREAD__
    __tsan_acquire(&order_[generation % 2]);
#endif
  }

 private:
  int count_;
  std::atomic<int> arrived_{0};
  std::atomic<int64_t> generation_{0};
  char order_[2] = {};
};

// What the threads of a block share.
struct FiberBlockShared {
  struct alignas(32) Unit {
    unsigned char bytes[32];
  };

  FiberBlockShared(int threads, int64_t shared_bytes)
      : bytes(shared_bytes),
        memory(static_cast<size_t>(shared_bytes + 31) / 32),
        lanes(static_cast<size_t>(threads)),
        block(threads) {
    for (int warp = 0; warp < threads / 32; ++warp) warps.push_back(std::make_unique<FiberBarrier>(32));
  }

  Fibers fibers;
  int64_t bytes;
  std::vector<Unit> memory;
  std::vector<double> lanes;  // what threads of a warp hand each other
  FiberBarrier block;
  std::vector<std::unique_ptr<FiberBarrier>> warps;
};

// A block as one of its threads sees it.
template <int kThreads>
class FiberBlock {
 public:
  template <class R>
  class PerThread {
   public:
    R& operator[](int) { return value_; }

   private:
    R value_{};
  };

  FiberBlock(int64_t index, int thread, FiberBlockShared& shared) : index_(index), thread_(thread), shared_(shared) {}

  int64_t index() const { return index_; }

  template <class F>
  void each(const F& f) {
    f(thread_);
    shared_.block.wait(shared_.fibers);
  }
  template <class F>
  void alone(const F& f) {
    f(thread_);
  }

  template <class T>
  T* shared(int64_t count) {
    T* const result = reinterpret_cast<T*>(reinterpret_cast<unsigned char*>(shared_.memory.data()) + used_);
    used_ += shared_size<T>(count);
    if (used_ > shared_.bytes) throw std::logic_error("a block takes more shared memory than shared_bytes() says");
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
  // Waits for the warp alone, as a shuffle does.
  template <int kWidth, class S, class F>
  void exchange(PerThread<S>& x, const F& combine) {
    static_assert(std::is_arithmetic_v<S> && sizeof(S) <= sizeof(double));
    FiberBarrier& warp = *shared_.warps[static_cast<size_t>(thread_ / 32)];
    for (int distance = kWidth / 2; distance > 0; distance /= 2) {
      shared_.lanes[static_cast<size_t>(thread_)] = static_cast<double>(x[thread_]);
      warp.wait(shared_.fibers);
      const S other = static_cast<S>(shared_.lanes[static_cast<size_t>(thread_ ^ distance)]);
      warp.wait(shared_.fibers);
      x[thread_] = combine(x[thread_], other);
    }
  }

  int64_t index_;
  int thread_;
  FiberBlockShared& shared_;
  int64_t used_ = 0;
};

// Blocks from the last to the first.
struct FiberLauncher {
  template <class Kernel, class Params>
  const char* run(const Params& p) const {
    FiberBlockShared shared(Kernel::kThreads, Kernel::shared_bytes(p));
    shared.fibers.run(Kernel::kThreads, [&](int thread) {
      for (int64_t index = Kernel::blocks(p) - 1; index >= 0; --index) {
        FiberBlock<Kernel::kThreads> block(index, thread, shared);
        Kernel::run(block, p);
        shared.block.wait(shared.fibers);  // the next block has the same memory
      }
    });
    return nullptr;
  }
};

}  // namespace hippodrome::cuda

// The GPU as an Accelerator, in libhippodrome_cuda.so; core/tensor/cuda_library.cpp finds it by name.
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <mutex>

#include "core/tensor/accelerator.h"

namespace hippodrome {
namespace {

class RecordedGraph final : public RecordedWork {
 public:
  RecordedGraph(int index, const std::function<void()>& work)
      : index_(static_cast<c10::DeviceIndex>(index)), pool_(at::cuda::graph_pool_handle()) {
    const c10::cuda::CUDAGuard device(index_);
    // LibTorch records on a stream of its own only. What comes before is waited for, so that the graph depends on
    // nothing, and unused memory is given back: a recording takes memory of its own, and cannot give any back
    // meanwhile.
    c10::cuda::device_synchronize();
    at::cuda::clearCublasWorkspaces();
    c10::cuda::CUDACachingAllocator::emptyCache();
    const c10::cuda::CUDAStreamGuard stream(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, index_));
    // The graph keeps the memory of its products' workspaces itself; as LibTorch's they would be counted, and keep it
    // longer.
    struct Workspaces {
      ~Workspaces() { at::cuda::clearCublasWorkspaces(); }
    } const of_recording;
    try {
      graph_.capture_begin(pool_);
      work();
      graph_.capture_end();
    } catch (...) {
      abandon();
      throw;
    }
  }

  void replay() override {
    const c10::cuda::CUDAGuard device(index_);
    graph_.replay();
  }

 private:
  // Ends a capture that broke off. LibTorch's allocator ends its part only after CUDA has ended a valid one; otherwise
  // it would go on asking a graph that is no more whether memory is for it.
  void abandon() {
    try {
      graph_.capture_end();
      return;
    } catch (const c10::Error&) {
    }
    try {
      c10::cuda::CUDACachingAllocator::endAllocateToPool(index_, pool_);
      c10::cuda::CUDACachingAllocator::releasePool(index_, pool_);
      at::getHostAllocator(at::kCUDA)->end_allocate_to_pool(pool_);
      at::getHostAllocator(at::kCUDA)->release_pool(pool_);
    } catch (const c10::Error&) {  // capture_end() came that far
    }
  }

  c10::DeviceIndex index_;
  c10::MempoolId_t pool_;
  at::cuda::CUDAGraph graph_;
};

class Cuda final : public Accelerator {
 public:
  explicit Cuda(int index) : index_(static_cast<c10::DeviceIndex>(index)) {
    // The allocator has no statistics before its first block.
    const c10::cuda::CUDAGuard device(index_);
    at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
  }

  c10::Device device() const override { return {c10::DeviceType::CUDA, index_}; }
  std::string name() const override { return at::cuda::getDeviceProperties(index_)->name; }
  int64_t memory_bytes() const override {
    return static_cast<int64_t>(at::cuda::getDeviceProperties(index_)->totalGlobalMem);
  }
  void synchronise() override {
    const c10::cuda::CUDAGuard device(index_);
    c10::cuda::device_synchronize();
  }
  int64_t current_bytes() const override { return allocated().current; }
  int64_t peak_bytes() const override { return allocated().peak; }
  void reset_peak() override {
    // Those of other threads and streams would count for ever.
    at::cuda::clearCublasWorkspaces();
    c10::cuda::CUDACachingAllocator::resetPeakStats(index_);
  }
  void set_limit(int64_t bytes) override {
    const double share = static_cast<double>(bytes) / static_cast<double>(memory_bytes());
    c10::cuda::CUDACachingAllocator::setMemoryFraction(bytes > 0 ? std::min(1.0, share) : 1.0, index_);
  }
  bool records() const override { return true; }
  std::unique_ptr<RecordedWork> record(const std::function<void()>& work) override {
    try {
      return std::make_unique<RecordedGraph>(index_, work);
    } catch (const c10::Error& error) {
      std::fprintf(stderr, "hippodrome: what could be recorded is executed step by step: %s\n",
                   error.what_without_backtrace());
      return nullptr;
    }
  }

 private:
  c10::CachingAllocator::Stat allocated() const {
    const auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    return c10::cuda::CUDACachingAllocator::getDeviceStats(index_).allocated_bytes[all];
  }

  c10::DeviceIndex index_;
};

}  // namespace
}  // namespace hippodrome

// Null with a sentence in `why_not` when there is no such GPU.
extern "C" hippodrome::Accelerator* hippodrome_cuda_accelerator(int index, std::string& why_not) {
  static std::mutex mutex;
  static std::map<int, hippodrome::Cuda> found;
  const std::lock_guard lock(mutex);
  const int count = c10::cuda::device_count();
  if (index < 0 || index >= count) {
    why_not = count == 0 ? "CUDA finds no GPU that it can use (nvidia-smi says more)"
                         : "there is no such GPU: CUDA finds " + std::to_string(count) + ", numbered from 0";
    return nullptr;
  }
  return &found.try_emplace(index, index).first->second;
}

#include "core/tensor/memory_meter.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <c10/util/Exception.h>
#include <malloc.h>

#include <atomic>

namespace hippodrome::memory_meter {
namespace {

std::atomic<int64_t> current{0}, peak{0}, limit{0};

// Each block is preceded by its size. 64 bytes: LibTorch's alignment is kept.
constexpr size_t kHeader = 64;

void release(void* data) {
  if (!data) return;
  char* block = static_cast<char*>(data) - kHeader;
  current.fetch_sub(*reinterpret_cast<int64_t*>(block), std::memory_order_relaxed);
  c10::free_cpu(block);
}

class Meter final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t size) override {
    const c10::Device cpu(c10::DeviceType::CPU);
    if (size == 0) return {nullptr, nullptr, &release, cpu};
    const auto bytes = static_cast<int64_t>(size);
    const int64_t now = current.fetch_add(bytes, std::memory_order_relaxed) + bytes;
    const int64_t cap = limit.load(std::memory_order_relaxed);
    if (cap > 0 && now > cap) {
      current.fetch_sub(bytes, std::memory_order_relaxed);
      TORCH_CHECK_WITH(OutOfMemoryError, false, "out of memory: ", bytes, " bytes asked for, ", now - bytes,
                       " in use, limit ", cap);
    }
    int64_t seen = peak.load(std::memory_order_relaxed);
    while (now > seen && !peak.compare_exchange_weak(seen, now, std::memory_order_relaxed)) {
    }
    char* block;
    try {
      block = static_cast<char*>(c10::alloc_cpu(size + kHeader));
    } catch (...) {
      current.fetch_sub(bytes, std::memory_order_relaxed);
      throw;
    }
    *reinterpret_cast<int64_t*>(block) = bytes;
    char* data = block + kHeader;
    return {data, data, &release, cpu};
  }

  // oneDNN's products in bfloat16 take their scratch memory as raw pointers; without this they fail and a slower path is used.
  c10::DeleterFnPtr raw_deleter() const override { return &release; }

  void copy_data(void* target, const void* source, std::size_t count) const override {
    default_copy_data(target, source, count);
  }
};

}  // namespace

void install() {
  static Meter meter;
  c10::SetCPUAllocator(&meter, /*priority=*/100);
}

void keep_freed_memory() {
  // glibc maps blocks above 32 MiB apart and returns them on free, and its threshold cannot be raised beyond that: so no
  // block is mapped apart, and the heap's top is never given back.
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, -1);
  mallopt(M_TOP_PAD, 64 << 20);
}

int64_t current_bytes() { return current.load(std::memory_order_relaxed); }
int64_t peak_bytes() { return peak.load(std::memory_order_relaxed); }
void reset_peak() { peak.store(current_bytes(), std::memory_order_relaxed); }
void set_limit(int64_t bytes) { limit.store(bytes, std::memory_order_relaxed); }

}  // namespace hippodrome::memory_meter

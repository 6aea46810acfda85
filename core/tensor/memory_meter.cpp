#include "core/tensor/memory_meter.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>
#include <malloc.h>

#include <atomic>

namespace hippodrome::memory_meter {
namespace {

std::atomic<int64_t> current{0}, peak{0}, limit{0};

// What is needed to free one block and take it off the account.
struct Block {
  c10::DataPtr inner;
  int64_t bytes;
};

void release(void* context) {
  auto* block = static_cast<Block*>(context);
  current.fetch_sub(block->bytes, std::memory_order_relaxed);
  delete block;
}

class Meter final : public c10::Allocator {
 public:
  explicit Meter(c10::Allocator* inner) : inner_(inner) {}

  c10::DataPtr allocate(size_t size) override {
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
    auto* block = new Block{inner_->allocate(size), bytes};
    void* data = block->inner.get();
    return {data, block, &release, c10::Device(c10::DeviceType::CPU)};
  }

  // A raw allocation has no place for the block's account, so the meter offers none.
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }

  void copy_data(void* target, const void* source, std::size_t count) const override {
    inner_->copy_data(target, source, count);
  }

 private:
  c10::Allocator* inner_;
};

}  // namespace

void install() {
  static Meter meter(c10::GetCPUAllocator());
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

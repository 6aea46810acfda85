#include "core/tensor/memory_meter.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/core/CPUAllocator.h>
#include <gmock/gmock.h>

#include <cstdint>
#include <thread>

namespace hippodrome {
namespace {

class MemoryMeter : public testing::Test {
 protected:
  void SetUp() override { memory_meter::install(); }
  void TearDown() override { memory_meter::set_limit(0); }
};

TEST_F(MemoryMeter, CountsLivingTensorsByTheByte) {
  const int64_t before = memory_meter::current_bytes();
  {
    const at::Tensor one = at::zeros({1000}), other = at::empty({10, 10}, at::kDouble);
    EXPECT_EQ(memory_meter::current_bytes() - before, 4000 + 800);
    const at::Tensor view = one.narrow(0, 0, 5);
    EXPECT_EQ(memory_meter::current_bytes() - before, 4000 + 800) << "a view holds no memory of its own";
  }
  EXPECT_EQ(memory_meter::current_bytes(), before);
  EXPECT_EQ(at::empty({0}).numel(), 0);
  EXPECT_EQ(memory_meter::current_bytes(), before);
}

TEST_F(MemoryMeter, KeepsThePeakUntilItIsReset) {
  memory_meter::reset_peak();
  const int64_t before = memory_meter::current_bytes();
  { const at::Tensor gone = at::zeros({100000}); }
  EXPECT_EQ(memory_meter::peak_bytes() - before, 400000);
  EXPECT_EQ(memory_meter::current_bytes(), before);
  memory_meter::reset_peak();
  EXPECT_EQ(memory_meter::peak_bytes(), before);
}

TEST_F(MemoryMeter, CountsOnAllThreads) {
  const int64_t before = memory_meter::current_bytes();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([] {
      for (int j = 0; j < 2000; ++j) at::empty({1 + j % 7});
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(memory_meter::current_bytes(), before);
}

TEST_F(MemoryMeter, RefusesWhatPassesTheLimit) {
  const int64_t before = memory_meter::current_bytes();
  memory_meter::set_limit(before + 10000);
  const at::Tensor fits = at::zeros({1000});
  try {
    at::zeros({2000});
    FAIL() << "8,000 more bytes were allowed";
  } catch (const c10::OutOfMemoryError& error) {
    EXPECT_THAT(error.what_without_backtrace(), testing::HasSubstr("out of memory: 8000 bytes asked for"));
  }
  EXPECT_EQ(memory_meter::current_bytes() - before, 4000) << "what was refused is not counted";
  EXPECT_NO_THROW(at::zeros({1000}));
  memory_meter::set_limit(0);
  EXPECT_NO_THROW(at::zeros({2000}));
}

TEST_F(MemoryMeter, KeepsLibTorchsAlignment) {
  for (const int64_t size : {1, 63, 64, 1000, 1 << 22}) {
    const at::Tensor tensor = at::empty({size}, at::kByte);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % 64, 0u) << size;
  }
}

// oneDNN asks for scratch memory in this way.
TEST_F(MemoryMeter, ServesRawAllocations) {
  const int64_t before = memory_meter::current_bytes();
  c10::Allocator* allocator = c10::GetCPUAllocator();
  void* data = allocator->raw_allocate(512);
  ASSERT_NE(data, nullptr);
  EXPECT_EQ(memory_meter::current_bytes() - before, 512);
  allocator->raw_deallocate(data);
  EXPECT_EQ(memory_meter::current_bytes(), before);
}

}  // namespace
}  // namespace hippodrome

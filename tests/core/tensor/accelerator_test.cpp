#include "core/tensor/accelerator.h"

#include <ATen/ops/empty.h>
#include <gmock/gmock.h>

#include <filesystem>

#include "core/measure/provenance.h"
#include "core/tensor/memory_meter.h"

#include <nlohmann/json.hpp>

namespace hippodrome {
namespace {

TEST(Accelerator, DevicesByName) {
  EXPECT_EQ(parse_device("cpu").value(), c10::Device(c10::DeviceType::CPU));
  EXPECT_EQ(parse_device("cuda").value(), c10::Device(c10::DeviceType::CUDA, 0));
  EXPECT_EQ(parse_device("cuda:13").value(), c10::Device(c10::DeviceType::CUDA, 13));
  for (const char* wrong : {"", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda:x", "cuda:0 ", "cuda:123", "cpu:0"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(parse_device(wrong).status())) << wrong;
  }
}

TEST(Accelerator, TheCpuCountsAtTheAllocator) {
  Accelerator& cpu = cpu_accelerator();
  EXPECT_EQ(find_accelerator(c10::DeviceType::CPU).value(), &cpu);
  EXPECT_GT(cpu.memory_bytes(), int64_t{1} << 28);
  EXPECT_EQ(cpu.current_bytes(), memory_meter::current_bytes());
  EXPECT_EQ(cpu.record([] {}), nullptr);
  EXPECT_EQ(provenance()["device"], "cpu");
  EXPECT_EQ(provenance()["tf32"], false);
}

TEST(Accelerator, WithoutAGpuItSaysSo) {
  if (std::filesystem::exists("/dev/nvidiactl")) GTEST_SKIP() << "there is a GPU";
  const auto gpu = find_accelerator(c10::Device(c10::DeviceType::CUDA, 0));
  ASSERT_FALSE(gpu.ok());
  EXPECT_THAT(std::string(gpu.status().message()),
              testing::HasSubstr("--device cuda:0: this machine has no NVIDIA GPU"));
}

}  // namespace
}  // namespace hippodrome

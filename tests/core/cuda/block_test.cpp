// The frame that CUDA kernels are written in, and the number formats they read and write.
#include "core/cuda/block.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <vector>

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include "core/cuda/element.h"
#include "core/cuda/emulator.h"
#include "core/cuda/math.h"

namespace hippodrome::cuda {
namespace {

// Row sums of x [rows, width], in shared memory and across lanes.
struct RowSums {
  struct Params {
    const float* x;
    float* sums;
    int64_t rows, width;
  };
  static constexpr int kThreads = 64;
  static int64_t blocks(const Params& p) { return p.rows; }
  static int64_t shared_bytes(const Params&) { return shared_size<float>(kThreads / 32); }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Params& p) {
    float* const warps = block.template shared<float>(kThreads / 32);
    typename Block::template PerThread<float> sum;
    block.alone([&](int thread) {
      sum[thread] = 0.0f;
      for (int64_t i = thread; i < p.width; i += kThreads) sum[thread] += p.x[block.index() * p.width + i];
    });
    block.template sum_over_lanes<32>(sum);
    block.each([&](int thread) {
      if (thread % 32 == 0) warps[thread / 32] = sum[thread];
    });
    block.alone([&](int thread) {
      if (thread == 0) p.sums[block.index()] = warps[0] + warps[1];
    });
  }
};

// Reads what a neighbour writes in the same phase.
struct Racing {
  struct Params {
    float* y;
  };
  static constexpr int kThreads = 32;
  static int64_t blocks(const Params&) { return 1; }
  static int64_t shared_bytes(const Params&) { return shared_size<float>(kThreads); }
  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Params& p) {
    float* const tile = block.template shared<float>(kThreads);
    block.each([&](int thread) { tile[thread] = 0.0f; });
    block.each([&](int thread) {
      tile[thread] = static_cast<float>(thread);
      p.y[thread] = tile[(thread + 1) % kThreads];
    });
  }
};

// Its second phase reads what the first has written, and no barrier stands between them.
struct Unfenced : Racing {
  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Params& p) {
    float* const tile = block.template shared<float>(kThreads);
    block.each([&](int thread) { tile[thread] = 0.0f; });
    block.alone([&](int thread) { tile[thread] = static_cast<float>(thread); });
    block.each([&](int thread) { p.y[thread] = tile[(thread + 1) % kThreads]; });
  }
};

struct Greedy : Racing {
  static int64_t shared_bytes(const Params&) { return 64; }
};

TEST(CudaBlock, EmulatesBarriersLanesAndSharedMemory) {
  const int64_t rows = 5, width = 150;
  std::vector<float> x(rows * width), sums(rows), again(rows);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 7);
  EXPECT_EQ(EmulatedLauncher{}.run<RowSums>(RowSums::Params{x.data(), sums.data(), rows, width}), nullptr);
  EmulatedLauncher{Order::kBackwards}.run<RowSums>(RowSums::Params{x.data(), again.data(), rows, width});
  for (int64_t row = 0; row < rows; ++row) {
    float sum = 0.0f;
    for (int64_t i = 0; i < width; ++i) sum += x[row * width + i];
    EXPECT_EQ(sums[row], sum);
  }
  EXPECT_EQ(sums, again);
}

#ifndef __SANITIZE_THREAD__  // which would report them, as it should
template <class Kernel>
bool gives_the_same_in_both_orders() {
  std::vector<float> forwards(32), backwards(32);
  EmulatedLauncher{}.run<Kernel>(Racing::Params{forwards.data()});
  EmulatedLauncher{Order::kBackwards}.run<Kernel>(Racing::Params{backwards.data()});
  return forwards == backwards;
}

TEST(CudaBlock, RacesAndTooMuchSharedMemoryShow) {
  EXPECT_FALSE(gives_the_same_in_both_orders<Racing>());
  EXPECT_FALSE(gives_the_same_in_both_orders<Unfenced>());
  std::vector<float> forwards(32);
  EXPECT_THROW(EmulatedLauncher{}.run<Greedy>(Racing::Params{forwards.data()}), std::logic_error);
}
#endif

TEST(CudaBlock, ElementsAreThoseOfLibTorch) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto b = static_cast<uint16_t>(bits);
    const float bfloat = load(BFloat16{b}), half = load(Half{b});
    const float want_bfloat = c10::BFloat16(b, c10::BFloat16::from_bits()),
                want_half = c10::Half(b, c10::Half::from_bits());
    EXPECT_TRUE(bfloat == want_bfloat || (std::isnan(bfloat) && std::isnan(want_bfloat))) << bits;
    EXPECT_TRUE(half == want_half || (std::isnan(half) && std::isnan(want_half))) << bits;
  }
  std::vector<float> values = {
      0.0f,       -0.0f,    1e-8f,    2.98e-8f, 2.9802322e-8f, 5.96e-8f, 6.1e-5f,
      6.1035e-5f, 65504.0f, 65519.9f, 65520.0f, 1e30f,         3.4e38f,  std::numeric_limits<float>::infinity()};
  for (int i = 0; i < 20000; ++i)
    values.push_back(static_cast<float>(std::exp(static_cast<double>(i % 1999) / 50.0 - 20.0) * std::sin(i)));
  for (const float magnitude : values) {
    for (const float x : {magnitude, -magnitude}) {
      BFloat16 bfloat;
      Half half;
      store(x, &bfloat);
      store(x, &half);
      EXPECT_EQ(bfloat.bits, c10::BFloat16(x).x) << x;
      EXPECT_EQ(half.bits, c10::Half(x).x) << x;
    }
  }
}

// What float32 computes without branches and divisions, against float64: errors grow with x log2 e, which is rounded.
TEST(CudaMath, FloatsAreNearDoubles) {
  const auto near = [](float got, double want, double x) {
    EXPECT_LE(std::abs(static_cast<double>(got) - want), (3e-7 + 1.2e-7 * std::abs(x)) * std::abs(want)) << x;
  };
  for (double at = -60.0; at < 60.0; at += 0.0173) {
    const auto x = static_cast<float>(at);
    const auto exact = static_cast<double>(x);
    near(softplus(x), softplus(exact), exact);
    near(sigmoid(x), sigmoid(exact), exact);
    near(silu(x), silu(exact), exact);
  }
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(softplus(25.0f), 25.0f);
  EXPECT_EQ(softplus(infinity), infinity);
  EXPECT_EQ(softplus(-infinity), 0.0f);
  EXPECT_EQ(sigmoid(-infinity), 0.0f);
  EXPECT_EQ(sigmoid(infinity), 1.0f);
  EXPECT_EQ(silu(-200.0f), 0.0f);
  EXPECT_TRUE(std::isnan(softplus(nan)) && std::isnan(sigmoid(nan)) && std::isnan(silu(nan)));
}

TEST(CudaMath, SlopesAreDerivatives) {
  for (double x = -30.0; x < 30.0; x += 0.37) {
    const double h = 1e-5;
    EXPECT_NEAR(silu_slope(x), (silu(x + h) - silu(x - h)) / (2 * h), 1e-8) << x;
    EXPECT_NEAR(softplus_slope(x), (softplus(x + h) - softplus(x - h)) / (2 * h), 1e-8) << x;
  }
}

}  // namespace
}  // namespace hippodrome::cuda

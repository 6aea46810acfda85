// What the CUDA kernel of the selective scan computes with, tested without a GPU: its arithmetic and its index
// arithmetic, and the two together by walking blocks, threads and tiles as the kernel does.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "architectures/ssm/selective_scan/numerics.h"
#include "architectures/ssm/selective_scan/op.h"
#include "architectures/ssm/selective_scan/reference.h"

namespace hippodrome::selective_scan_cuda_test {
namespace {

using namespace s6;  // everything here is about it

TEST(SelectiveScanCuda, ScalarFunctions) {
  for (double x = -40.0; x <= 40.0; x += 0.37) {
    const double softplus = x > 20.0 ? x : std::log1p(std::exp(x));
    EXPECT_NEAR(cuda_softplus(static_cast<float>(x)) / softplus, 1.0, 4e-6) << x;
    const double silu = x / (1.0 + std::exp(-x));
    EXPECT_NEAR(cuda_silu(static_cast<float>(x)), silu, 1e-6 * std::max(1.0, std::abs(silu))) << x;
  }
  EXPECT_EQ(cuda_softplus(20.5f), 20.5f);
}

TEST(SelectiveScanCuda, EveryChannelHasExactlyOneThread) {
  for (const auto& [batch, channels, groups] : {std::tuple{3, 1, 1}, {2, 64, 1}, {2, 65, 1}, {1, 130, 2}, {2, 6, 3}}) {
    std::set<std::pair<int64_t, int64_t>> seen;
    const int64_t blocks = batch * groups * cuda_blocks_per_group(channels, groups);
    for (int64_t block = 0; block < blocks; ++block) {
      for (int64_t thread = 0; thread < kCudaThreads; ++thread) {
        const CudaPlace place = cuda_place(block, thread, channels, groups);
        ASSERT_LT(place.batch, batch);
        ASSERT_LT(place.group, groups);
        if (place.channel < 0) continue;
        EXPECT_EQ(place.group, place.channel / (channels / groups));
        EXPECT_TRUE(seen.emplace(place.batch, place.channel).second);
      }
    }
    EXPECT_EQ(static_cast<int64_t>(seen.size()), batch * channels);
  }
}

TEST(SelectiveScanCuda, TilesFitAndMeetCheckpoints) {
  for (const int64_t states : {16, 32, 64, 256}) {
    EXPECT_EQ(kChunk % cuda_tile_steps(states), 0) << states;
    EXPECT_LE(2 * cuda_tile_steps(states) * states * 4 + cuda_tile_steps(states) * 8, 48 * 1024) << states;
  }
}

TEST(SelectiveScanCuda, OffsetsPassTwoToTheThirtyOne) {
  const int64_t channels = 5000, length = 1000000;
  EXPECT_EQ(strided_index(length * channels, channels, 1, length - 1, 17), int64_t{9999995017});
  EXPECT_EQ(cuda_checkpoint_index(length, 256, channels, 3, 5), (int64_t{3} * 15625 + 5) * 256 * channels);
}

// The kernel's loops on the CPU, one block and one tile after another.
template <int kStates>
void walk(const Params<float>& p) {
  const int64_t tile_steps = cuda_tile_steps(kStates);
  std::vector<float> tile_B(tile_steps * kStates), tile_C(tile_steps * kStates);
  const int64_t blocks = p.batch * p.groups * cuda_blocks_per_group(p.channels, p.groups);
  for (int64_t block = 0; block < blocks; ++block) {
    for (int64_t thread = 0; thread < kCudaThreads; ++thread) {
      const auto [b, group, d] = cuda_place(block, thread, p.channels, p.groups);
      if (d < 0) continue;
      float A[kStates], h[kStates] = {};
      for (int64_t n = 0; n < kStates; ++n) A[n] = n < p.states ? cuda_scaled_decay(p.A[d * p.states + n]) : 0.0f;
      for (int64_t begin = 0; begin < p.length; begin += tile_steps) {
        const int64_t steps = std::min(tile_steps, p.length - begin);
        for (int64_t i = 0; i < steps * kStates; ++i) {
          const int64_t t = begin + i / kStates, n = i % kStates;
          const int64_t at = strided_index(p.B.batch, p.B.time, b, t, group * p.B.group + n);
          tile_B[i] = n < p.states ? p.B.data[at] : 0.0f;
          tile_C[i] = n < p.states ? p.C.data[at] : 0.0f;
        }
        for (int64_t i = 0; i < steps; ++i) {
          const int64_t at = strided_index(p.u.batch, p.u.time, b, begin + i, d);
          p.y[at] = cuda_step<kStates>(cuda_softplus(p.delta.data[at]), p.u.data[at], A, &tile_B[i * kStates],
                                       &tile_C[i * kStates], h);
        }
      }
      for (int64_t n = 0; n < p.states; ++n) p.last_state[(b * p.channels + d) * p.states + n] = h[n];
    }
  }
}

TEST(SelectiveScanCuda, WalkedOnTheCpuItIsTheScan) {
  const int64_t batch = 2, channels = 6, length = 150, groups = 2;
  for (const int64_t states : {5, 16, 100}) {
    const auto wave = [](int64_t size, double step, double shift) {
      std::vector<float> values(size);
      for (int64_t i = 0; i < size; ++i)
        values[i] = static_cast<float>(std::sin(step * static_cast<double>(i)) + shift);
      return values;
    };
    const auto u = wave(batch * length * channels, 0.7, 0.0), delta = wave(batch * length * channels, 1.3, -1.0);
    const auto A = wave(channels * states, 0.9, -1.1);
    const auto B = wave(batch * length * groups * states, 0.37, 0.0),
               C = wave(batch * length * groups * states, 0.53, 0.2);
    std::vector<float> y(u.size()), state(batch * channels * states), want_y(y), want_state(state);
    Params<float> p;
    p.batch = batch, p.channels = channels, p.length = length, p.groups = groups, p.states = states;
    p.delta_softplus = true;
    p.u = {u.data(), length * channels, channels}, p.delta = {delta.data(), length * channels, channels};
    p.A = A.data();
    p.B = {B.data(), length * groups * states, states, groups * states},
    p.C = {C.data(), p.B.batch, p.B.group, p.B.time};
    p.y = want_y.data(), p.last_state = want_state.data();
    selective_scan_reference(p);
    p.y = y.data(), p.last_state = state.data();
    states <= 16 ? walk<16>(p) : walk<256>(p);
    for (size_t i = 0; i < y.size(); ++i) EXPECT_NEAR(y[i], want_y[i], 2e-5 * (1.0 + std::abs(want_y[i]))) << i;
    for (size_t i = 0; i < state.size(); ++i) EXPECT_NEAR(state[i], want_state[i], 2e-5) << i;
  }
}

}  // namespace
}  // namespace hippodrome::selective_scan_cuda_test

// One token of a scan in place: the CPU operator against the scans themselves, and the emulated CUDA kernel against it.
#include "architectures/ssm/scan_step/scan_step.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <tuple>

#include "architectures/ssm/scan_step/cuda_binding.h"
#include "architectures/ssm/scan_step/cuda_kernels.h"
#include "architectures/ssm/scan_step/reference.h"
#include "core/cuda/emulator.h"
#include "tests/architectures/op_checks.h"

namespace hippodrome {
namespace scan_step_test {
namespace {

using op_checks::random_normal;
using op_checks::relative_error;

Tensor positions_of(int64_t batch) {  // continues, starts, padding, ...
  Tensor positions = at::empty({batch, 1}, at::kLong);
  for (int64_t b = 0; b < batch; ++b) positions[b][0] = b % 3 == 0 ? 9 : b % 3 == 1 ? 0 : -1;
  return positions;
}

SelectiveScanArguments selective(int64_t batch, int64_t channels, int64_t states, int64_t groups, int variant) {
  SelectiveScanArguments a;
  a.u = random_normal({batch, 1, channels}, 1).transpose(1, 2);
  a.delta = random_normal({batch, 1, channels}, 2).transpose(1, 2);
  a.A = random_normal({channels, states}, 3).exp().neg();
  const auto grouped = [&](uint64_t seed) {
    const Tensor t = random_normal({batch, 1, groups, states}, seed).permute({0, 2, 3, 1});
    return groups == 1 ? t.select(1, 0) : t;
  };
  a.B = grouped(4), a.C = grouped(5);
  a.delta_softplus = variant & 1;
  if (!a.delta_softplus) a.delta = a.delta.abs();
  if (variant & 2) a.D = random_normal({channels}, 6), a.delta_bias = random_normal({channels}, 7);
  if (variant & 2) a.z = random_normal({batch, 1, channels}, 8).transpose(1, 2);
  if (variant & 4) a.positions = positions_of(batch);
  return a;
}

// Projections as slices of one matrix, as the layer has them.
SsdArguments ssd_arguments(int64_t batch, int64_t heads, int64_t size, int64_t states, int64_t groups, int variant) {
  SsdArguments a;
  const int64_t inner = heads * size, GN = groups * states;
  const auto parts =
      random_normal({batch, 1, 2 * inner + 2 * GN + heads}, 1).split_with_sizes({inner, inner, GN, GN, heads}, -1);
  a.x = parts[0].unflatten(-1, {heads, size});
  a.dt = parts[4];
  a.A = random_normal({heads}, 3).exp().neg();
  a.B = parts[2].unflatten(-1, {groups, states}), a.C = parts[3].unflatten(-1, {groups, states});
  a.dt_softplus = true;
  if (variant & 1) a.dt_low = 0.5, a.dt_high = 1.1;
  if (variant & 2) a.D = random_normal({heads}, 6), a.dt_bias = random_normal({heads}, 7);
  if (variant & 2) a.z = parts[1].unflatten(-1, {heads, size});
  if (variant & 4) a.positions = positions_of(batch);
  return a;
}

class ScanStep : public op_checks::EmptyIsNan {
 protected:
  at::NoGradGuard no_gradients_;
};

TEST_F(ScanStep, IsTheSelectiveScanOfOneToken) {
  for (int variant = 0; variant < 8; ++variant) {
    for (const auto& [channels, states, groups] : {std::tuple{5, 16, 1}, {6, 3, 2}}) {
      SelectiveScanArguments a = selective(4, channels, states, groups, variant);
      a.initial_state = random_normal({4, channels, states}, 9);
      const auto [y, last] = selective_scan(a);
      const Tensor state = a.initial_state->clone();
      EXPECT_LE(relative_error(selective_scan_step(a, state), y), 1e-13) << variant;
      EXPECT_LE(relative_error(state, last), 1e-13) << variant;
    }
  }
}

TEST_F(ScanStep, IsSsdOfOneToken) {
  for (int variant = 0; variant < 8; ++variant) {
    SsdArguments a = ssd_arguments(4, 6, 5, 7, 2, variant);
    a.initial_state = random_normal({4, 6, 5, 7}, 9);
    const auto [y, last] = ssd(a);
    const Tensor state = a.initial_state->clone();
    EXPECT_LE(relative_error(ssd_step(a, state), y), 1e-13) << variant;
    EXPECT_LE(relative_error(state, last), 1e-13) << variant;
  }
}

// Inputs of the operator itself.
struct Problem {
  Tensor x, dt, A, B, C;
  OptionalTensor D, z, dt_bias;
  Tensor state;
  OptionalTensor positions;
  Problem(int64_t batch, int64_t heads, int64_t size, int64_t states, int64_t groups, int64_t decays, int variant)
      : x(random_normal({batch, heads, size}, 1)),
        dt(random_normal({batch, 2 * heads}, 2).slice(1, heads)),
        A(random_normal({heads, decays}, 3).exp().neg()),
        B(random_normal({batch, groups, 2 * states}, 4).slice(2, states)),
        C(random_normal({batch, groups, states}, 5)),
        state(random_normal({batch, heads, size, states}, 6)) {
    if (variant & 1) D = random_normal({heads}, 7), dt_bias = random_normal({heads}, 8);
    if (variant & 1) z = random_normal({batch, size, heads}, 9).transpose(1, 2);
    if (variant & 2) positions = positions_of(batch);
  }
  Problem as(at::ScalarType type, at::ScalarType wide) const {
    Problem result = *this;
    for (Tensor* t : {&result.x, &result.dt, &result.B, &result.C}) *t = t->to(type);
    if (z) result.z = z->to(type);
    for (Tensor* t : {&result.A, &result.state}) *t = t->to(wide).clone();
    return result;
  }
  scan_step::Arguments arguments() const { return {x, dt, A, B, C, D, z, dt_bias, true, 0.1, 2.0, state, positions}; }
};

Tensor emulated(const Problem& p, cuda::Order order = cuda::Order::kForwards) {
  return scan_step::cuda_step(
      [&](const auto& params) { return scan_step::run_step(params, cuda::EmulatedLauncher{order}); }, p.arguments());
}
Tensor plain(const Problem& p) {
  const scan_step::Bound<double, double> bound(p.arguments(), at::kDouble);
  scan_step::scan_step_reference(bound.params);
  return bound.y;
}

TEST_F(ScanStep, CudaKernelEqualsTheReference) {
  double worst32 = 0;
  for (const auto& [heads, size, groups] : {std::tuple{7, 1, 1}, {6, 3, 2}, {1, 20, 1}}) {
    for (const int64_t states : {1, 15, 16, 17, 64, 130}) {
      for (const int64_t decays : {int64_t{1}, states}) {
        for (int variant = 0; variant < 4; ++variant) {
          SCOPED_TRACE("H " + std::to_string(heads) + " N " + std::to_string(states) + " variant " +
                       std::to_string(variant));
          const Problem problem(4, heads, size, states, groups, decays, variant);
          const Problem want = problem.as(at::kDouble, at::kDouble), got = problem.as(at::kDouble, at::kDouble),
                        single = problem.as(at::kFloat, at::kFloat), again = problem.as(at::kFloat, at::kFloat);
          const Tensor y = plain(want), y32 = emulated(single);
          ASSERT_LE(relative_error(emulated(got), y), 1e-13);
          ASSERT_LE(relative_error(got.state, want.state), 1e-13);
          worst32 = std::max({worst32, relative_error(y32, y), relative_error(single.state, want.state)});
          ASSERT_LE(worst32, 3e-6);
          ASSERT_TRUE(emulated(again, cuda::Order::kBackwards).equal(y32));
          ASSERT_TRUE(again.state.equal(single.state));
        }
      }
    }
  }
  RecordProperty("worst_float32", std::to_string(worst32 * 1e6) + "e-6");
}

TEST_F(ScanStep, CudaKernelInSixteenBits) {
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    const Problem rounded = Problem(3, 6, 3, 20, 2, 20, 3).as(type, at::kFloat);
    const Problem want = rounded.as(at::kDouble, at::kDouble), got = rounded.as(type, at::kFloat);
    const Tensor y = plain(want), narrow = emulated(got);
    EXPECT_EQ(narrow.scalar_type(), type);
    EXPECT_LE(relative_error(narrow, y), 4e-3);
    EXPECT_LE(relative_error(got.state, want.state), 1e-6);
  }
}

TEST_F(ScanStep, CudaKernelOnNothing) { EXPECT_EQ(emulated(Problem(0, 6, 3, 20, 2, 20, 3)).numel(), 0); }

TEST_F(ScanStep, WrongArgumentsAreNamed) {
  const auto throws = [](const auto& change) {
    Problem p(2, 6, 3, 4, 2, 4, 3);
    change(p);
    EXPECT_THROW(emulated(p), c10::Error);
  };
  throws([](Problem& p) { p.x = p.x[0]; });
  throws([](Problem& p) { p.dt = p.dt[0]; });
  throws([](Problem& p) { p.A = p.A.slice(1, 0, 2); });
  throws([](Problem& p) { p.B = p.B.slice(1, 0, 1); });
  throws([](Problem& p) { p.state = p.state.to(at::kFloat); });
  throws([](Problem& p) { p.state = p.state.transpose(0, 1).contiguous().transpose(0, 1); });
  throws([](Problem& p) { p.positions = at::full({2, 2}, 1, at::kLong); });
  const at::AutoGradMode on(true);
  throws([](Problem&) {});
}

}  // namespace
}  // namespace scan_step_test
}  // namespace hippodrome

// The CUDA kernels of SSD, emulated on the CPU and called through their binding, against the plain loops.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "architectures/ssm/ssd/cuda_backward_kernels.h"
#include "architectures/ssm/ssd/cuda_binding.h"
#include "architectures/ssm/ssd/cuda_kernels.h"
#include "architectures/ssm/ssd/ssd.h"
#include "core/cuda/emulator.h"
#include "core/tensor/cuda_library.h"
#include "tests/architectures/ssm/ssd_cases.h"

namespace hippodrome::ssd_cuda_test {
namespace {

using namespace ssd_test;  // its shapes and arguments
using at::Tensor;
using cuda::EmulatedLauncher;
using cuda::Order;
using selective_scan_test::awkward_positions;
using selective_scan_test::relative_error;
using selective_scan_test::rms;
using selective_scan_test::uniform;
using ssd_kernel::CudaGradients;
using ssd_kernel::CudaKernels;
using ssd_kernel::CudaParams;
using Arguments = SsdArguments;

// Tiles of 32 steps are enough to meet every boundary, and cost an eighth; 0: those that a GPU gets.
template <int kSide, Order kOrder = Order::kForwards>
CudaKernels emulated() {
  return {
      [](const CudaParams& p, void*) { return ssd_kernel::gpu::run_ssd_forward<kSide>(p, EmulatedLauncher{kOrder}); },
      [](const CudaGradients& p, void*) {
        return ssd_kernel::gpu::run_ssd_backward<kSide>(p, EmulatedLauncher{kOrder});
      }};
}

struct Results {
  Tensor y, last_state;
  std::vector<Tensor> gradients;  // of x, dt, A, B, C, D, z, dt_bias, initial_state; without elements where absent
};

enum Used { kY = 1, kLastState = 2, kBoth = 3 };

Tensor y_weights(const Arguments& a) { return uniform(a.x.sizes(), 20).to(a.x.scalar_type()); }
Tensor state_weights(const Tensor& last_state) { return uniform(last_state.sizes(), 21).to(last_state.scalar_type()); }

Results run(const CudaKernels& kernels, const Arguments& a, Used used = kBoth) {
  const auto out = ssd_kernel::forward_with(kernels, a, true);
  const auto inference = ssd_kernel::forward_with(kernels, a, false);
  // Few steps without gradients go another way.
  const double bound = a.x.size(1) > ssd_kernel::kSequentialSteps ? 0.0
                       : a.x.scalar_type() == at::kDouble         ? 1e-13
                                                                  : 1e-6;
  EXPECT_LE(relative_error(inference.y, out.y), bound);
  EXPECT_LE(relative_error(inference.last_state, out.last_state), bound);
  const auto g = ssd_kernel::backward_with(
      kernels, used & kY ? OptionalTensor(y_weights(a)) : std::nullopt,
      used & kLastState ? OptionalTensor(state_weights(out.last_state)) : std::nullopt, a, out.checkpoints);
  return {out.y, out.last_state, {g.x, g.dt, g.A, g.B, g.C, g.D, g.z, g.dt_bias, g.initial_state}};
}

// Through the dispatcher and autograd, by the plain loops or by what the tensors' device has; as `run` returns it.
Results called(Arguments a, bool reference, Used used = kBoth) {
  std::vector<Tensor> inputs;
  for (Tensor* t : floating_inputs(a)) inputs.push_back(*t = t->detach().set_requires_grad(true));
  const auto [y, last_state] = reference ? ssd_reference(a) : ssd(a);
  std::vector<Tensor> outputs, weights;
  if (used & kY) outputs.push_back(y), weights.push_back(y_weights(a).to(y.device()));
  if (used & kLastState) outputs.push_back(last_state), weights.push_back(state_weights(last_state).to(y.device()));
  const auto gradients = torch::autograd::grad(outputs, inputs, weights, std::nullopt, false, true);
  Results r{y.detach().cpu(), last_state.detach().cpu(), {}};
  size_t next = 0;
  for (const auto& t : {OptionalTensor(a.x), OptionalTensor(a.dt), OptionalTensor(a.A), OptionalTensor(a.B),
                        OptionalTensor(a.C), a.D, a.z, a.dt_bias, a.initial_state}) {
    r.gradients.push_back(t.has_value() ? gradients[next++].cpu() : at::empty({0}, r.y.options()));
  }
  return r;
}
Results expected(const Arguments& a, Used used = kBoth) { return called(a, true, used); }

std::string describe(const Shape& s, int options) {
  return "B " + std::to_string(s.batch) + " L " + std::to_string(s.length) + " H " + std::to_string(s.heads) + " P " +
         std::to_string(s.head_size) + " G " + std::to_string(s.groups) + " N " + std::to_string(s.states) + " chunk " +
         std::to_string(s.chunk) + " options " + std::to_string(options);
}

// The error of a few sums, such as dA, is luck; of many, a root mean square: `few` is the bound of gradients with less
// than nine elements, if they have one of their own.
void expect_close(const Results& got, const Results& want, double forward, double backward, const std::string& what,
                  double few = -1.0) {
  EXPECT_LE(relative_error(got.y, want.y), forward) << what;
  EXPECT_LE(relative_error(got.last_state, want.last_state), forward) << what;
  ASSERT_EQ(got.gradients.size(), want.gradients.size());
  for (size_t i = 0; i < got.gradients.size(); ++i) {
    const double bound = few >= 0.0 && want.gradients[i].numel() < 9 ? few : backward;
    EXPECT_LE(relative_error(got.gradients[i], want.gradients[i]), bound) << what << ", gradient " << i;
  }
}

struct Case {
  Shape shape;
  int options;
};

// Lengths around tiles of 32 steps and around units, several tiles of channels and of states, blocks of heads that are
// not full, chunks that are no whole number of tiles, and of more than one unit.
const Case kCases[] = {
    {{2, 1, 3, 4, 1, 5, 256}, kAll},
    {{2, 2, 2, 1, 2, 1, 256}, kSkip | kGate},
    {{2, 31, 3, 5, 1, 3, 256}, kAll},
    {{1, 32, 1, 8, 1, 8, 256}, kPlain},
    {{2, 33, 6, 3, 1, 5, 256}, kAll & ~kPositions},
    {{2, 70, 4, 7, 2, 9, 256}, kAll},
    {{1, 65, 5, 33, 1, 40, 32}, kAll},
    {{1, 70, 2, 40, 1, 33, 17}, kAll & ~kGate},
    {{1, 96, 1, 4, 1, 16, 64}, kState | kSoftplus},
    {{1, 300, 2, 4, 1, 6, 280}, kAll},
    {{2, 260, 1, 2, 1, 3, 256}, kAll & ~kLimits},
};

TEST(SsdCuda, DoubleEqualsReference) {
  for (const Case& c : kCases) {
    const Arguments a = make_arguments(c.shape, c.options);
    expect_close(run(emulated<0>(), a), expected(a), 1e-12, 1e-11, describe(c.shape, c.options));
  }
}

// The house rule for float32: within 2x (forward) and 3x (backward) of the error of plain float32 loops, or a floor.
template <int kSide>
void expect_float_as_good_as_plain(const Case& c) {
  const Arguments a = make_arguments(c.shape, c.options, at::kFloat);
  const Results want = expected(make_arguments(c.shape, c.options)), got = run(emulated<kSide>(), a),
                plain = expected(a);
  const std::string what = describe(c.shape, c.options);
  EXPECT_LE(relative_error(got.y, want.y), std::max(1e-6, 2 * relative_error(plain.y, want.y))) << what;
  EXPECT_LE(relative_error(got.last_state, want.last_state),
            std::max(1e-6, 2 * relative_error(plain.last_state, want.last_state)))
      << what;
  for (size_t i = 0; i < got.gradients.size(); ++i) {
    // The error of a few sums is luck; of many, a root mean square.
    const double floor = want.gradients[i].numel() < 9 ? 2e-5 : 2e-6;
    EXPECT_LE(relative_error(got.gradients[i], want.gradients[i]),
              std::max(floor, 3 * relative_error(plain.gradients[i], want.gradients[i])))
        << what << ", gradient " << i;
  }
}

TEST(SsdCuda, FloatIsAsGoodAsPlainLoops) {
  for (const Case& c : kCases) expect_float_as_good_as_plain<32>(c);
  expect_float_as_good_as_plain<0>({{1, 130, 2, 5, 1, 70, 256}, kAll});
}

// Weighed scores and states are rounded to the inputs' type, sums and decays are not.
TEST(SsdCuda, SixteenBitsRoundProductsOnly) {
  for (const auto& [dtype, bound] : {std::pair{at::kBFloat16, 6e-3}, {at::kHalf, 8e-4}}) {
    for (const Case& c : {Case{{2, 70, 4, 16, 2, 24, 256}, kAll}, {{1, 65, 5, 33, 1, 40, 32}, kAll & ~kPositions}}) {
      Arguments a = make_arguments(c.shape, c.options);
      for (Tensor* t : {&a.x, &a.dt, &a.B, &a.C, &*a.z}) *t = t->to(dtype);
      for (Tensor* t : {&a.A, &*a.D, &*a.dt_bias, &*a.initial_state}) *t = t->to(at::kFloat);
      Arguments exact = a;
      for (Tensor* t : floating_inputs(exact)) *t = t->to(at::kDouble);
      const Results got = run(emulated<32>(), a);
      expect_close(got, expected(exact), bound, bound, describe(c.shape, c.options));
      EXPECT_EQ(got.y.scalar_type(), dtype);
      EXPECT_EQ(got.last_state.scalar_type(), at::kFloat);
      EXPECT_EQ(got.gradients[0].scalar_type(), dtype);
      EXPECT_EQ(got.gradients[2].scalar_type(), at::kFloat);
    }
  }
  const Case c{{1, 65, 2, 8, 1, 16, 256}, kAll};
  const Arguments a = make_arguments(c.shape, c.options, at::kBFloat16);
  Arguments exact = a;
  for (Tensor* t : floating_inputs(exact)) *t = t->to(at::kDouble);
  expect_close(run(emulated<0>(), a), expected(exact), 1.2e-2, 1.2e-2, describe(c.shape, c.options));
}

TEST(SsdCuda, FewStepsWithoutGradients) {
  for (const Case& c :
       {Case{{2, 1, 3, 5, 1, 5, 256}, kAll}, {{2, 8, 4, 6, 2, 33, 256}, kAll}, {{1, 4, 1, 3, 1, 140, 1}, kPlain}}) {
    for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
      const Arguments a = make_arguments(c.shape, c.options, dtype);
      const auto got = ssd_kernel::forward_with(emulated<0>(), a, false),
                 backwards = ssd_kernel::forward_with(emulated<0, Order::kBackwards>(), a, false);
      const auto [y, last_state] = ssd_reference(a);
      EXPECT_LE(relative_error(got.last_state, last_state), dtype == at::kDouble ? 1e-14 : 5e-7);
      EXPECT_LE(relative_error(got.y, y), dtype == at::kDouble ? 1e-14 : dtype == at::kFloat ? 5e-7 : 1e-3);
      EXPECT_TRUE(got.y.equal(backwards.y) && got.last_state.equal(backwards.last_state));
    }
  }
}

TEST(SsdCuda, MixedDtypesAreThoseOfTheWorkingOne) {
  Arguments a = make_arguments({1, 40, 2, 4, 1, 5, 256}, kAll, at::kFloat);
  a.x = a.x.to(at::kBFloat16), a.dt = a.dt.to(at::kHalf);
  Arguments exact = a;
  for (Tensor* t : floating_inputs(exact)) *t = t->to(at::kFloat);
  const Results got = run(emulated<32>(), a);
  EXPECT_EQ(got.y.scalar_type(), at::kBFloat16);
  EXPECT_EQ(got.gradients[1].scalar_type(), at::kHalf);
  EXPECT_LE(relative_error(got.y, expected(exact).y), 3e-3);
}

// Fast decay: sums of dt A of some hundreds, whose exponentials above the diagonal overflow.
TEST(SsdCuda, FastDecayStaysExact) {
  Arguments a = make_arguments({1, 256, 4, 3, 1, 4, 256}, kSkip | kState);
  a.A = at::tensor({-1.0, -16.0, -100.0, -1000.0}, at::kDouble);
  for (Tensor* t : floating_inputs(a)) *t = t->to(at::kFloat).to(at::kDouble);
  const Results want = expected(a);
  for (Tensor* t : floating_inputs(a)) *t = t->to(at::kFloat);
  const Results got = run(emulated<32>(), a);
  EXPECT_TRUE(got.y.isfinite().all().item<bool>());
  expect_close(got, want, 1e-6, 3e-6, "fast decay");
}

TEST(SsdCuda, PaddingIsNotRead) {
  Arguments a = make_arguments({2, 70, 3, 4, 1, 5, 32}, kAll);
  const Results want = run(emulated<32>(), a);
  const Tensor padding = a.positions->lt(0).unsqueeze(-1);
  const double nan = std::nan("");
  a.dt = a.dt.masked_fill(padding, nan);
  for (Tensor* t : {&a.x, &a.B, &a.C, &*a.z}) *t = t->masked_fill(padding.unsqueeze(-1), nan);
  expect_close(run(emulated<32>(), a), want, 0.0, 0.0, "not-a-number in the padding");

  a.positions->fill_(-1);
  const Results r = run(emulated<32>(), a);
  EXPECT_EQ(rms(r.y), 0.0);
  EXPECT_EQ(relative_error(r.last_state, *a.initial_state), 0.0);
  for (const size_t i : {0, 1, 2, 3, 4, 5, 6, 7}) EXPECT_EQ(rms(r.gradients[i]), 0.0) << i;
  EXPECT_EQ(relative_error(r.gradients[8], state_weights(r.last_state)), 0.0);
}

TEST(SsdCuda, OneOutputUsed) {
  const Arguments a = make_arguments({2, 40, 3, 4, 1, 5, 32}, kAll);
  for (const Used used : {kY, kLastState})
    expect_close(run(emulated<32>(), a, used), expected(a, used), 1e-12, 1e-11, std::to_string(used));
}

// Slices of one projection, as the layer has them; a layout that is copied; rows that begin at multiples of 16 bytes.
TEST(SsdCuda, StridedInputs) {
  for (const int64_t head_size : {6, 8}) {
    const Shape s{2, 40, 3, head_size, 1, 8, 256};
    const Arguments plain = make_arguments(s, kAll, at::kFloat);
    const Results want = run(emulated<32>(), plain);
    Arguments sliced = plain, backwards = plain;
    const int64_t inner = 3 * head_size;
    const Tensor projection = at::empty({2, 40, inner + 16}, at::kFloat);
    sliced.x = projection.slice(2, 0, inner).unflatten(2, {3, head_size}).copy_(plain.x);
    sliced.B = projection.slice(2, inner, inner + 8).unflatten(2, {1, 8}).copy_(plain.B);
    sliced.C = projection.slice(2, inner + 8, inner + 16).unflatten(2, {1, 8}).copy_(plain.C);
    for (Tensor* t : floating_inputs(backwards)) {
      if (t->dim() > 1) *t = t->transpose(0, -1).contiguous().transpose(0, -1);
    }
    for (const Arguments& a : {sliced, backwards}) expect_close(run(emulated<32>(), a), want, 0.0, 0.0, "strided");
  }
}

TEST(SsdCuda, NothingDependsOnTheOrderOfThreadsAndBlocks) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const Arguments a = make_arguments({2, 70, 6, 9, 1, 5, 40}, kAll, dtype);
    expect_close(run(emulated<32, Order::kBackwards>(), a), run(emulated<32>(), a), 0.0, 0.0, "order");
  }
}

TEST(SsdCuda, NoStepsAndNoRows) {
  const Results r = run(emulated<32>(), make_arguments({2, 0, 3, 4, 1, 5, 256}, kAll));
  EXPECT_EQ(r.y.numel(), 0);
  EXPECT_EQ(relative_error(r.last_state, uniform({2, 3, 4, 5}, 9)), 0.0);
  for (const size_t i : {2, 5, 7}) EXPECT_EQ(rms(r.gradients[i]), 0.0) << i;
  EXPECT_EQ(relative_error(r.gradients[8], state_weights(r.last_state)), 0.0);
  const Results none = run(emulated<32>(), make_arguments({0, 4, 3, 4, 1, 5, 256}, kAll));
  EXPECT_EQ(none.y.numel(), 0);
  EXPECT_EQ(rms(none.gradients[2]), 0.0);
}

// On a GPU, where there is one: what the emulator cannot show.
TEST(GpuSsd, EqualsReference) {
  if (!load_cuda_library()) GTEST_SKIP() << "no GPU, or no library for it";
  const Case wide{{2, 600, 8, 64, 2, 128, 256}, kAll};
  for (const auto& [dtype, forward, backward, few] : {std::tuple{at::kDouble, 1e-12, 1e-11, 1e-11},
                                                      {at::kFloat, 1e-6, 3e-6, 5e-5},
                                                      {at::kBFloat16, 6e-3, 1.2e-2, 0.2},
                                                      {at::kHalf, 8e-4, 1.5e-3, 0.03}}) {
    std::vector<Case> cases(std::begin(kCases), std::end(kCases));
    cases.push_back(wide);
    for (const Case& c : cases) {
      Arguments a = make_arguments(c.shape, c.options, dtype), exact = a;
      for (Tensor* t : floating_inputs(exact)) *t = t->to(at::kDouble);
      for (Tensor* t : floating_inputs(a)) *t = t->to(at::kCUDA);
      if (a.positions.has_value()) a.positions = a.positions->to(at::kCUDA);
      const Results got = called(a, false);
      expect_close(got, expected(exact), forward, backward, describe(c.shape, c.options), few);
      expect_close(called(a, false), got, 0.0, 0.0, "run twice");
      const at::NoGradGuard inference;
      EXPECT_LE(relative_error(std::get<0>(ssd(a)).cpu(), got.y), forward) << describe(c.shape, c.options);
    }
  }
}

TEST(SsdCuda, UnitsCoverEveryStepOnce) {
  for (const int64_t chunk : {1, 17, 64, 256, 257, 300, 1000, 4096}) {
    for (const int64_t length : {0, 1, 16, 17, 255, 256, 257, 299, 301, 999, 5000}) {
      const ssd_kernel::Units units = ssd_kernel::units_of(length, chunk);
      int64_t next = 0;
      for (int64_t u = 0; u < units.count; ++u) {
        EXPECT_EQ(units.begin(u), next);
        EXPECT_GT(units.end(u), next);
        EXPECT_LE(units.end(u) - next, ssd_kernel::kMaxUnit);
        EXPECT_EQ(units.begin(u) / chunk, (units.end(u) - 1) / chunk);
        EXPECT_EQ(u % units.per_chunk == 0, units.begin(u) % chunk == 0);
        next = units.end(u);
      }
      EXPECT_EQ(next, length) << chunk;
    }
  }
}

TEST(SsdCuda, PlacesAndOffsetsPassTwoToTheThirtyOne) {
  CudaParams p;
  p.batch = 3, p.length = int64_t{1} << 26, p.heads = 80, p.head_size = 64, p.groups = 8, p.states = 128;
  const int64_t units = p.length / 256, last = p.batch * units * 4 * 80 - 1;
  const ssd_kernel::gpu::Place place = ssd_kernel::gpu::place_of(p, last, 64, p.head_size, true);
  EXPECT_EQ(place.b, 2);
  EXPECT_EQ(place.unit, units - 1);
  EXPECT_EQ(place.begin, p.length - 64);
  EXPECT_EQ(place.first_head, 79);
  EXPECT_EQ(place.group, 7);
  EXPECT_EQ(ssd_kernel::gpu::step_index(p, 4, 2, 79, p.length - 1), int64_t{5} * 3 * 80 * p.length - 1);
  EXPECT_EQ(ssd_kernel::gpu::unit_index(p, ssd_kernel::gpu::units_of(p), 2, units - 1, 79), 3 * units * 80 - 1);
  // Of ten heads to a group the last block has two.
  const ssd_kernel::gpu::Place shared = ssd_kernel::gpu::place_of(p, 3 * units * 4 * 24 * 2 - 1, 64, p.states, false);
  EXPECT_EQ(shared.b, 2);
  EXPECT_EQ(shared.column, 64);
  EXPECT_EQ(shared.first_head, 78);
  EXPECT_EQ(shared.heads, 2);
}

}  // namespace
}  // namespace hippodrome::ssd_cuda_test

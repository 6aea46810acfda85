// The CUDA kernels of the selective scan on the CPU (core/cuda/emulator.h), through their binding: against the plain
// loops, forward and backward.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "architectures/ssm/selective_scan/cuda_binding.h"
#include "architectures/ssm/selective_scan/cuda_kernels.h"
#include "core/cuda/emulator.h"
#include "tests/architectures/ssm/selective_scan_cases.h"

namespace hippodrome::selective_scan_test {
namespace {

using namespace s6;

template <cuda::Order kOrder>
const CudaKernels kEmulated = {
    [](const CudaForward& p, void*) { return run_forward(p, cuda::EmulatedLauncher{kOrder}); },
    [](const CudaBackward& p, void*) { return run_backward(p, cuda::EmulatedLauncher{kOrder}); }};

// As run() of the cases, with the same weights.
Results run_emulated(Arguments a, const CudaKernels& kernels = kEmulated<cuda::Order::kForwards>) {
  const Outputs out = forward_on_gpu(a, true, kernels);
  Results r{out.y, out.last_state, {}};
  const Tensor dy = transposed({a.u.size(0), a.u.size(2), a.u.size(1)}, 20).to(out.y.scalar_type());
  const Tensor dlast = uniform(out.last_state.sizes(), 21).to(out.last_state.scalar_type());
  const InputGradients g = backward_on_gpu(dy, dlast, a, out.checkpoints, kernels);
  r.gradients = {g.u, g.delta, g.A, g.B, g.C};
  if (a.D.has_value()) r.gradients.push_back(g.D);
  if (a.z.has_value()) r.gradients.push_back(g.z);
  if (a.delta_bias.has_value()) r.gradients.push_back(g.delta_bias);
  if (a.initial_state.has_value()) r.gradients.push_back(g.initial_state);
  const std::vector<Tensor*> inputs = floating_inputs(a);
  for (size_t i = 0; i < inputs.size(); ++i) {
    EXPECT_EQ(r.gradients[i].scalar_type(), inputs[i]->scalar_type()) << i;
    EXPECT_EQ(r.gradients[i].sizes(), inputs[i]->sizes()) << i;
  }
  return r;
}

double worst_of(const Results& got, const Results& want) {
  double worst = std::max(relative_error(got.y, want.y), relative_error(got.last_state, want.last_state));
  for (size_t i = 0; i < want.gradients.size(); ++i) {
    worst = std::max(worst, relative_error(got.gradients[i], want.gradients[i]));
  }
  return worst;
}

// The rule of the CPU kernels' test: within 2x (forward) and 3x (backward) of the error of plain float32 loops.
void expect_emulated_as_good_as_plain(const Shape& s, int options, const Results& want) {
  const Arguments a = make_arguments(s, options, at::kFloat);
  const Results got = run_emulated(a), plain = run(a, true);
  const std::string what = describe(s, options) + " float";
  EXPECT_LE(relative_error(got.y, want.y), std::max(1e-6, 2 * relative_error(plain.y, want.y))) << what;
  EXPECT_LE(relative_error(got.last_state, want.last_state),
            std::max(1e-6, 2 * relative_error(plain.last_state, want.last_state)))
      << what;
  for (size_t i = 0; i < got.gradients.size(); ++i) {
    const double floor = want.gradients[i].numel() < 3 ? 2e-5 : 2e-6;
    const double bound = std::max(floor, 3 * relative_error(plain.gradients[i], want.gradients[i]));
    EXPECT_LE(relative_error(got.gradients[i], want.gradients[i]), bound) << what << ", gradient " << i;
  }
}

void expect_scan(const Shape& s, int options) {
  const Results want = run(make_arguments(s, options), true);
  EXPECT_LE(worst_of(run_emulated(make_arguments(s, options)), want), 1e-11) << describe(s, options);
  expect_emulated_as_good_as_plain(s, options, want);
}

// Lengths around a tile of backward (8), of forward (32), a chunk (64) and two and more segments (256 each).
TEST(SelectiveScanCuda, Lengths) {
  for (const int64_t length : {1, 7, 8, 9, 31, 32, 33, 63, 64, 65, 129, 511, 512, 577, 800}) {
    expect_scan({2, 3, length, length % 2 == 0 ? 4 : 17, 1}, kAll);
    expect_scan({1, 2, length, 4, 1}, kAll & ~kPositions);
  }
}

TEST(SelectiveScanCuda, Options) {
  for (int options = 0; options <= kAll; ++options) expect_scan({2, 6, options % 3 == 0 ? 515 : 41, 3, 2}, options);
}

// States a thread holds are 16, or 8 in float64; channels of a block 64.
TEST(SelectiveScanCuda, StatesChannelsAndGroups) {
  for (const Shape& s : {Shape{1, 2, 70, 1, 1}, Shape{1, 3, 40, 8, 3}, Shape{1, 2, 70, 16, 1}, Shape{2, 3, 35, 33, 1},
                         Shape{1, 4, 66, 64, 2}, Shape{1, 2, 20, 256, 1}, Shape{1, 63, 9, 5, 1}, Shape{2, 65, 70, 3, 1},
                         Shape{1, 2 * 70, 20, 4, 2}, Shape{1, 130, 9, 20, 1}}) {
    expect_scan(s, kAll);
  }
}

TEST(SelectiveScanCuda, ComplexAndZeroOrderHold) {
  for (const int mode : {kComplex + 0, kHold + 0, kComplex | kHold}) {
    for (const Shape& s :
         {Shape{2, 6, 1, 4, 2}, Shape{1, 34, 3, 2, 1}, Shape{1, 3, 130, 6, 1}, Shape{1, 2, 65, 4, 2}}) {
      expect_scan(s, kAll | mode);
      expect_scan(s, kSoftplus | mode);
    }
  }
  // Slow states: phi and its derivative by A are differences of nearly equal numbers.
  for (const int mode : {kHold + 0, kHold | kComplex}) {
    Arguments a = make_arguments({1, 5, 70, 4, 1}, kSoftplus | mode);
    a.A = a.A.mul(1e-3).clone();
    EXPECT_LE(worst_of(run_emulated(a), run(a, true)), 1e-10);
  }
}

// Positions decide in summaries of segments, too: a start or padding anywhere, also on both sides of an edge.
TEST(SelectiveScanCuda, PositionsInSegments) {
  const Shape s{1, 2, 700, 3, 1};
  ASSERT_EQ(cuda_segments(s.batch, s.channels, s.length, false).count, 2);
  for (const auto& [start, padded] : {std::tuple<int64_t, int64_t>{0, 699},
                                      {351, 352},
                                      {352, 0},
                                      {384, 383},
                                      {383, 384},
                                      {385, 386},
                                      {385, 384},
                                      {699, 383},
                                      {100, 600},
                                      {600, 100}}) {
    Arguments a = make_arguments(s, kAll & ~kPositions);
    Tensor positions = at::full({1, s.length}, 5, at::kLong);
    positions[0][start] = 0;
    positions[0][padded] = -1;
    a.positions = positions;
    EXPECT_LE(worst_of(run_emulated(a), run(a, true)), 1e-11) << start << " " << padded;
    a.positions = at::full({1, s.length}, -1, at::kLong);
    const Results only_padding = run_emulated(a);
    EXPECT_EQ(relative_error(only_padding.last_state, *a.initial_state), 0.0);
    EXPECT_EQ(rms(only_padding.y), 0.0);
    EXPECT_EQ(relative_error(only_padding.gradients[8], uniform({1, 2, 3}, 21)), 0.0);
  }
}

// What stands in the padding, and what an earlier sequence ended with, is not seen, not even NaN.
TEST(SelectiveScanCuda, NothingPassesPaddingOrAStart) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const int64_t length : {40, 600}) {
    Arguments a = make_arguments({1, 3, length, 4, 1}, kAll & ~kState);
    a.initial_state = at::full({1, 3, 4}, nan, at::kDouble);
    Tensor positions = at::full({1, length}, 7, at::kLong);
    positions.slice(1, 0, length / 2).fill_(-1);
    positions[0][length / 2] = 0;
    a.positions = positions;
    for (Tensor* t : {&a.u, &a.delta, &a.B, &a.C, &*a.z}) {
      *t = t->clone();
      t->slice(2, 0, length / 2).fill_(nan);
    }
    const Results r = run_emulated(a), want = run(a, true);
    EXPECT_EQ(rms(r.gradients[8]), 0.0);
    EXPECT_LE(worst_of(r, want), 1e-11) << length;
  }
}

TEST(SelectiveScanCuda, BothOrdersGiveTheSameBits) {
  for (const auto& [s, options] : {std::tuple{Shape{2, 130, 20, 5, 2}, kAll + 0},
                                   {Shape{1, 3, 600, 20, 1}, kAll + 0},
                                   {Shape{1, 66, 600, 20, 1}, kAll & ~kPositions},
                                   {Shape{1, 34, 70, 4, 1}, kAll | kComplex | kHold}}) {
    const Arguments a = make_arguments(s, options, at::kFloat);
    const Results one = run_emulated(a), two = run_emulated(a, kEmulated<cuda::Order::kBackwards>);
    EXPECT_TRUE(at::equal(one.y, two.y) && at::equal(one.last_state, two.last_state)) << describe(s, options);
    for (size_t i = 0; i < one.gradients.size(); ++i) EXPECT_TRUE(at::equal(one.gradients[i], two.gradients[i])) << i;
  }
}

TEST(SelectiveScanCuda, SmallTypesAndMixedTypes) {
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
    const double epsilon = dtype == at::kHalf ? 1e-3 : 8e-3;
    // An even number of channels is read in twos.
    for (const auto& [options, channels] :
         {std::tuple{kAll + 0, 3}, {kAll + 0, 4}, {kAll & ~kPositions, 4}, {kAll | kComplex, 3}}) {
      Arguments small = make_arguments({2, channels, 70, 6, 1}, options, dtype);
      Arguments exact = small;
      for (Tensor* t : floating_inputs(exact)) *t = t->to(at::kDouble);
      EXPECT_LE(worst_of(run_emulated(small), run(exact, true)), epsilon);
      small.delta = small.delta.to(at::kFloat);
      small.B = small.B.to(at::kDouble);
      EXPECT_LE(worst_of(run_emulated(small), run(exact, true)), epsilon);
      EXPECT_EQ(run_emulated(small).y.scalar_type(), dtype);
    }
  }
}

TEST(SelectiveScanCuda, StridedInputs) {
  const Shape s{2, 5, 40, 6, 1};
  const Arguments plain = make_arguments(s, kAll, at::kFloat);
  const Results want = run_emulated(plain);
  Arguments contiguous = plain;  // [B, D, L]
  for (Tensor* t : floating_inputs(contiguous)) *t = t->contiguous();
  Arguments sliced = plain;  // columns of joint projections
  const Tensor selection = at::cat({at::zeros({2, 40, 3}), plain.B.transpose(1, 2), plain.C.transpose(1, 2)}, 2);
  sliced.B = selection.slice(2, 3, 9).transpose(1, 2);
  sliced.C = selection.slice(2, 9, 15).transpose(1, 2);
  const Tensor both = at::cat({plain.u.transpose(1, 2), plain.z->transpose(1, 2)}, 2);
  sliced.u = both.slice(2, 0, 5).transpose(1, 2);
  sliced.z = both.slice(2, 5, 10).transpose(1, 2);
  for (const Arguments& a : {contiguous, sliced}) EXPECT_EQ(worst_of(run_emulated(a), want), 0.0);
}

// Without checkpoints the same, to the bit; a gradient may be absent; a scan of nothing.
TEST(SelectiveScanCuda, ContractOfTheBinding) {
  const CudaKernels& kernels = kEmulated<cuda::Order::kForwards>;
  const Arguments a = make_arguments({2, 3, 600, 20, 1}, kAll);
  const Outputs kept = forward_on_gpu(a, true, kernels), plain = forward_on_gpu(a, false, kernels);
  EXPECT_TRUE(at::equal(kept.y, plain.y) && at::equal(kept.last_state, plain.last_state));
  EXPECT_FALSE(plain.checkpoints.defined());

  const Tensor zeros = at::zeros({2, 600, 3}, at::kDouble).transpose(1, 2), dlast = uniform({2, 3, 20}, 21);
  const InputGradients without = backward_on_gpu({}, dlast, a, kept.checkpoints, kernels),
                       with = backward_on_gpu(zeros, dlast, a, kept.checkpoints, kernels);
  EXPECT_TRUE(at::equal(without.delta, with.delta) && at::equal(without.A, with.A) && at::equal(without.B, with.B));
  EXPECT_EQ(rms(without.z), 0.0);
  EXPECT_EQ(without.B.strides(), backward_on_gpu({}, {}, a, kept.checkpoints, kernels).B.strides());
  EXPECT_THROW(backward_on_gpu({}, dlast, a, {}, kernels), c10::Error);

  for (const Shape& s : {Shape{2, 3, 0, 4, 1}, Shape{0, 3, 5, 4, 1}}) {
    EXPECT_EQ(worst_of(run_emulated(make_arguments(s, kAll)), run(make_arguments(s, kAll), true)), 0.0);
  }
  const CudaKernels broken = {[](const CudaForward&, void*) { return "no device"; }, kernels.backward};
  EXPECT_THROW(forward_on_gpu(a, false, broken), c10::Error);
}

TEST(SelectiveScanCuda, EveryChannelOfEverySegmentHasOneThread) {
  for (const auto& [batch, channels, groups] : {std::tuple{3, 1, 1}, {2, 64, 1}, {2, 65, 1}, {1, 130, 2}, {2, 6, 3}}) {
    CudaScan p;
    p.batch = batch, p.channels = channels, p.groups = groups, p.length = 700, p.segments = {2, 384};
    std::set<std::tuple<int64_t, int64_t, int64_t>> seen;
    for (int64_t index = 0; index < cuda_blocks(p, kCudaChannels, 2); ++index) {
      const CudaPlace place = cuda_place(p, index, kCudaChannels, 0, 2);
      EXPECT_EQ(place.begin, place.segment * 384);
      EXPECT_EQ(place.end, place.segment == 0 ? 384 : 700);
      for (int thread = 0; thread < place.count; ++thread) {
        EXPECT_EQ(place.group, place.channel(thread) / (channels / groups));
        EXPECT_TRUE(seen.emplace(place.batch, place.segment, place.channel(thread)).second);
      }
    }
    EXPECT_EQ(static_cast<int64_t>(seen.size()), batch * channels * 2);
  }
}

TEST(SelectiveScanCuda, SegmentsAreChunksAndFillTheGpu) {
  for (const int64_t length : {1, 255, 511, 512, 513, 4096, 65536, 1000003}) {
    for (const int64_t channels : {1, 1536, 16895, 16896}) {
      const CudaSegments segments = cuda_segments(1, channels, length, false);
      EXPECT_GE(segments.count * segments.steps, length);
      EXPECT_LT((segments.count - 1) * segments.steps, length);
      EXPECT_TRUE(segments.count == 1 || (segments.steps % kChunk == 0 && segments.steps >= kCudaMinSegment));
      EXPECT_TRUE(segments.count == 1 || channels < kCudaBusyChannels);
      EXPECT_EQ(cuda_segments(1, channels, length, true).count, 1);
    }
  }
  EXPECT_EQ(cuda_segments(1, 1536, 65536, false).count, 22);
}

TEST(SelectiveScanCuda, OffsetsPassTwoToTheThirtyOne) {
  CudaScan p;
  p.batch = 4, p.channels = 5000, p.length = 1000000, p.states = 256, p.segments = {1, 1000000};
  const Strided<const void> rows{nullptr, p.length * p.channels, p.channels};
  EXPECT_EQ(offset(rows, 1, p.length - 1, 17), int64_t{9999995017});
  EXPECT_EQ(part_offset(p, 3, 5, chunk_count(p), 2), ((int64_t{3} * 15625 + 5) * 256 + 2) * 5000);
  p.batch = int64_t{1} << 22, p.states = 16;
  EXPECT_EQ(state_offset(p, p.batch - 1, 4999), ((int64_t{1} << 22) * 5000 - 1) * 16);
  EXPECT_EQ(cuda_place(p, cuda_blocks(p, kCudaChannels, 1) - 1, kCudaChannels, 0, 1).batch, p.batch - 1);
}

TEST(SelectiveScanCuda, SharedMemoryIsBounded) {
  for (const int64_t bytes :
       {ForwardKernel<float, true>::shared_bytes({}), ForwardKernel<double, true>::shared_bytes({}),
        BackwardKernel<float, true>::shared_bytes({}), BackwardKernel<double, true>::shared_bytes({}),
        GeneralBackwardKernel<float>::shared_bytes({}), GeneralBackwardKernel<double>::shared_bytes({})}) {
    EXPECT_LE(bytes, 96 * 1024);
  }
  // Three blocks on a multiprocessor of Hopper: 228 KiB, of which each block takes one more.
  EXPECT_EQ((BackwardKernel<float, false>::shared_bytes({})), 75 * 1024);
}

}  // namespace
}  // namespace hippodrome::selective_scan_test

// The CUDA kernels of gated_rms_norm, emulated on the CPU and called through their binding, against the plain loops.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <algorithm>

#include "architectures/ssm/gated_rms_norm/cuda_binding.h"
#include "architectures/ssm/gated_rms_norm/cuda_kernels.h"
#include "core/cuda/emulator.h"
#include "tests/architectures/op_checks.h"
#include "tests/architectures/ssm/emulated_checks.h"
#include "tests/architectures/ssm/gated_rms_norm_checks.h"

namespace hippodrome {
namespace gated_rms_norm_cuda_test {
namespace {

using namespace gated_rms_norm_checks;
namespace kernels = gated_rms_norm_op;

template <cuda::Order kOrder>
constexpr kernels::CudaKernels kEmulated = {
    [](const kernels::CudaForward& p, void*) { return kernels::run_forward(p, cuda::EmulatedLauncher{kOrder}); },
    [](const kernels::CudaBackward& p, void*) { return kernels::run_backward(p, cuda::EmulatedLauncher{kOrder}); }};

Evaluation emulated(const Tensors& in, const Tensors& cotangents, const GatedRmsNormOptions& o,
                    cuda::Order order = cuda::Order::kForwards) {
  const at::NoGradGuard no_grad;
  const auto& k =
      order == cuda::Order::kForwards ? kEmulated<cuda::Order::kForwards> : kEmulated<cuda::Order::kBackwards>;
  const auto [y, scale] = kernels::cuda_forward(k, in[0], in[1], in[2], o.groups, o.epsilon, o.norm_before_gate, false);
  const auto [gx, gz, gw] =
      kernels::cuda_backward(k, cotangents[0], in[0], in[1], in[2], scale, o.groups, o.norm_before_gate, false);
  return {{y}, {gx, gz, gw}};
}

class GatedRmsNormCuda : public op_checks::EmptyIsNan {
 protected:
  void SetUp() override {
    EmptyIsNan::SetUp();
    seed();
  }
};

struct Shape {
  int64_t rows, width, groups;
};

// A warp's group and a block's, in packs and alone, with and without packs that are not held.
TEST_F(GatedRmsNormCuda, EqualsThePlainLoops) {
  WorstErrors worst;
  for (const Shape& s : {Shape{1, 1, 1},
                         {3, 7, 1},
                         {9, 24, 2},
                         {5, 300, 1},
                         {4, 512, 1},
                         {2, 516, 1},
                         {3, 1500, 3},
                         {2, 1031, 1},
                         {9, 2100, 1},
                         {2, 4616, 1}}) {
    for (const bool norm_before_gate : {false, true}) {
      const auto label = ::testing::PrintToString(std::make_tuple(s.rows, s.width, s.groups, norm_before_gate));
      const GatedRmsNormOptions options{s.groups, 1e-5, norm_before_gate};
      const auto run = [&](const Tensors& in, const Tensors& cotangents) { return emulated(in, cotangents, options); };
      expect_emulated_equals(op(options, true), run, inputs({s.rows, s.width}), 2, 3, label, worst);
    }
  }
  worst.record();
}

// A two-byte dtype is rounded where it is read and written only.
TEST_F(GatedRmsNormCuda, SixteenBitsInPacksAndAlone) {
  for (const auto dtype : {at::kBFloat16, at::kHalf}) {
    for (const Shape& s : {Shape{9, 48, 2}, {9, 46, 2}, {2, 1032, 1}, {2, 8200, 1}}) {
      for (const bool norm_before_gate : {false, true}) {
        const GatedRmsNormOptions options{s.groups, 1e-5, norm_before_gate};
        Tensors in = inputs({s.rows, s.width}, dtype);
        in[2] = in[2].to(at::kFloat);
        const Tensors cotangents = random_like({in[0]});
        const Evaluation narrow = emulated(in, cotangents, options);
        const Evaluation wide = emulated(cast(in, at::kFloat), cast(cotangents, at::kFloat), options);
        EXPECT_EQ(narrow.outputs[0].scalar_type(), dtype);
        expect_close(narrow.outputs, wide.outputs, 4e-3, "outputs");
        expect_close({narrow.gradients[0], narrow.gradients[1]}, {wide.gradients[0], wide.gradients[1]}, 4e-3,
                     "gradients");
        EXPECT_EQ(narrow.gradients[2].scalar_type(), at::kFloat);
        expect_close({narrow.gradients[2]}, {wide.gradients[2]}, 1e-6, "gradient of the weight");
      }
    }
  }
}

TEST_F(GatedRmsNormCuda, SameBitsInAnyOrder) {
  for (const Shape& s : {Shape{70, 36, 1}, {5, 44, 2}, {18, 700, 1}, {9, 4100, 1}}) {
    for (const bool norm_before_gate : {false, true}) {
      const GatedRmsNormOptions options{s.groups, 1e-5, norm_before_gate};
      const Tensors in = inputs({s.rows, s.width}, at::kFloat), cotangents = random_like({in[0]});
      const Evaluation a = emulated(in, cotangents, options),
                       b = emulated(in, cotangents, options, cuda::Order::kBackwards);
      expect_same_bits(a.outputs, b.outputs, "outputs");
      expect_same_bits(a.gradients, b.gradients, "gradients");
    }
  }
}

// z as a slice of the projection, aligned to packs and not; rows that do not begin at packs.
TEST_F(GatedRmsNormCuda, ReadsRowsWhereTheyAre) {
  const Tensors plain = inputs({3, 4, 16}, at::kFloat), cotangents = random_like({plain[0]});
  const Evaluation want = emulated(plain, cotangents, {});
  for (const auto& [width, first] : {std::pair{40, 8}, {40, 3}, {41, 8}}) {
    const at::Tensor wide = at::randn({3, 4, width}, at::kFloat), z = wide.slice(2, first, first + 16);
    z.copy_(plain[1]);
    const Evaluation got = emulated({plain[0], z, plain[2]}, cotangents, {});
    expect_close(got.outputs, want.outputs, 1e-6, "outputs");
    expect_close(got.gradients, want.gradients, 1e-6, "gradients");
  }
  const at::Tensor apart = plain[0].transpose(1, 2).contiguous().transpose(1, 2);
  expect_same_bits(emulated({apart, plain[1], plain[2]}, cotangents, {}).gradients, want.gradients, "channels apart");
}

TEST_F(GatedRmsNormCuda, TakesNoRowsAndNoChannels) {
  for (const std::vector<int64_t>& sizes : {std::vector<int64_t>{0, 6}, {3, 0}}) {
    const Tensors in = inputs(sizes, at::kFloat);
    const Evaluation e = emulated(in, {in[0]}, {});
    EXPECT_EQ(e.outputs[0].sizes(), in[0].sizes());
    EXPECT_EQ(e.gradients[2].sizes(), in[2].sizes());
    EXPECT_EQ(rms(e.gradients[2]), 0.0);
  }
}

// Rows and parts stay within what 64 bits hold, and every row is in one part.
TEST_F(GatedRmsNormCuda, PartsCoverTheRows) {
  for (const int64_t rows : {int64_t{1}, int64_t{8}, int64_t{9}, int64_t{70'000}, int64_t{1} << 40}) {
    for (const Shape& s : {Shape{rows, 8, 1}, {rows, 4096, 1}, {rows, 4096, 4096}, {rows, 1 << 20, 2000}}) {
      const kernels::Sizes sizes{s.rows, s.width, s.groups};
      const int64_t parts = kernels::cuda_parts(sizes, cuda::Element::kFloat);
      ASSERT_GE(parts, 1);
      ASSERT_LE(parts * s.groups, std::max<int64_t>(8192, s.groups));
      const int64_t longest = cuda::ceil_div(rows, parts);
      for (const int64_t part : {int64_t{0}, parts / 2, parts - 1}) {
        EXPECT_LE(rows * (part + 1) / parts - rows * part / parts, longest);
      }
    }
  }
}

TEST_F(GatedRmsNormCuda, RefusesWhatItCannotTake) {
  const Tensors in = inputs({4, 10}, at::kFloat);
  const auto& k = kEmulated<cuda::Order::kForwards>;
  EXPECT_THROW(kernels::cuda_forward(k, in[0], in[1], in[2], 1, 1e-5, false, true), c10::Error);
  EXPECT_THROW(kernels::cuda_forward(k, in[0], in[1], in[2], 3, 1e-5, false, false), c10::Error);
}

}  // namespace
}  // namespace gated_rms_norm_cuda_test
}  // namespace hippodrome

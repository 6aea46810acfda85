#include "architectures/ssm/gated_rms_norm/gated_rms_norm.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>

#include "architectures/ssm/gated_rms_norm/reference.h"
#include "core/tensor/flop_meter.h"
#include "tests/architectures/ssm/gated_rms_norm_checks.h"

namespace hippodrome {
namespace gated_rms_norm_test {
namespace {

using namespace gated_rms_norm_checks;

TEST(GatedRmsNorm, IsLibTorchsComposite) {
  for (const bool norm_before_gate : {false, true}) {
    for (const int64_t groups : {1, 3}) {
      seed();
      const GatedRmsNormOptions options{groups, 1e-3, norm_before_gate};
      const Tensors in = inputs({2, 5, 21}), cotangents = random_like(composite(options)(in));
      const Evaluation expected = evaluate(composite(options), in, cotangents);
      for (const bool reference : {false, true}) {
        const Evaluation ours = evaluate(op(options, reference), in, cotangents);
        expect_close(ours.outputs, expected.outputs, 1e-14, "output");
        expect_close(ours.gradients, expected.gradients, 1e-13, "gradients");
      }
    }
  }
}

TEST(GatedRmsNorm, FusedMatchesReference) {
  for (const bool norm_before_gate : {false, true}) {
    for (const auto& [width, groups] : {std::pair{1, 1}, {7, 1}, {16, 2}, {33, 3}, {100, 1}, {1031, 1}, {1032, 2}}) {
      for (const int64_t rows : {1, 3, 47}) {
        seed();
        const GatedRmsNormOptions options{groups, 1e-5, norm_before_gate};
        const auto label = ::testing::PrintToString(std::make_tuple(rows, width, groups, norm_before_gate));
        expect_fused_matches(op(options), op(options, true), inputs({rows, width}), label,
                             {.outputs = 1e-12, .gradients = 1e-11});
      }
    }
  }
}

TEST(GatedRmsNorm, GradientsMatchFiniteDifferences) {
  for (const bool norm_before_gate : {false, true}) {
    for (const int64_t groups : {1, 2}) {
      seed();
      Tensors in = inputs({2, 3, 22});
      in[1] = in[1].div(30.0);
      for (const bool reference : {false, true}) {
        expect_gradients_match_differences(op({groups, 1e-2, norm_before_gate}, reference), in);
      }
    }
  }
}

// As Mamba-2 has them: z is a slice of its projection.
TEST(GatedRmsNorm, ReadsRowsWhereTheyAre) {
  seed();
  const at::Tensor wide = at::randn({3, 4, 50}, at::kDouble), weight = at::randn({12}, at::kDouble);
  const at::Tensor x = wide.slice(2, 20, 32), z = wide.slice(2, 3, 15);
  expect_same_bits({gated_rms_norm(x, z, weight)}, {gated_rms_norm(x.contiguous(), z.contiguous(), weight)}, "slices");
  const at::Tensor turned = gated_rms_norm(x.transpose(0, 1), z.transpose(0, 1), weight);
  expect_same_bits({turned.transpose(0, 1)}, {gated_rms_norm(x, z, weight)}, "transposed rows");
  const at::Tensor across = wide.transpose(1, 2).slice(1, 0, 12).transpose(1, 2).contiguous().slice(2, 0, 12);
  const at::Tensor apart = across.transpose(1, 2).contiguous().transpose(1, 2);
  expect_same_bits({gated_rms_norm(apart, z, weight)}, {gated_rms_norm(across, z, weight)}, "channels apart");
}

TEST(GatedRmsNorm, TakesSixteenBits) {
  for (const auto dtype : {at::kBFloat16, at::kHalf}) {
    for (const bool norm_before_gate : {false, true}) {
      seed();
      Tensors in = inputs({6, 4, 24}, dtype);
      in[2] = in[2].to(at::kFloat);  // a norm's weight is never rounded
      const Op ours = op({2, 1e-5, norm_before_gate});
      const Tensors cotangents = random_like(ours(in));
      const Evaluation rounded = evaluate(ours, in, cotangents);
      const Evaluation exact = evaluate(ours, cast(in, at::kDouble), cast(cotangents, at::kDouble));
      EXPECT_EQ(rounded.outputs[0].scalar_type(), dtype);
      expect_close(rounded.outputs, exact.outputs, 4e-3, "outputs");
      for (size_t i = 0; i < in.size(); ++i) EXPECT_EQ(rounded.gradients[i].scalar_type(), in[i].scalar_type());
      expect_close(rounded.gradients, exact.gradients, 4e-3, "gradients");
    }
  }
}

TEST(GatedRmsNorm, SameBitsWithAnyNumberOfThreads) {
  for (const bool norm_before_gate : {false, true}) {
    seed();
    const Op ours = op({2, 1e-5, norm_before_gate});
    const Tensors in = inputs({700, 130}, at::kFloat), cotangents = random_like(ours(in));
    Evaluation one, four;
    with_threads(1, [&] { one = evaluate(ours, in, cotangents); });
    with_threads(4, [&] { four = evaluate(ours, in, cotangents); });
    expect_same_bits(one.outputs, four.outputs, "outputs");
    expect_same_bits(one.gradients, four.gradients, "gradients");
  }
}

// A gate that is shut, and a row of zeros, as padding is behind a scan.
TEST(GatedRmsNorm, TakesTheLimits) {
  for (const bool norm_before_gate : {false, true}) {
    for (const bool reference : {false, true}) {
      seed();
      const Op ours = op({1, 1e-5, norm_before_gate}, reference);
      Tensors in = inputs({3, 19}, at::kFloat);
      in[0][0].zero_();
      in[1][1].fill_(-1e30);
      const Evaluation e = evaluate(ours, in, random_like(ours(in)));
      EXPECT_EQ(rms(e.outputs[0].slice(0, 0, 2)), 0.0);
      EXPECT_EQ(rms(e.gradients[1].slice(0, 0, 2)), 0.0);
      for (const at::Tensor& gradient : e.gradients) EXPECT_TRUE(gradient.isfinite().all().item<bool>());
    }
  }
}

TEST(GatedRmsNorm, TakesNoRowsAndNoChannels) {
  for (const bool reference : {false, true}) {
    for (const std::vector<int64_t>& sizes : {std::vector<int64_t>{0, 6}, {3, 0}, {6}}) {
      const Tensors in = inputs(sizes);
      const Evaluation e = evaluate(op({}, reference), in, random_like({in[0]}));
      EXPECT_EQ(e.outputs[0].sizes(), in[0].sizes());
      EXPECT_EQ(e.gradients[2].sizes(), in[2].sizes());
      if (in[0].numel() == 0) {
        EXPECT_EQ(rms(e.gradients[2]), 0.0);
      }
    }
  }
}

TEST(GatedRmsNorm, WithoutGradientsThereIsNoGraph) {
  Tensors in = inputs({4, 9});
  in[2].requires_grad_(true);
  const at::NoGradGuard no_grad;
  EXPECT_FALSE(gated_rms_norm(in[0], in[1], in[2]).requires_grad());
}

TEST(GatedRmsNorm, WrongArgumentsAreNamed) {
  const Tensors in = inputs({4, 10});
  EXPECT_THROW(gated_rms_norm(in[0], in[1].slice(1, 1), in[2]), c10::Error);
  EXPECT_THROW(gated_rms_norm(in[0], in[1].slice(0, 1), in[2]), c10::Error);
  EXPECT_THROW(gated_rms_norm(in[0], in[1], in[2].slice(0, 1)), c10::Error);
  EXPECT_THROW(gated_rms_norm(in[0], in[1].to(at::kFloat), in[2]), c10::Error);
  EXPECT_THROW(gated_rms_norm(in[0].to(at::kLong), in[1].to(at::kLong), in[2]), c10::Error);
  EXPECT_THROW(gated_rms_norm(in[0], in[1], in[2], {.groups = 3}), c10::Error);
  EXPECT_THROW(gated_rms_norm(in[0], in[1], in[2], {.groups = 0}), c10::Error);
}

TEST(GatedRmsNorm, CountsTenPerChannelAndFourPerGroup) {
  for (const bool norm_before_gate : {false, true}) {
    const int64_t rows = 3, width = 10, groups = 2;
    std::vector<CountingScalar> x(rows * width, 1.0), z(x), y(x), weight(width, 1.0), scale(rows * groups, 0.0);
    const gated_rms_norm_op::Forward<CountingScalar> p{{rows, width, groups, 1e-5, norm_before_gate},
                                                       {x.data(), width},
                                                       {z.data(), width},
                                                       weight.data(),
                                                       y.data(),
                                                       scale.data()};
    const FlopMeter meter;
    gated_rms_norm_op::forward_reference(p);
    EXPECT_EQ(meter.flops(), rows * (10 * width + 4 * groups));
  }
}

}  // namespace
}  // namespace gated_rms_norm_test
}  // namespace hippodrome

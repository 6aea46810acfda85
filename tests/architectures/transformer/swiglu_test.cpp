#include "architectures/transformer/swiglu/swiglu.h"

#include <ATen/ops/silu.h>

#include "tests/architectures/recurrent/scan_checks.h"

namespace hippodrome {
namespace swiglu_test {
namespace {

using namespace scan_checks;

Op op(bool reference) {
  return [=](const Tensors& in) -> Tensors { return {swiglu(in[0], reference)}; };
}

TEST(Swiglu, IsTheGateTimesTheValue) {
  seed();
  const at::Tensor h = at::randn({3, 5, 14}, at::kDouble).mul(4.0);
  const auto halves = h.chunk(2, -1);
  for (const bool reference : {false, true}) {
    expect_close({swiglu(h, reference)}, {at::silu(halves[0]).mul(halves[1])}, 1e-14, "formula");
  }
}

TEST(Swiglu, FusedMatchesReference) {
  for (const int64_t width : {1, 7, 16, 33, 100}) {
    seed();
    // Gates far out on both sides, where a plain exponential overflows.
    const Tensors in{at::randn({4, 9, 2 * width}, at::kDouble).mul(40.0)};
    expect_fused_matches(op(false), op(true), in, "width " + std::to_string(width), {.gradients = 1e-13});
  }
}

TEST(Swiglu, GradientsMatchFiniteDifferences) {
  seed();
  expect_gradients_match_differences(op(false), {at::randn({2, 3, 22}, at::kDouble)});
}

TEST(Swiglu, TakesBfloat16StridesAndNoRows) {
  seed();
  const at::Tensor h = at::randn({6, 4, 12}, at::kDouble);
  expect_close({swiglu(h.transpose(0, 1))}, {swiglu(h).transpose(0, 1)}, 1e-15, "strided");
  EXPECT_EQ(swiglu(h.to(at::kBFloat16)).scalar_type(), at::kBFloat16);
  expect_close({swiglu(h.to(at::kBFloat16))}, {swiglu(h.to(at::kBFloat16).to(at::kDouble))}, 5e-3, "bfloat16");
  EXPECT_EQ(swiglu(h.slice(0, 0, 0)).sizes(), at::IntArrayRef({0, 4, 6}));
  EXPECT_THROW(swiglu(h.slice(2, 0, 11)), c10::Error);
}

}  // namespace
}  // namespace swiglu_test
}  // namespace hippodrome

#include "architectures/recurrent/gru_scan/cuda_kernels.h"

#include "architectures/recurrent/gru_scan/cuda_binding.h"
#include "architectures/recurrent/gru_scan/gru_scan.h"
#include "tests/architectures/recurrent/step_checks.h"

namespace hippodrome {
namespace gru_scan_cuda_test {
namespace {

using namespace scan_checks;

// Inputs are gates, weight_hh, bias_hn and, with a state, h0.
Op cpu(bool reference, at::Tensor positions) {
  return [=](const Tensors& in) -> Tensors {
    auto [y, h] = gru_scan(in[0], in[1], in[2], in.size() > 3 ? in[3] : at::Tensor(), positions, reference);
    return {y, h};
  };
}

Evaluation emulated(const Tensors& in, const Tensors& cotangents, const at::Tensor& positions, cuda::Order order) {
  const auto kernels = emulated_steps<gru_scan_cuda::Cell>(order);
  const bool state = in.size() > 3;
  const at::Tensor h0 = state ? in[3] : at::Tensor();
  auto [y, h, activated, states] = gru_scan_op::forward_cuda(in[0], in[1], in[2], h0, positions, true, kernels);
  auto [y2, h2, none, nothing] = gru_scan_op::forward_cuda(in[0], in[1], in[2], h0, positions, false, kernels);
  expect_same_bits({y2, h2}, {y, h}, "nothing kept");
  EXPECT_EQ(none.numel() + nothing.numel(), 0);
  auto [gates, weight, bias, grad_h0] =
      gru_scan_op::backward_cuda(cotangents[0], cotangents[1], in[1], activated, states, h0, positions, kernels);
  Evaluation result{{y, h}, {gates, weight, bias}};
  if (state) result.gradients.push_back(grad_h0);
  return result;
}

Tensors inputs(int64_t batch, int64_t length, int64_t hidden, bool state, at::ScalarType dtype) {
  seed();
  Tensors in{at::randn({batch, length, 3 * hidden}, at::kDouble),
             at::randn({3 * hidden, hidden}, at::kDouble).div(std::sqrt(static_cast<double>(hidden))),
             at::randn({hidden}, at::kDouble)};
  if (state) in.push_back(at::randn({batch, hidden}, at::kDouble));
  return cast(in, dtype);
}

TEST(GruScanCuda, StepsMatchTheCpu) { expect_steps_match(emulated, cpu, inputs); }
TEST(GruScanCuda, TwoByteTypes) { expect_steps_take_halves(emulated, cpu, inputs); }
TEST(GruScanCuda, AnyLayout) { expect_steps_take_any_layout(emulated, cpu, inputs); }
TEST(GruScanCuda, PaddingIsNotRead) { expect_steps_ignore_padding(emulated, cpu, inputs); }

TEST(GruScanCuda, ErrorsAreRaised) {
  const Tensors in = inputs(2, 3, 4, false, at::kFloat);
  auto order = cuda::Order::kForwards;
  const auto kernels = emulated_steps<gru_scan_cuda::Cell>(order);
  const gru_scan_op::StepKernels failing{[](const GruScanStep&, void*) { return "no such device"; }, nullptr, nullptr};
  EXPECT_THROW(gru_scan_op::forward_cuda(in[0], in[1], in[2], {}, {}, false, failing), c10::Error);
  EXPECT_THROW(gru_scan_op::forward_cuda(in[0], in[1], in[2].slice(0, 0, 3), {}, {}, false, kernels), c10::Error);
  EXPECT_THROW(gru_scan_op::forward_cuda(in[0], in[1].to(at::kMeta), in[2], {}, {}, false, kernels), c10::Error);
}

}  // namespace
}  // namespace gru_scan_cuda_test
}  // namespace hippodrome

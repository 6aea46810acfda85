#include "architectures/recurrent/lstm_scan/cuda_kernels.h"

#include "architectures/recurrent/lstm_scan/cuda_binding.h"
#include "architectures/recurrent/lstm_scan/lstm_scan.h"
#include "tests/architectures/recurrent/step_checks.h"

namespace hippodrome {
namespace lstm_scan_cuda_test {
namespace {

using namespace scan_checks;

// Inputs are gates, weight_hh and, with a state, h0 and c0.
Op cpu(bool reference, at::Tensor positions) {
  return [=](const Tensors& in) -> Tensors {
    const bool state = in.size() > 2;
    auto [y, h, c] =
        lstm_scan(in[0], in[1], state ? in[2] : at::Tensor(), state ? in[3] : at::Tensor(), positions, reference);
    return {y, h, c};
  };
}

Evaluation emulated(const Tensors& in, const Tensors& cotangents, const at::Tensor& positions, cuda::Order order) {
  const auto kernels = emulated_steps<lstm_scan_cuda::Cell>(order);
  const bool state = in.size() > 2;
  const at::Tensor h0 = state ? in[2] : at::Tensor(), c0 = state ? in[3] : at::Tensor();
  auto [y, h, c, activated, cells] = lstm_scan_op::forward_cuda(in[0], in[1], h0, c0, positions, true, kernels);
  auto [y2, h2, c2, none, nothing] = lstm_scan_op::forward_cuda(in[0], in[1], h0, c0, positions, false, kernels);
  expect_same_bits({y2, h2, c2}, {y, h, c}, "nothing kept");
  EXPECT_EQ(none.numel() + nothing.numel(), 0);
  auto [gates, weight, grad_h0, grad_c0] = lstm_scan_op::backward_cuda(
      cotangents[0], cotangents[1], cotangents[2], in[1], activated, cells, h0, c0, positions, kernels);
  Evaluation result{{y, h, c}, {gates, weight}};
  if (state) result.gradients.insert(result.gradients.end(), {grad_h0, grad_c0});
  return result;
}

Tensors inputs(int64_t batch, int64_t length, int64_t hidden, bool state, at::ScalarType dtype) {
  seed();
  Tensors in{at::randn({batch, length, 4 * hidden}, at::kDouble),
             at::randn({4 * hidden, hidden}, at::kDouble).div(std::sqrt(static_cast<double>(hidden)))};
  if (state) {
    in.push_back(at::randn({batch, hidden}, at::kDouble));
    in.push_back(at::randn({batch, hidden}, at::kDouble));
  }
  return cast(in, dtype);
}

TEST(LstmScanCuda, StepsMatchTheCpu) { expect_steps_match(emulated, cpu, inputs); }
TEST(LstmScanCuda, TwoByteTypes) { expect_steps_take_halves(emulated, cpu, inputs); }
TEST(LstmScanCuda, AnyLayout) { expect_steps_take_any_layout(emulated, cpu, inputs); }
TEST(LstmScanCuda, PaddingIsNotRead) { expect_steps_ignore_padding(emulated, cpu, inputs); }

TEST(LstmScanCuda, ErrorsAreRaised) {
  const Tensors in = inputs(2, 3, 4, false, at::kFloat);
  auto order = cuda::Order::kForwards;
  const auto kernels = emulated_steps<lstm_scan_cuda::Cell>(order);
  const lstm_scan_op::StepKernels failing{[](const LstmScanStep&, void*) { return "no such device"; }, nullptr,
                                          nullptr};
  EXPECT_THROW(lstm_scan_op::forward_cuda(in[0], in[1], {}, {}, {}, false, failing), c10::Error);
  EXPECT_THROW(lstm_scan_op::forward_cuda(in[0], in[1].slice(0, 0, 3), {}, {}, {}, false, kernels), c10::Error);
  EXPECT_THROW(lstm_scan_op::forward_cuda(in[0], in[1].to(at::kMeta), {}, {}, {}, false, kernels), c10::Error);
}

// Both scans'.
TEST(LstmScanCuda, LargeSizes) {
  LstmScanStep p{};
  p.batch = int64_t{1} << 24, p.hidden = 4096;
  EXPECT_EQ((recurrent::StepKernel<recurrent::Forward<lstm_scan_cuda::Cell, float>, LstmScanStep>::blocks(p)),
            int64_t{1} << 29);
  // BLAS takes distances of 32 bits only.
  const auto meta = at::TensorOptions().device(at::kMeta).dtype(at::kFloat);
  const at::Tensor near = at::empty({2, 1 << 10, 4096}, meta), far = at::empty({2, 1 << 20, 4096}, meta);
  EXPECT_EQ(recurrent::rows_of_step(near, 5).stride(0), int64_t{1} << 22);
  EXPECT_EQ(recurrent::rows_of_step(far, 5).stride(0), 4096);
  EXPECT_EQ(recurrent::rows_of_step(far, 5).sizes(), at::IntArrayRef({2, 4096}));
}

}  // namespace
}  // namespace lstm_scan_cuda_test
}  // namespace hippodrome

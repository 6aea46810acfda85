// hippodrome::diagonal_scan: schemas, and what is its own in the binding of its kernels for the CPU.
#include "architectures/ssm/diagonal_scan/op.h"

#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include "architectures/ssm/diagonal_scan/binding.h"
#include "architectures/ssm/diagonal_scan/diagonal_scan.h"
#include "architectures/ssm/diagonal_scan/reference.h"
#include "architectures/ssm/mode_scan_schema.h"
#include "architectures/ssm/scan_operator.h"

namespace hippodrome::diagonal_scan_op {
namespace {

struct DiagonalScan {
  static constexpr const char* kName = diagonal_scan_op::kName;
  static constexpr size_t kParameters = diagonal_scan_op::kParameters;
  static constexpr int64_t kChunk = kDiagonalScanChunk, kGroup = kDiagonalScanGroup;
  template <class T>
  using Forward = DiagonalScanForward<T>;
  template <class T>
  using Backward = DiagonalScanBackward<T>;

  static constexpr auto check_parameters = diagonal_scan_op::check_parameters;
  template <template <class> class P, class T>
  static void set_parameters(P<T>& p, const std::array<Tensor, kParameters>& parameters) {
    for (size_t i = 0; i < kParameters; ++i) p.parameters[i] = parameters[i].template const_data_ptr<T>();
  }
  template <class T>
  static void set_gradients(Backward<T>& p, const std::array<Tensor, kParameters>& gradients) {
    for (size_t i = 0; i < kParameters; ++i) p.grad_parameters[i] = gradients[i].template mutable_data_ptr<T>();
  }

  static constexpr auto forward_work = [](const auto& /*p*/) -> int64_t { return 8; };
  static constexpr auto backward_work = [](const auto& /*p*/) -> int64_t { return 22; };
  static constexpr auto forward = [](const auto& p, int64_t begin, int64_t end) {
    diagonal_scan_forward(p, begin, end);
  };
  static constexpr auto step = [](const auto& p, int64_t begin, int64_t end) { diagonal_scan_step(p, begin, end); };
  static constexpr auto backward = [](const auto& p, int64_t begin, int64_t end) {
    diagonal_scan_backward(p, begin, end);
  };
  static constexpr auto forward_reference = [](const auto& p) { diagonal_scan_forward_reference(p); };
  static constexpr auto backward_reference = [](const auto& p) { diagonal_scan_backward_reference(p); };
};
using Operator = ScanOperator<mode_scan::OnCpu<DiagonalScan>>;

TORCH_LIBRARY_FRAGMENT(hippodrome, m) {
  // Checkpoints [B, chunks, groups, N, 2, 16] hold the state before each chunk; none on a GPU.
  mode_scan::define(m, kName,
                    "Tensor a_real, Tensor a_imag, Tensor b_real, Tensor b_imag, Tensor c_real, Tensor c_imag");
}
TORCH_LIBRARY_IMPL(hippodrome, CPU, m) { Operator::implement_on_cpu(m); }
TORCH_LIBRARY_IMPL(hippodrome, Meta, m) { Operator::implement_on_meta(m); }
TORCH_LIBRARY_IMPL(hippodrome, Autograd, m) { Operator::implement_autograd(m); }

}  // namespace
}  // namespace hippodrome::diagonal_scan_op

namespace hippodrome {

std::tuple<at::Tensor, at::Tensor> diagonal_scan(const at::Tensor& u, const at::Tensor& a_real,
                                                 const at::Tensor& a_imag, const at::Tensor& b_real,
                                                 const at::Tensor& b_imag, const at::Tensor& c_real,
                                                 const at::Tensor& c_imag, const std::optional<at::Tensor>& state,
                                                 const std::optional<at::Tensor>& positions, bool reference) {
  return diagonal_scan_op::Operator::call_scan(reference, u, a_real, a_imag, b_real, b_imag, c_real, c_imag, state,
                                               positions);
}

}  // namespace hippodrome

// hippodrome::dplr_scan: schemas, and what is its own in the binding of its kernels for the CPU.
#include "architectures/ssm/dplr_scan/op.h"

#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include "architectures/ssm/dplr_scan/binding.h"
#include "architectures/ssm/dplr_scan/dplr_scan.h"
#include "architectures/ssm/dplr_scan/reference.h"
#include "architectures/ssm/mode_scan_schema.h"
#include "architectures/ssm/scan_operator.h"

namespace hippodrome::dplr_scan_op {
namespace {

struct DplrScan {
  static constexpr const char* kName = dplr_scan_op::kName;
  static constexpr size_t kParameters = dplr_scan_op::kParameters;
  static constexpr int64_t kChunk = kDplrScanChunk, kGroup = kDplrScanGroup;
  template <class T>
  using Forward = DplrScanForward<T>;
  template <class T>
  using Backward = DplrScanBackward<T>;

  static constexpr auto check_parameters = dplr_scan_op::check_parameters;
  template <template <class> class P, class T>
  static void set_parameters(P<T>& p, const std::array<Tensor, kParameters>& parameters) {
    p.rank = parameters[3].size(1);
    const T** const to[] = {&p.a, &p.b, &p.c, &p.q, &p.w};
    for (size_t i = 0; i < kParameters; ++i) *to[i] = parameters[i].template const_data_ptr<T>();
  }
  template <class T>
  static void set_gradients(Backward<T>& p, const std::array<Tensor, kParameters>& gradients) {
    T** const to[] = {&p.grad_a, &p.grad_b, &p.grad_c, &p.grad_q, &p.grad_w};
    for (size_t i = 0; i < kParameters; ++i) *to[i] = gradients[i].template mutable_data_ptr<T>();
  }

  static constexpr auto forward_work = [](const auto& p) -> int64_t { return 7 + 4 * p.rank; };
  static constexpr auto backward_work = [](const auto& p) -> int64_t { return 20 + 12 * p.rank; };
  static constexpr auto forward = [](const auto& p, int64_t begin, int64_t end) { dplr_scan_forward(p, begin, end); };
  static constexpr auto step = [](const auto& p, int64_t begin, int64_t end) { dplr_scan_step(p, begin, end); };
  static constexpr auto backward = [](const auto& p, int64_t begin, int64_t end) { dplr_scan_backward(p, begin, end); };
  static constexpr auto forward_reference = [](const auto& p) { dplr_scan_forward_reference(p); };
  static constexpr auto backward_reference = [](const auto& p) { dplr_scan_backward_reference(p); };
};
using Operator = ScanOperator<mode_scan::OnCpu<DplrScan>>;

TORCH_LIBRARY_FRAGMENT(hippodrome, m) {
  // Checkpoints [B, chunks, groups, N, 2, 16] hold the state before each chunk; on a GPU [B, L, R, D], what each
  // token's update reads out of the state before it.
  mode_scan::define(m, kName, "Tensor a, Tensor b, Tensor c, Tensor q, Tensor w");
}
TORCH_LIBRARY_IMPL(hippodrome, CPU, m) { Operator::implement_on_cpu(m); }
TORCH_LIBRARY_IMPL(hippodrome, Meta, m) { Operator::implement_on_meta(m); }
TORCH_LIBRARY_IMPL(hippodrome, Autograd, m) { Operator::implement_autograd(m); }

}  // namespace
}  // namespace hippodrome::dplr_scan_op

namespace hippodrome {

std::tuple<at::Tensor, at::Tensor> dplr_scan(const at::Tensor& u, const at::Tensor& a, const at::Tensor& b,
                                             const at::Tensor& c, const at::Tensor& q, const at::Tensor& w,
                                             const std::optional<at::Tensor>& state,
                                             const std::optional<at::Tensor>& positions, bool reference) {
  return dplr_scan_op::Operator::call_scan(reference, u, a, b, c, q, w, state, positions);
}

}  // namespace hippodrome

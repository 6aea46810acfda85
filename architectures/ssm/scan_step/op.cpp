// hippodrome::scan_step: schema, checks, meta and the CPU binding. For inference: there are no gradients.
#include "architectures/ssm/scan_step/op.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <limits>
#include <optional>

#include "architectures/ssm/scan_step/binding.h"
#include "architectures/ssm/scan_step/reference.h"
#include "architectures/ssm/scan_step/scan_step.h"

namespace hippodrome {
namespace scan_step {
namespace {

template <class S>
Tensor step_as(const Arguments& a) {
  const Bound<S, S> bound(a, c10::CppTypeToScalarType<S>::value);
  scan_step_reference(bound.params);
  return bound.y.to(a.x.scalar_type());
}

Tensor step_cpu(SCAN_STEP_PARAMETERS) {
  const Arguments a{SCAN_STEP_ARGUMENTS};
  check(a);
  return compute_dtype(x) == at::kDouble ? step_as<double>(a) : step_as<float>(a);
}

Tensor step_meta(SCAN_STEP_PARAMETERS) {
  check({SCAN_STEP_ARGUMENTS});
  return at::empty_symint(x.sym_sizes(), x.options());
}

Tensor call(SCAN_STEP_PARAMETERS) {
  static const auto op = find_op<decltype(step_cpu)>("hippodrome::scan_step");
  return op.call(SCAN_STEP_ARGUMENTS);
}

TORCH_LIBRARY_FRAGMENT(hippodrome, m) {
  m.def(
      "scan_step(Tensor x, Tensor dt, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? dt_bias, "
      "bool dt_softplus, float dt_low, float? dt_high, Tensor(a!) state, Tensor? positions) -> Tensor y");
}

TORCH_LIBRARY_IMPL(hippodrome, CPU, m) { m.impl("scan_step", TORCH_FN(step_cpu)); }
TORCH_LIBRARY_IMPL(hippodrome, Meta, m) { m.impl("scan_step", TORCH_FN(step_meta)); }

}  // namespace
}  // namespace scan_step

bool steps_on_gpu(const SelectiveScanArguments& a) {
  return a.u.is_cuda() && a.u.size(2) == 1 && !a.complex && !a.zero_order_hold;
}
bool steps_on_gpu(const SsdArguments& a) { return a.x.is_cuda() && a.x.size(1) == 1; }

at::Tensor selective_scan_step(const SelectiveScanArguments& a, const at::Tensor& state) {
  TORCH_CHECK(a.u.dim() == 3 && a.u.size(2) == 1 && !a.complex && !a.zero_order_hold,
              "selective_scan_step: takes one token, real numbers and Euler's rule");
  // The token's [B, N, 1] or [B, G, N, 1].
  const auto grouped = [](const Tensor& t) { return t.dim() == 4 ? t.select(3, 0) : t.select(2, 0).unsqueeze(1); };
  return scan_step::call(a.u, a.delta.select(2, 0), a.A, grouped(a.B), grouped(a.C), a.D, a.z, a.delta_bias,
                         a.delta_softplus, -std::numeric_limits<double>::infinity(), std::nullopt, state.unsqueeze(2),
                         a.positions);
}

at::Tensor ssd_step(const SsdArguments& a, const at::Tensor& state) {
  TORCH_CHECK(a.x.dim() == 4 && a.x.size(1) == 1, "ssd_step: takes one token");
  const auto token = [](const OptionalTensor& t) { return t ? OptionalTensor(t->select(1, 0)) : t; };
  return scan_step::call(*token(a.x), *token(a.dt), a.A.unsqueeze(1), *token(a.B), *token(a.C), a.D, token(a.z),
                         a.dt_bias, a.dt_softplus, a.dt_low, a.dt_high, state, a.positions)
      .unsqueeze(1);
}

}  // namespace hippodrome

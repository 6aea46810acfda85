// Registers gated_rms_norm with LibTorch: schemas, CPU and meta kernels, autograd.
#include "architectures/ssm/gated_rms_norm/op.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <cstdint>
#include <tuple>

#include "architectures/ssm/gated_rms_norm/binding.h"
#include "architectures/ssm/gated_rms_norm/gated_rms_norm.h"
#include "architectures/ssm/gated_rms_norm/reference.h"
#include "core/tensor/flop_meter.h"
#include "core/tensor/op_binding.h"

namespace hippodrome {
namespace gated_rms_norm_op {
namespace {

using Outputs = std::tuple<Tensor, Tensor>;            // y, scale
using Gradients = std::tuple<Tensor, Tensor, Tensor>;  // of x, z, weight
using ForwardOp = Outputs(const Tensor&, const Tensor&, const Tensor&, int64_t, double, bool, bool);
using BackwardOp = Gradients(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, int64_t, bool,
                             bool);

const auto& forward_op() {
  static const auto op = find_op<ForwardOp>("hippodrome::_gated_rms_norm_forward");
  return op;
}
const auto& backward_op() {
  static const auto op = find_op<BackwardOp>("hippodrome::_gated_rms_norm_backward");
  return op;
}

// Work of a row in multiply-adds: the gate's exponential and quotient are most of it.
constexpr int64_t kWorkPerChannel = 8;

// ---- CPU and meta kernels ----

template <class T>
Rows<T> rows_of(const Tensor& t) {
  return {t.const_data_ptr<T>(), t.stride(0)};
}

template <class T>
void run_forward(Forward<T> p, const Tensor& x, const Tensor& z, const Tensor& weight, Tensor& y, Tensor& scale,
                 bool reference) {
  p.x = rows_of<T>(x), p.z = rows_of<T>(z), p.weight = weight.const_data_ptr<T>();
  p.y = y.mutable_data_ptr<T>(), p.scale = scale.mutable_data_ptr<T>();
  if (reference) {
    run_counted(p, [](const auto& params) { forward_reference(params); });
  } else {
    at::parallel_for(0, p.sizes.rows, grain(kWorkPerChannel * p.sizes.width),
                     [&](int64_t begin, int64_t end) { forward_rows(p, begin, end); });
  }
}

Outputs forward_cpu(const Tensor& x_in, const Tensor& z_in, const Tensor& weight_in, int64_t groups, double epsilon,
                    bool norm_before_gate, bool reference) {
  check(x_in, z_in, weight_in, groups);
  const Sizes sizes = sizes_of(x_in, groups, epsilon, norm_before_gate);
  const auto dtype = compute_dtype(x_in);
  const Tensor x = as_rows(x_in, dtype, sizes), z = as_rows(z_in, dtype, sizes),
               weight = in_compute_dtype(weight_in, dtype);
  Tensor y = at::empty(x_in.sizes(), x.options()), scale = at::empty({sizes.rows, groups}, x.options());
  if (dtype == at::kDouble) {
    run_forward<double>({.sizes = sizes}, x, z, weight, y, scale, reference);
  } else {
    run_forward<float>({.sizes = sizes}, x, z, weight, y, scale, reference);
  }
  return {y.to(x_in.scalar_type()), scale};
}

c10::SymInt rows_of_meta(const Tensor& x) {
  c10::SymInt rows = 1;
  for (int64_t axis = 0; axis + 1 < x.dim(); ++axis) rows = rows * x.sym_size(axis);
  return rows;
}

Outputs forward_meta(const Tensor& x, const Tensor& z, const Tensor& weight, int64_t groups, double, bool, bool) {
  check(x, z, weight, groups);
  return {at::empty_symint(x.sym_sizes(), x.options()),
          at::empty_symint({rows_of_meta(x), c10::SymInt(groups)}, x.options().dtype(compute_dtype(x)))};
}

template <class T>
void run_backward(Backward<T> p, const Tensor& grad_y, const Tensor& x, const Tensor& z, const Tensor& weight,
                  const Tensor& scale, Tensor& grad_x, Tensor& grad_z, Tensor& grad_weight_parts, bool reference) {
  p.grad_y = rows_of<T>(grad_y), p.x = rows_of<T>(x), p.z = rows_of<T>(z);
  p.weight = weight.const_data_ptr<T>(), p.scale = scale.const_data_ptr<T>();
  p.grad_x = grad_x.mutable_data_ptr<T>(), p.grad_z = grad_z.mutable_data_ptr<T>();
  p.grad_weight_parts = grad_weight_parts.mutable_data_ptr<T>();
  if (reference) {
    backward_reference(p);
  } else {
    const int64_t count = parts(p.sizes.rows), work = 2 * kWorkPerChannel * p.sizes.rows * p.sizes.width / count;
    at::parallel_for(0, count, grain(work), [&](int64_t begin, int64_t end) { backward_parts(p, begin, end); });
  }
}

Gradients backward_cpu(const Tensor& grad_y_in, const Tensor& x_in, const Tensor& z_in, const Tensor& weight_in,
                       const Tensor& scale_in, int64_t groups, bool norm_before_gate, bool reference) {
  check(x_in, z_in, weight_in, groups);
  const Sizes sizes = sizes_of(x_in, groups, 0.0, norm_before_gate);
  const auto dtype = compute_dtype(x_in);
  const Tensor grad_y = as_rows(grad_y_in, dtype, sizes), x = as_rows(x_in, dtype, sizes);
  const Tensor z = as_rows(z_in, dtype, sizes), weight = in_compute_dtype(weight_in, dtype);
  const Tensor scale = in_compute_dtype(scale_in, dtype);
  Tensor grad_x = at::empty(x_in.sizes(), x.options()), grad_z = at::empty(x_in.sizes(), x.options());
  Tensor grad_weight = at::empty({parts(sizes.rows), sizes.width}, x.options());
  if (dtype == at::kDouble) {
    run_backward<double>({.sizes = sizes}, grad_y, x, z, weight, scale, grad_x, grad_z, grad_weight, reference);
  } else {
    run_backward<float>({.sizes = sizes}, grad_y, x, z, weight, scale, grad_x, grad_z, grad_weight, reference);
  }
  const auto out = x_in.scalar_type();
  return {grad_x.to(out), grad_z.to(out), grad_weight.sum(0).to(weight_in.scalar_type())};
}

Gradients backward_meta(const Tensor&, const Tensor& x, const Tensor& z, const Tensor& weight, const Tensor&,
                        int64_t groups, bool, bool) {
  check(x, z, weight, groups);
  return {at::empty_symint(x.sym_sizes(), x.options()), at::empty_symint(z.sym_sizes(), z.options()),
          at::empty_symint(weight.sym_sizes(), weight.options())};
}

// ---- autograd ----

class BackwardOnce : public torch::autograd::Function<BackwardOnce> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext*, const Tensor& grad_y,
                                                const Tensor& x, const Tensor& z, const Tensor& weight,
                                                const Tensor& scale, int64_t groups, bool norm_before_gate,
                                                bool reference) {
    at::AutoDispatchBelowADInplaceOrView below;
    auto [gx, gz, gw] = backward_op().call(grad_y, x, z, weight, scale, groups, norm_before_gate, reference);
    return {gx, gz, gw};
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*, torch::autograd::variable_list) {
    TORCH_CHECK(false, "gated_rms_norm: gradients of gradients are not implemented");
  }
};

Gradients backward_autograd(const Tensor& grad_y, const Tensor& x, const Tensor& z, const Tensor& weight,
                            const Tensor& scale, int64_t groups, bool norm_before_gate, bool reference) {
  if (wants_gradient(grad_y, x, z, weight, scale)) {
    const auto g = BackwardOnce::apply(grad_y, x, z, weight, scale, groups, norm_before_gate, reference);
    return {g[0], g[1], g[2]};
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return backward_op().call(grad_y, x, z, weight, scale, groups, norm_before_gate, reference);
}

class ForwardWithBackward : public torch::autograd::Function<ForwardWithBackward> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context, const Tensor& x,
                                                const Tensor& z, const Tensor& weight, int64_t groups, double epsilon,
                                                bool norm_before_gate, bool reference) {
    at::AutoDispatchBelowADInplaceOrView below;
    auto [y, scale] = forward_op().call(x, z, weight, groups, epsilon, norm_before_gate, reference);
    context->save_for_backward({x, z, weight, scale});
    context->saved_data["groups"] = groups;
    context->saved_data["norm_before_gate"] = norm_before_gate;
    context->saved_data["reference"] = reference;
    context->mark_non_differentiable({scale});
    context->set_materialize_grads(false);
    return {y, scale};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    if (!gradients[0].defined()) return torch::autograd::variable_list(7);
    const auto saved = context->get_saved_variables();
    auto [gx, gz, gw] =
        backward_op().call(gradients[0], saved[0], saved[1], saved[2], saved[3], context->saved_data["groups"].toInt(),
                           context->saved_data["norm_before_gate"].toBool(), context->saved_data["reference"].toBool());
    return {gx, gz, gw, Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

Outputs forward_autograd(const Tensor& x, const Tensor& z, const Tensor& weight, int64_t groups, double epsilon,
                         bool norm_before_gate, bool reference) {
  if (wants_gradient(x, z, weight)) {
    const auto out = ForwardWithBackward::apply(x, z, weight, groups, epsilon, norm_before_gate, reference);
    return {out[0], out[1]};
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return forward_op().call(x, z, weight, groups, epsilon, norm_before_gate, reference);
}

// ---- the operator ----

// Both public ops are the differentiable `_forward`, without what it keeps for backward.
template <bool kReference>
Tensor composite(const Tensor& x, const Tensor& z, const Tensor& weight, int64_t groups, double epsilon,
                 bool norm_before_gate) {
  return std::get<0>(forward_op().call(x, z, weight, groups, epsilon, norm_before_gate, kReference));
}

#define GATED_RMS_NORM_SCHEMA \
  "(Tensor x, Tensor z, Tensor weight, int groups=1, float epsilon=1e-05, bool norm_before_gate=False) -> Tensor y"

TORCH_LIBRARY_FRAGMENT(hippodrome, m) {
  m.def("gated_rms_norm" GATED_RMS_NORM_SCHEMA);
  m.def("gated_rms_norm_reference" GATED_RMS_NORM_SCHEMA);
  m.def(
      "_gated_rms_norm_forward(Tensor x, Tensor z, Tensor weight, int groups, float epsilon, bool norm_before_gate, "
      "bool reference) -> (Tensor y, Tensor scale)");
  m.def(
      "_gated_rms_norm_backward(Tensor grad_y, Tensor x, Tensor z, Tensor weight, Tensor scale, int groups, "
      "bool norm_before_gate, bool reference) -> (Tensor grad_x, Tensor grad_z, Tensor grad_weight)");
}

TORCH_LIBRARY_IMPL(hippodrome, CPU, m) {
  m.impl("_gated_rms_norm_forward", TORCH_FN(forward_cpu));
  m.impl("_gated_rms_norm_backward", TORCH_FN(backward_cpu));
}

TORCH_LIBRARY_IMPL(hippodrome, Meta, m) {
  m.impl("_gated_rms_norm_forward", TORCH_FN(forward_meta));
  m.impl("_gated_rms_norm_backward", TORCH_FN(backward_meta));
}

TORCH_LIBRARY_IMPL(hippodrome, Autograd, m) {
  m.impl("_gated_rms_norm_forward", TORCH_FN(forward_autograd));
  m.impl("_gated_rms_norm_backward", TORCH_FN(backward_autograd));
}

TORCH_LIBRARY_IMPL(hippodrome, CompositeImplicitAutograd, m) {
  m.impl("gated_rms_norm", TORCH_FN(composite<false>));
  m.impl("gated_rms_norm_reference", TORCH_FN(composite<true>));
}

}  // namespace
}  // namespace gated_rms_norm_op

// The composites' body, one dispatch shorter: this is the decoding path.
at::Tensor gated_rms_norm(const at::Tensor& x, const at::Tensor& z, const at::Tensor& weight,
                          const GatedRmsNormOptions& o) {
  return gated_rms_norm_op::composite<false>(x, z, weight, o.groups, o.epsilon, o.norm_before_gate);
}

at::Tensor gated_rms_norm_reference(const at::Tensor& x, const at::Tensor& z, const at::Tensor& weight,
                                    const GatedRmsNormOptions& o) {
  return gated_rms_norm_op::composite<true>(x, z, weight, o.groups, o.epsilon, o.norm_before_gate);
}

}  // namespace hippodrome

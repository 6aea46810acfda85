// hippodrome::dplr_scan: schema, checks, autograd, meta and the CPU binding.
#include "architectures/ssm/dplr_scan/op.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "architectures/ssm/dplr_scan/binding.h"
#include "architectures/ssm/dplr_scan/dplr_scan.h"
#include "architectures/ssm/dplr_scan/reference.h"
#include "core/tensor/flop_meter.h"
#include "core/tensor/op_binding.h"

namespace hippodrome {
namespace dplr_scan_op {
namespace {

// The sizes and parameters that forward and backward have in common.
template <class T, class P>
void set_problem(P& p, const Tensor& u, const Parameters& parameters, const Tensor& state, const Tensor& positions) {
  p.batch = u.size(0);
  p.channels = u.size(2);
  p.length = u.size(1);
  p.states = parameters[0].size(1);
  p.rank = parameters[3].size(1);
  p.u = u.const_data_ptr<T>();
  p.a = parameters[0].const_data_ptr<T>();
  p.b = parameters[1].const_data_ptr<T>();
  p.c = parameters[2].const_data_ptr<T>();
  p.q = parameters[3].const_data_ptr<T>();
  p.w = parameters[4].const_data_ptr<T>();
  p.state = data_or_null<T>(state);
  p.positions = data_or_null<int64_t>(positions);
}

template <class T>
Saved run_forward(const Tensor& u_in, const Parameters& parameters_in, const OptionalTensor& state_in,
                  const OptionalTensor& positions_in, bool save, bool reference) {
  const auto dtype = compute_dtype(u_in);
  const Tensor u = channels_last(u_in, dtype), state = in_compute_dtype(state_in, dtype);
  const Tensor positions = contiguous_if_given(positions_in);
  const Parameters parameters = in_compute_dtype(parameters_in, dtype);
  auto [y, last_state, checkpoints] = make_outputs(u_in, parameters, dtype, save && !reference);
  DplrScanForward<T> p;
  set_problem<T>(p, u, parameters, state, positions);
  p.y = y.mutable_data_ptr<T>();
  p.last_state = last_state.mutable_data_ptr<T>();
  p.checkpoints = save && !reference ? checkpoints.mutable_data_ptr<T>() : nullptr;
  const int64_t mode_work = 7 + 4 * p.rank;
  if (reference) {
    run_counted(p, [](const auto& params) { dplr_scan_forward_reference(params); });
  } else if (p.length == 1 && !save) {
    at::parallel_for(0, p.batch * p.channels, grain(mode_work * p.states),
                     [&](int64_t begin, int64_t end) { dplr_scan_step(p, begin, end); });
  } else {
    at::parallel_for(0, dplr_scan_groups(p.channels) * p.batch, grain(p.length * p.states * mode_work * kDplrScanGroup),
                     [&](int64_t begin, int64_t end) { dplr_scan_forward(p, begin, end); });
  }
  return {y.to(u_in.scalar_type()), last_state, checkpoints};
}

Saved forward_cpu(const Tensor& u, const Tensor& a, const Tensor& b, const Tensor& c, const Tensor& q, const Tensor& w,
                  const OptionalTensor& state, const OptionalTensor& positions, bool save, bool reference) {
  const Parameters parameters{a, b, c, q, w};
  check(u, parameters, state, positions);
  return compute_dtype(u) == at::kDouble ? run_forward<double>(u, parameters, state, positions, save, reference)
                                         : run_forward<float>(u, parameters, state, positions, save, reference);
}

Saved forward_meta(const Tensor& u, const Tensor& a, const Tensor& b, const Tensor& c, const Tensor& q, const Tensor& w,
                   const OptionalTensor& state, const OptionalTensor& positions, bool save, bool reference) {
  const Parameters parameters{a, b, c, q, w};
  check(u, parameters, state, positions);
  return make_outputs(u, parameters, u.scalar_type(), save && !reference);
}

template <class T>
Gradients run_backward(const Tensor& grad_y_in, const Tensor& grad_last_state_in, const Tensor& u_in,
                       const Parameters& parameters_in, const OptionalTensor& state_in, const Tensor& checkpoints,
                       const OptionalTensor& positions_in, bool reference) {
  const auto dtype = compute_dtype(u_in);
  const Tensor u = channels_last(u_in, dtype), grad_y = channels_last(grad_y_in, dtype);
  const Tensor grad_last_state = in_compute_dtype(grad_last_state_in, dtype), state = in_compute_dtype(state_in, dtype);
  const Tensor positions = contiguous_if_given(positions_in);
  const Parameters parameters = in_compute_dtype(parameters_in, dtype);
  Gradients gradients = make_gradients(u_in, parameters, grad_last_state);
  auto& [grad_u, grad_a, grad_b, grad_c, grad_q, grad_w, grad_state] = gradients;
  DplrScanBackward<T> p;
  set_problem<T>(p, u, parameters, state, positions);
  p.checkpoints = checkpoints.const_data_ptr<T>();
  p.grad_y = grad_y.const_data_ptr<T>();
  p.grad_last_state = grad_last_state.const_data_ptr<T>();
  p.grad_u = grad_u.mutable_data_ptr<T>();
  p.grad_a = grad_a.mutable_data_ptr<T>();
  p.grad_b = grad_b.mutable_data_ptr<T>();
  p.grad_c = grad_c.mutable_data_ptr<T>();
  p.grad_q = grad_q.mutable_data_ptr<T>();
  p.grad_w = grad_w.mutable_data_ptr<T>();
  p.grad_state = grad_state.mutable_data_ptr<T>();
  if (reference) {
    dplr_scan_backward_reference(p);
  } else {
    at::parallel_for(0, dplr_scan_groups(p.channels),
                     grain(p.batch * p.length * p.states * (20 + 12 * p.rank) * kDplrScanGroup),
                     [&](int64_t begin, int64_t end) { dplr_scan_backward(p, begin, end); });
  }
  return gradients;
}

Gradients backward_cpu(const Tensor& grad_y, const Tensor& grad_last_state, const Tensor& u, const Tensor& a,
                       const Tensor& b, const Tensor& c, const Tensor& q, const Tensor& w, const OptionalTensor& state,
                       const Tensor& checkpoints, const OptionalTensor& positions, bool reference) {
  const Parameters parameters{a, b, c, q, w};
  return compute_dtype(u) == at::kDouble
             ? run_backward<double>(grad_y, grad_last_state, u, parameters, state, checkpoints, positions, reference)
             : run_backward<float>(grad_y, grad_last_state, u, parameters, state, checkpoints, positions, reference);
}

Gradients backward_meta(const Tensor&, const Tensor& grad_last_state, const Tensor& u, const Tensor& a, const Tensor& b,
                        const Tensor& c, const Tensor& q, const Tensor& w, const OptionalTensor&, const Tensor&,
                        const OptionalTensor&, bool) {
  return make_gradients(u, {a, b, c, q, w}, grad_last_state);
}

Saved call_forward(const Tensor& u, const Parameters& p, const OptionalTensor& state, const OptionalTensor& positions,
                   bool save, bool reference) {
  static const auto op = find_op<decltype(forward_cpu)>("hippodrome::_dplr_scan_forward");
  return op.call(u, p[0], p[1], p[2], p[3], p[4], state, positions, save, reference);
}

class DplrScan : public torch::autograd::Function<DplrScan> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context, const Tensor& u,
                                                const Tensor& a, const Tensor& b, const Tensor& c, const Tensor& q,
                                                const Tensor& w, const OptionalTensor& state,
                                                const OptionalTensor& positions, bool reference) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [y, last_state, checkpoints] = call_forward(u, {a, b, c, q, w}, state, positions, true, reference);
    context->save_for_backward({u, a, b, c, q, w, or_undefined(state), checkpoints, or_undefined(positions)});
    context->saved_data["reference"] = reference;
    return {y, last_state};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    static const auto op = find_op<decltype(backward_cpu)>("hippodrome::_dplr_scan_backward");
    const auto saved = context->get_saved_variables();
    const Tensor &state = saved[6], &positions = saved[8];
    auto [u, a, b, c, q, w, initial] =
        op.call(grads[0], grads[1], saved[0], saved[1], saved[2], saved[3], saved[4], saved[5], if_defined(state),
                saved[7], if_defined(positions), context->saved_data["reference"].toBool());
    torch::autograd::variable_list result{u, a, b, c, q, w};
    for (size_t i = 0; i < result.size(); ++i) result[i] = result[i].to(saved[i].scalar_type());
    result.push_back(state.defined() ? initial.to(state.scalar_type()) : Tensor());
    result.insert(result.end(), 2, Tensor());
    return result;
  }
};

template <bool kReference>
Outputs without_autograd(const Tensor& u, const Tensor& a, const Tensor& b, const Tensor& c, const Tensor& q,
                         const Tensor& w, const OptionalTensor& state, const OptionalTensor& positions) {
  auto [y, last_state, checkpoints] = call_forward(u, {a, b, c, q, w}, state, positions, false, kReference);
  return {y, last_state};
}

template <bool kReference>
Outputs with_autograd(const Tensor& u, const Tensor& a, const Tensor& b, const Tensor& c, const Tensor& q,
                      const Tensor& w, const OptionalTensor& state, const OptionalTensor& positions) {
  if (!wants_gradient(u, a, b, c, q, w, state)) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return without_autograd<kReference>(u, a, b, c, q, w, state, positions);
  }
  const auto outputs = DplrScan::apply(u, a, b, c, q, w, state, positions, kReference);
  return {outputs[0], outputs[1]};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(hippodrome, m) {
  m.def(
      "dplr_scan(Tensor u, Tensor a, Tensor b, Tensor c, Tensor q, Tensor w, Tensor? state=None,"
      " Tensor? positions=None) -> (Tensor y, Tensor last_state)");
  m.def(
      "dplr_scan_reference(Tensor u, Tensor a, Tensor b, Tensor c, Tensor q, Tensor w, Tensor? state=None,"
      " Tensor? positions=None) -> (Tensor y, Tensor last_state)");
  // checkpoints [B, chunks, groups, N, 2, 16] hold the state before each chunk, on GPUs [B, L, R, D] what each token's
  // update reads out of the state before it; empty without `save` and in the reference.
  m.def(
      "_dplr_scan_forward(Tensor u, Tensor a, Tensor b, Tensor c, Tensor q, Tensor w, Tensor? state,"
      " Tensor? positions, bool save, bool reference) -> (Tensor y, Tensor last_state, Tensor checkpoints)");
  m.def(
      "_dplr_scan_backward(Tensor grad_y, Tensor grad_last_state, Tensor u, Tensor a, Tensor b, Tensor c, Tensor q,"
      " Tensor w, Tensor? state, Tensor checkpoints, Tensor? positions, bool reference) -> (Tensor grad_u,"
      " Tensor grad_a, Tensor grad_b, Tensor grad_c, Tensor grad_q, Tensor grad_w, Tensor grad_state)");
}

TORCH_LIBRARY_IMPL(hippodrome, CompositeExplicitAutograd, m) {
  m.impl("dplr_scan", without_autograd<false>);
  m.impl("dplr_scan_reference", without_autograd<true>);
}

TORCH_LIBRARY_IMPL(hippodrome, Autograd, m) {
  m.impl("dplr_scan", with_autograd<false>);
  m.impl("dplr_scan_reference", with_autograd<true>);
  m.impl("_dplr_scan_forward", torch::autograd::autogradNotImplementedFallback());
  m.impl("_dplr_scan_backward", torch::autograd::autogradNotImplementedFallback());
}

TORCH_LIBRARY_IMPL(hippodrome, CPU, m) {
  m.impl("_dplr_scan_forward", forward_cpu);
  m.impl("_dplr_scan_backward", backward_cpu);
}

TORCH_LIBRARY_IMPL(hippodrome, Meta, m) {
  m.impl("_dplr_scan_forward", forward_meta);
  m.impl("_dplr_scan_backward", backward_meta);
}

}  // namespace dplr_scan_op

std::tuple<at::Tensor, at::Tensor> dplr_scan(const at::Tensor& u, const at::Tensor& a, const at::Tensor& b,
                                             const at::Tensor& c, const at::Tensor& q, const at::Tensor& w,
                                             const std::optional<at::Tensor>& state,
                                             const std::optional<at::Tensor>& positions, bool reference) {
  using Signature = decltype(dplr_scan_op::without_autograd<false>);
  static const auto fused = find_op<Signature>("hippodrome::dplr_scan");
  static const auto plain = find_op<Signature>("hippodrome::dplr_scan_reference");
  return (reference ? plain : fused).call(u, a, b, c, q, w, state, positions);
}

}  // namespace hippodrome

// hippodrome::diagonal_scan: schema, checks, autograd, meta and the CPU binding.
#include "architectures/ssm/diagonal_scan/op.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "architectures/ssm/diagonal_scan/binding.h"
#include "architectures/ssm/diagonal_scan/diagonal_scan.h"
#include "architectures/ssm/diagonal_scan/reference.h"
#include "core/tensor/flop_meter.h"
#include "core/tensor/op_binding.h"

namespace hippodrome {
namespace diagonal_scan_op {
namespace {

// [B, D, L] as the kernel reads it: contiguous [B, L, D].
Tensor channels_last(const Tensor& t, at::ScalarType dtype) { return t.transpose(1, 2).to(dtype).contiguous(); }
template <class T>
Saved run_forward(const Tensor& u_in, const Parameters& parameters_in, const OptionalTensor& state_in,
                  const OptionalTensor& positions_in, bool save, bool reference) {
  const auto dtype = compute_dtype(u_in);
  const Tensor u = channels_last(u_in, dtype), state = in_compute_dtype(state_in, dtype);
  const Tensor positions = contiguous_if_given(positions_in);
  const Parameters parameters = in_compute_dtype(parameters_in, dtype);
  auto [y, last_state, checkpoints] = make_outputs(u_in, parameters, dtype, save && !reference);
  DiagonalScanForward<T> p{u.size(0),
                           u.size(2),
                           u.size(1),
                           parameters[0].size(1),
                           u.const_data_ptr<T>(),
                           {},
                           data_or_null<T>(state),
                           data_or_null<int64_t>(positions),
                           y.mutable_data_ptr<T>(),
                           last_state.mutable_data_ptr<T>(),
                           save && !reference ? checkpoints.mutable_data_ptr<T>() : nullptr};
  for (size_t i = 0; i < 6; ++i) p.parameters[i] = parameters[i].const_data_ptr<T>();
  if (reference) {
    run_counted(p, [](const auto& params) { diagonal_scan_forward_reference(params); });
  } else if (p.length == 1 && !save) {
    at::parallel_for(0, p.batch * p.channels, grain(8 * p.states),
                     [&](int64_t begin, int64_t end) { diagonal_scan_step(p, begin, end); });
  } else {
    at::parallel_for(0, diagonal_scan_groups(p.channels) * p.batch, grain(p.length * p.states * 8 * kDiagonalScanGroup),
                     [&](int64_t begin, int64_t end) { diagonal_scan_forward(p, begin, end); });
  }
  return {y.to(u_in.scalar_type()), last_state, checkpoints};
}

Saved forward_cpu(const Tensor& u, const Tensor& a_real, const Tensor& a_imag, const Tensor& b_real,
                  const Tensor& b_imag, const Tensor& c_real, const Tensor& c_imag, const OptionalTensor& state,
                  const OptionalTensor& positions, bool save, bool reference) {
  const Parameters parameters{a_real, a_imag, b_real, b_imag, c_real, c_imag};
  check(u, parameters, state, positions);
  return compute_dtype(u) == at::kDouble ? run_forward<double>(u, parameters, state, positions, save, reference)
                                         : run_forward<float>(u, parameters, state, positions, save, reference);
}

Saved forward_meta(const Tensor& u, const Tensor& a_real, const Tensor& a_imag, const Tensor& b_real,
                   const Tensor& b_imag, const Tensor& c_real, const Tensor& c_imag, const OptionalTensor& state,
                   const OptionalTensor& positions, bool save, bool reference) {
  const Parameters parameters{a_real, a_imag, b_real, b_imag, c_real, c_imag};
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
  DiagonalScanBackward<T> p{
      u.size(0),
      u.size(2),
      u.size(1),
      parameters[0].size(1),
      u.const_data_ptr<T>(),
      {},
      data_or_null<T>(state),
      checkpoints.const_data_ptr<T>(),
      data_or_null<int64_t>(positions),
      grad_y.const_data_ptr<T>(),
      grad_last_state.const_data_ptr<T>(),
      std::get<0>(gradients).mutable_data_ptr<T>(),
      {std::get<1>(gradients).mutable_data_ptr<T>(), std::get<2>(gradients).mutable_data_ptr<T>(),
       std::get<3>(gradients).mutable_data_ptr<T>(), std::get<4>(gradients).mutable_data_ptr<T>(),
       std::get<5>(gradients).mutable_data_ptr<T>(), std::get<6>(gradients).mutable_data_ptr<T>()},
      std::get<7>(gradients).mutable_data_ptr<T>()};
  for (size_t i = 0; i < 6; ++i) p.parameters[i] = parameters[i].const_data_ptr<T>();
  if (reference) {
    diagonal_scan_backward_reference(p);
  } else {
    at::parallel_for(0, diagonal_scan_groups(p.channels),
                     grain(p.batch * p.length * p.states * 22 * kDiagonalScanGroup),
                     [&](int64_t begin, int64_t end) { diagonal_scan_backward(p, begin, end); });
  }
  std::get<0>(gradients) = std::get<0>(gradients).to(u_in.scalar_type());
  return gradients;
}

Gradients backward_cpu(const Tensor& grad_y, const Tensor& grad_last_state, const Tensor& u, const Tensor& a_real,
                       const Tensor& a_imag, const Tensor& b_real, const Tensor& b_imag, const Tensor& c_real,
                       const Tensor& c_imag, const OptionalTensor& state, const Tensor& checkpoints,
                       const OptionalTensor& positions, bool reference) {
  const Parameters parameters{a_real, a_imag, b_real, b_imag, c_real, c_imag};
  return compute_dtype(u) == at::kDouble
             ? run_backward<double>(grad_y, grad_last_state, u, parameters, state, checkpoints, positions, reference)
             : run_backward<float>(grad_y, grad_last_state, u, parameters, state, checkpoints, positions, reference);
}

Gradients backward_meta(const Tensor&, const Tensor& grad_last_state, const Tensor& u, const Tensor& a_real,
                        const Tensor& a_imag, const Tensor& b_real, const Tensor& b_imag, const Tensor& c_real,
                        const Tensor& c_imag, const OptionalTensor&, const Tensor&, const OptionalTensor&, bool) {
  Gradients gradients = make_gradients(u, {a_real, a_imag, b_real, b_imag, c_real, c_imag}, grad_last_state);
  std::get<0>(gradients) = empty_channels_last(u, u.scalar_type());
  return gradients;
}

Saved call_forward(const Tensor& u, const Parameters& p, const OptionalTensor& state, const OptionalTensor& positions,
                   bool save, bool reference) {
  static const auto op = find_op<decltype(forward_cpu)>("hippodrome::_diagonal_scan_forward");
  return op.call(u, p[0], p[1], p[2], p[3], p[4], p[5], state, positions, save, reference);
}

class DiagonalScan : public torch::autograd::Function<DiagonalScan> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context, const Tensor& u,
                                                const Tensor& a_real, const Tensor& a_imag, const Tensor& b_real,
                                                const Tensor& b_imag, const Tensor& c_real, const Tensor& c_imag,
                                                const OptionalTensor& state, const OptionalTensor& positions,
                                                bool reference) {
    at::AutoDispatchBelowADInplaceOrView guard;
    const Parameters parameters{a_real, a_imag, b_real, b_imag, c_real, c_imag};
    auto [y, last_state, checkpoints] = call_forward(u, parameters, state, positions, true, reference);
    context->save_for_backward(
        {u, a_real, a_imag, b_real, b_imag, c_real, c_imag, or_undefined(state), checkpoints, or_undefined(positions)});
    context->saved_data["reference"] = reference;
    return {y, last_state};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    static const auto op = find_op<decltype(backward_cpu)>("hippodrome::_diagonal_scan_backward");
    const auto saved = context->get_saved_variables();
    const Tensor &state = saved[7], &positions = saved[9];
    auto [u, a_real, a_imag, b_real, b_imag, c_real, c_imag, initial] =
        op.call(grads[0], grads[1], saved[0], saved[1], saved[2], saved[3], saved[4], saved[5], saved[6],
                if_defined(state), saved[8], if_defined(positions), context->saved_data["reference"].toBool());
    torch::autograd::variable_list result{u, a_real, a_imag, b_real, b_imag, c_real, c_imag};
    for (size_t i = 0; i < result.size(); ++i) result[i] = result[i].to(saved[i].scalar_type());
    result.push_back(state.defined() ? initial.to(state.scalar_type()) : Tensor());
    result.insert(result.end(), 2, Tensor());
    return result;
  }
};

template <bool kReference>
Outputs without_autograd(const Tensor& u, const Tensor& a_real, const Tensor& a_imag, const Tensor& b_real,
                         const Tensor& b_imag, const Tensor& c_real, const Tensor& c_imag, const OptionalTensor& state,
                         const OptionalTensor& positions) {
  auto [y, last_state, checkpoints] =
      call_forward(u, {a_real, a_imag, b_real, b_imag, c_real, c_imag}, state, positions, false, kReference);
  return {y, last_state};
}

template <bool kReference>
Outputs with_autograd(const Tensor& u, const Tensor& a_real, const Tensor& a_imag, const Tensor& b_real,
                      const Tensor& b_imag, const Tensor& c_real, const Tensor& c_imag, const OptionalTensor& state,
                      const OptionalTensor& positions) {
  if (!wants_gradient(u, a_real, a_imag, b_real, b_imag, c_real, c_imag, state)) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return without_autograd<kReference>(u, a_real, a_imag, b_real, b_imag, c_real, c_imag, state, positions);
  }
  const auto outputs =
      DiagonalScan::apply(u, a_real, a_imag, b_real, b_imag, c_real, c_imag, state, positions, kReference);
  return {outputs[0], outputs[1]};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(hippodrome, m) {
  m.def(
      "diagonal_scan(Tensor u, Tensor a_real, Tensor a_imag, Tensor b_real, Tensor b_imag, Tensor c_real,"
      " Tensor c_imag, Tensor? state=None, Tensor? positions=None) -> (Tensor y, Tensor last_state)");
  m.def(
      "diagonal_scan_reference(Tensor u, Tensor a_real, Tensor a_imag, Tensor b_real, Tensor b_imag, Tensor c_real,"
      " Tensor c_imag, Tensor? state=None, Tensor? positions=None) -> (Tensor y, Tensor last_state)");
  // checkpoints [B, chunks, groups, N, 2, 16] hold the state before each chunk; empty without `save`, in the reference
  // and on GPUs. grad_u is in u's dtype, the other gradients are in the compute dtype.
  m.def(
      "_diagonal_scan_forward(Tensor u, Tensor a_real, Tensor a_imag, Tensor b_real, Tensor b_imag, Tensor c_real,"
      " Tensor c_imag, Tensor? state, Tensor? positions, bool save, bool reference)"
      " -> (Tensor y, Tensor last_state, Tensor checkpoints)");
  m.def(
      "_diagonal_scan_backward(Tensor grad_y, Tensor grad_last_state, Tensor u, Tensor a_real, Tensor a_imag,"
      " Tensor b_real, Tensor b_imag, Tensor c_real, Tensor c_imag, Tensor? state, Tensor checkpoints,"
      " Tensor? positions, bool reference) -> (Tensor grad_u, Tensor grad_a_real, Tensor grad_a_imag,"
      " Tensor grad_b_real, Tensor grad_b_imag, Tensor grad_c_real, Tensor grad_c_imag, Tensor grad_state)");
}

TORCH_LIBRARY_IMPL(hippodrome, CompositeExplicitAutograd, m) {
  m.impl("diagonal_scan", without_autograd<false>);
  m.impl("diagonal_scan_reference", without_autograd<true>);
}

TORCH_LIBRARY_IMPL(hippodrome, Autograd, m) {
  m.impl("diagonal_scan", with_autograd<false>);
  m.impl("diagonal_scan_reference", with_autograd<true>);
  m.impl("_diagonal_scan_forward", torch::autograd::autogradNotImplementedFallback());
  m.impl("_diagonal_scan_backward", torch::autograd::autogradNotImplementedFallback());
}

TORCH_LIBRARY_IMPL(hippodrome, CPU, m) {
  m.impl("_diagonal_scan_forward", forward_cpu);
  m.impl("_diagonal_scan_backward", backward_cpu);
}

TORCH_LIBRARY_IMPL(hippodrome, Meta, m) {
  m.impl("_diagonal_scan_forward", forward_meta);
  m.impl("_diagonal_scan_backward", backward_meta);
}

}  // namespace diagonal_scan_op

std::tuple<at::Tensor, at::Tensor> diagonal_scan(const at::Tensor& u, const at::Tensor& a_real,
                                                 const at::Tensor& a_imag, const at::Tensor& b_real,
                                                 const at::Tensor& b_imag, const at::Tensor& c_real,
                                                 const at::Tensor& c_imag, const std::optional<at::Tensor>& state,
                                                 const std::optional<at::Tensor>& positions, bool reference) {
  using Signature = decltype(diagonal_scan_op::without_autograd<false>);
  static const auto fused = find_op<Signature>("hippodrome::diagonal_scan");
  static const auto plain = find_op<Signature>("hippodrome::diagonal_scan_reference");
  return (reference ? plain : fused).call(u, a_real, a_imag, b_real, b_imag, c_real, c_imag, state, positions);
}

}  // namespace hippodrome

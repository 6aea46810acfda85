// Registers wkv4 with LibTorch: schemas, checks, CPU and meta kernels, autograd.
#include "architectures/rwkv/wkv4/op.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <tuple>

#include "architectures/rwkv/wkv4/binding.h"
#include "architectures/rwkv/wkv4/reference.h"
#include "architectures/rwkv/wkv4/wkv4.h"
#include "core/tensor/flop_meter.h"
#include "core/tensor/op_binding.h"

namespace hippodrome {
namespace wkv4_op {
namespace {

using Forward = Outputs(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const OptionalTensor&,
                        const OptionalTensor&);
using SavingForward = SavedOutputs(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const OptionalTensor&,
                                   const OptionalTensor&, bool);
using Backward = Gradients(const OptionalTensor&, const OptionalTensor&, const Tensor&, const Tensor&, const Tensor&,
                           const Tensor&, const OptionalTensor&, const OptionalTensor&, const Tensor&, bool);

const auto& forward_op() {
  static const auto op = find_op<Forward>("hippodrome::wkv4");
  return op;
}
const auto& saving_forward_op() {
  static const auto op = find_op<SavingForward>("hippodrome::_wkv4_forward");
  return op;
}
const auto& backward_op() {
  static const auto op = find_op<Backward>("hippodrome::_wkv4_backward");
  return op;
}

// Arguments as the kernels take them: contiguous, in the state's dtype.
struct Inputs {
  Tensor w, u, k, v, state, positions;
  int64_t batch, time, channels;

  Inputs(const Tensor& w_in, const Tensor& u_in, const Tensor& k_in, const Tensor& v_in, const OptionalTensor& state_in,
         const OptionalTensor& positions_in)
      : batch(k_in.size(0)), time(k_in.size(1)), channels(k_in.size(2)) {
    const at::ScalarType type = compute_dtype(k_in);
    w = in_compute_dtype(w_in, type);
    u = in_compute_dtype(u_in, type);
    k = in_compute_dtype(k_in, type);
    v = in_compute_dtype(v_in, type);
    state = in_compute_dtype(state_in, type);
    positions = contiguous_if_given(positions_in);
  }
  int64_t items() const { return batch * wkv4_blocks(channels); }
  // Items below which a second thread costs more than it saves: about 20 microseconds of work.
  int64_t grain() const { return std::max<int64_t>(1, 16384 / (kWkv4Block * std::max<int64_t>(1, time))); }
};

template <class Scalar>
void run_forward(const Inputs& in, Tensor& y, Tensor& last_state, Tensor& checkpoints, bool reference) {
  const Wkv4Forward<Scalar> p{in.batch,
                              in.time,
                              in.channels,
                              in.w.const_data_ptr<Scalar>(),
                              in.u.const_data_ptr<Scalar>(),
                              in.k.const_data_ptr<Scalar>(),
                              in.v.const_data_ptr<Scalar>(),
                              data_or_null<Scalar>(in.state),
                              data_or_null<int64_t>(in.positions),
                              y.mutable_data_ptr<Scalar>(),
                              last_state.mutable_data_ptr<Scalar>(),
                              checkpoints.defined() ? checkpoints.mutable_data_ptr<Scalar>() : nullptr};
  if (reference) {
    run_counted(p, [](const auto& params) { wkv4_forward_reference(params); });
  } else {
    at::parallel_for(0, in.items(), in.grain(), [&](int64_t begin, int64_t end) { wkv4_forward_cpu(p, begin, end); });
  }
}

Outputs forward_into(const Inputs& in, at::ScalarType result_type, Tensor checkpoints, bool reference) {
  Tensor y = at::empty({in.batch, in.time, in.channels}, in.k.options());
  Tensor last_state = at::empty({in.batch, 3, in.channels}, in.k.options());
  if (in.k.scalar_type() == at::kDouble) {
    run_forward<double>(in, y, last_state, checkpoints, reference);
  } else {
    run_forward<float>(in, y, last_state, checkpoints, reference);
  }
  return {y.to(result_type), last_state};
}

Outputs forward_cpu(const Tensor& w, const Tensor& u, const Tensor& k, const Tensor& v, const OptionalTensor& state,
                    const OptionalTensor& positions) {
  check_inputs(w, u, k, v, state, positions);
  return forward_into(Inputs(w, u, k, v, state, positions), k.scalar_type(), Tensor(), false);
}

SavedOutputs saving_forward_cpu(const Tensor& w, const Tensor& u, const Tensor& k, const Tensor& v,
                                const OptionalTensor& state, const OptionalTensor& positions, bool reference) {
  check_inputs(w, u, k, v, state, positions);
  const Inputs in(w, u, k, v, state, positions);
  const int64_t chunks = reference ? 0 : wkv4_chunks(in.time);
  Tensor checkpoints = at::empty({in.batch, chunks, 3, in.channels}, in.k.options());
  auto [y, last_state] = forward_into(in, k.scalar_type(), reference ? Tensor() : checkpoints, reference);
  return {y, last_state, checkpoints};
}

template <class Scalar>
void run_backward(const Inputs& in, const Tensor& grad_y, const Tensor& grad_last_state, const Tensor& checkpoints,
                  bool reference, Tensor& grad_w, Tensor& grad_u, Tensor& grad_k, Tensor& grad_v, Tensor& grad_state) {
  const Tensor rows = at::empty({2, in.batch, in.channels}, in.k.options());
  Scalar* w_rows = rows.mutable_data_ptr<Scalar>();
  Scalar* u_rows = w_rows + in.batch * in.channels;
  const Wkv4Backward<Scalar> p{in.batch,
                               in.time,
                               in.channels,
                               in.w.const_data_ptr<Scalar>(),
                               in.u.const_data_ptr<Scalar>(),
                               in.k.const_data_ptr<Scalar>(),
                               in.v.const_data_ptr<Scalar>(),
                               data_or_null<Scalar>(in.state),
                               data_or_null<int64_t>(in.positions),
                               checkpoints.const_data_ptr<Scalar>(),
                               grad_y.const_data_ptr<Scalar>(),
                               data_or_null<Scalar>(grad_last_state),
                               w_rows,
                               u_rows,
                               grad_k.mutable_data_ptr<Scalar>(),
                               grad_v.mutable_data_ptr<Scalar>(),
                               grad_state.mutable_data_ptr<Scalar>()};
  if (reference) {
    wkv4_backward_reference(p);
  } else {
    at::parallel_for(0, in.items(), in.grain(), [&](int64_t begin, int64_t end) { wkv4_backward_cpu(p, begin, end); });
  }
  // Rows are added in their order, whichever thread made them.
  Scalar* gw = grad_w.mutable_data_ptr<Scalar>();
  Scalar* gu = grad_u.mutable_data_ptr<Scalar>();
  for (int64_t b = 0; b < in.batch; ++b) {
    for (int64_t c = 0; c < in.channels; ++c) {
      gw[c] += w_rows[b * in.channels + c];
      gu[c] += u_rows[b * in.channels + c];
    }
  }
}

Gradients backward_cpu(const OptionalTensor& grad_y, const OptionalTensor& grad_last_state, const Tensor& w,
                       const Tensor& u, const Tensor& k, const Tensor& v, const OptionalTensor& state,
                       const OptionalTensor& positions, const Tensor& checkpoints, bool reference) {
  check_inputs(w, u, k, v, state, positions);
  const Inputs in(w, u, k, v, state, positions);
  const auto options = in.k.options();
  const Tensor gy = given(grad_y) ? in_compute_dtype(*grad_y, in.k.scalar_type())
                                  : at::zeros({in.batch, in.time, in.channels}, options);
  const Tensor gs = in_compute_dtype(grad_last_state, in.k.scalar_type());
  Tensor grad_w = at::zeros({in.channels}, options), grad_u = at::zeros({in.channels}, options);
  Tensor grad_k = at::empty({in.batch, in.time, in.channels}, options);
  Tensor grad_v = at::empty({in.batch, in.time, in.channels}, options);
  Tensor grad_state = at::empty({in.batch, 3, in.channels}, options);
  if (in.k.scalar_type() == at::kDouble) {
    run_backward<double>(in, gy, gs, checkpoints, reference, grad_w, grad_u, grad_k, grad_v, grad_state);
  } else {
    run_backward<float>(in, gy, gs, checkpoints, reference, grad_w, grad_u, grad_k, grad_v, grad_state);
  }
  return {grad_w.to(w.scalar_type()), grad_u.to(u.scalar_type()), grad_k.to(k.scalar_type()),
          grad_v.to(v.scalar_type()), given(state) ? grad_state.to(state->scalar_type()) : grad_state};
}

// ---- meta: shapes only, sizes may be symbolic ----

Outputs forward_meta(const Tensor& w, const Tensor& u, const Tensor& k, const Tensor& v, const OptionalTensor& state,
                     const OptionalTensor& positions) {
  check_inputs(w, u, k, v, state, positions);
  return {at::empty_symint(k.sym_sizes(), k.options()),
          at::empty_symint({k.sym_size(0), 3, k.sym_size(2)}, k.options().dtype(compute_dtype(k)))};
}

SavedOutputs saving_forward_meta(const Tensor& w, const Tensor& u, const Tensor& k, const Tensor& v,
                                 const OptionalTensor& state, const OptionalTensor& positions, bool reference) {
  auto [y, last_state] = forward_meta(w, u, k, v, state, positions);
  const c10::SymInt chunks = reference ? c10::SymInt(0) : (k.sym_size(1) + (kWkv4Chunk - 1)) / kWkv4Chunk;
  return {y, last_state, at::empty_symint({k.sym_size(0), chunks, 3, k.sym_size(2)}, last_state.options())};
}

Gradients backward_meta(const OptionalTensor&, const OptionalTensor&, const Tensor& w, const Tensor& u, const Tensor& k,
                        const Tensor& v, const OptionalTensor& state, const OptionalTensor& positions, const Tensor&,
                        bool) {
  check_inputs(w, u, k, v, state, positions);
  const auto type = given(state) ? state->scalar_type() : compute_dtype(k);
  return {at::empty_symint(w.sym_sizes(), w.options()), at::empty_symint(u.sym_sizes(), u.options()),
          at::empty_symint(k.sym_sizes(), k.options()), at::empty_symint(v.sym_sizes(), v.options()),
          at::empty_symint({k.sym_size(0), 3, k.sym_size(2)}, k.options().dtype(type))};
}

// ---- autograd ----

class BackwardOnce : public torch::autograd::Function<BackwardOnce> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext*, const OptionalTensor& grad_y,
                                                const OptionalTensor& grad_last_state, const Tensor& w, const Tensor& u,
                                                const Tensor& k, const Tensor& v, const OptionalTensor& state,
                                                const OptionalTensor& positions, const Tensor& checkpoints,
                                                bool reference) {
    at::AutoDispatchBelowADInplaceOrView below;
    auto [gw, gu, gk, gv, gs] =
        backward_op().call(grad_y, grad_last_state, w, u, k, v, state, positions, checkpoints, reference);
    return {gw, gu, gk, gv, gs};
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*, torch::autograd::variable_list) {
    TORCH_CHECK(false, "wkv4: gradients of gradients are not implemented");
  }
};

Gradients backward_autograd(const OptionalTensor& grad_y, const OptionalTensor& grad_last_state, const Tensor& w,
                            const Tensor& u, const Tensor& k, const Tensor& v, const OptionalTensor& state,
                            const OptionalTensor& positions, const Tensor& checkpoints, bool reference) {
  if (wants_gradient(grad_y, grad_last_state, w, u, k, v, state)) {
    const auto g = BackwardOnce::apply(grad_y, grad_last_state, w, u, k, v, state, positions, checkpoints, reference);
    return {g[0], g[1], g[2], g[3], g[4]};
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return backward_op().call(grad_y, grad_last_state, w, u, k, v, state, positions, checkpoints, reference);
}

class ForwardWithBackward : public torch::autograd::Function<ForwardWithBackward> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context, const Tensor& w,
                                                const Tensor& u, const Tensor& k, const Tensor& v,
                                                const OptionalTensor& state, const OptionalTensor& positions,
                                                bool reference) {
    at::AutoDispatchBelowADInplaceOrView below;
    auto [y, last_state, checkpoints] = saving_forward_op().call(w, u, k, v, state, positions, reference);
    context->save_for_backward({w, u, k, v, or_undefined(state), or_undefined(positions), checkpoints});
    context->saved_data["reference"] = reference;
    context->set_materialize_grads(false);
    context->mark_non_differentiable({checkpoints});
    return {y, last_state, checkpoints};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    if (!gradients[0].defined() && !gradients[1].defined()) return torch::autograd::variable_list(7);
    auto [gw, gu, gk, gv, gs] = backward_op().call(
        if_defined(gradients[0]), if_defined(gradients[1]), saved[0], saved[1], saved[2], saved[3],
        if_defined(saved[4]), if_defined(saved[5]), saved[6], context->saved_data["reference"].toBool());
    return {gw, gu, gk, gv, saved[4].defined() ? gs : Tensor(), Tensor(), Tensor()};
  }
};

SavedOutputs saving_forward_autograd(const Tensor& w, const Tensor& u, const Tensor& k, const Tensor& v,
                                     const OptionalTensor& state, const OptionalTensor& positions, bool reference) {
  const auto out = ForwardWithBackward::apply(w, u, k, v, state, positions, reference);
  return {out[0], out[1], out[2]};
}

Outputs forward_autograd(const Tensor& w, const Tensor& u, const Tensor& k, const Tensor& v,
                         const OptionalTensor& state, const OptionalTensor& positions) {
  if (wants_gradient(w, u, k, v, state)) {
    auto [y, last_state, checkpoints] = saving_forward_op().call(w, u, k, v, state, positions, false);
    return {y, last_state};
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return forward_op().call(w, u, k, v, state, positions);
}

Outputs reference_composite(const Tensor& w, const Tensor& u, const Tensor& k, const Tensor& v,
                            const OptionalTensor& state, const OptionalTensor& positions) {
  auto [y, last_state, checkpoints] = saving_forward_op().call(w, u, k, v, state, positions, true);
  return {y, last_state};
}

TORCH_LIBRARY_FRAGMENT(hippodrome, m) {
  m.def(
      "wkv4(Tensor w, Tensor u, Tensor k, Tensor v, Tensor? state=None, Tensor? positions=None) "
      "-> (Tensor y, Tensor last_state)");
  m.def(
      "wkv4_reference(Tensor w, Tensor u, Tensor k, Tensor v, Tensor? state=None, Tensor? positions=None) "
      "-> (Tensor y, Tensor last_state)");
  m.def(
      "_wkv4_forward(Tensor w, Tensor u, Tensor k, Tensor v, Tensor? state=None, Tensor? positions=None, "
      "bool reference=False) -> (Tensor y, Tensor last_state, Tensor checkpoints)");
  m.def(
      "_wkv4_backward(Tensor? grad_y, Tensor? grad_last_state, Tensor w, Tensor u, Tensor k, Tensor v, Tensor? state, "
      "Tensor? positions, Tensor checkpoints, bool reference=False) "
      "-> (Tensor grad_w, Tensor grad_u, Tensor grad_k, Tensor grad_v, Tensor grad_state)");
}

TORCH_LIBRARY_IMPL(hippodrome, CPU, m) {
  m.impl("wkv4", TORCH_FN(forward_cpu));
  m.impl("_wkv4_forward", TORCH_FN(saving_forward_cpu));
  m.impl("_wkv4_backward", TORCH_FN(backward_cpu));
}

TORCH_LIBRARY_IMPL(hippodrome, Meta, m) {
  m.impl("wkv4", TORCH_FN(forward_meta));
  m.impl("_wkv4_forward", TORCH_FN(saving_forward_meta));
  m.impl("_wkv4_backward", TORCH_FN(backward_meta));
}

TORCH_LIBRARY_IMPL(hippodrome, Autograd, m) {
  m.impl("wkv4", TORCH_FN(forward_autograd));
  m.impl("_wkv4_forward", TORCH_FN(saving_forward_autograd));
  m.impl("_wkv4_backward", TORCH_FN(backward_autograd));
}

TORCH_LIBRARY_IMPL(hippodrome, CompositeImplicitAutograd, m) {
  m.impl("wkv4_reference", TORCH_FN(reference_composite));
}

}  // namespace
}  // namespace wkv4_op

Wkv4Result wkv4(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v,
                const std::optional<at::Tensor>& state, const std::optional<at::Tensor>& positions) {
  auto [y, last_state] = wkv4_op::forward_op().call(w, u, k, v, state, positions);
  return {y, last_state};
}

Wkv4Result wkv4_reference(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v,
                          const std::optional<at::Tensor>& state, const std::optional<at::Tensor>& positions) {
  static const auto op = find_op<wkv4_op::Forward>("hippodrome::wkv4_reference");
  auto [y, last_state] = op.call(w, u, k, v, state, positions);
  return {y, last_state};
}

}  // namespace hippodrome

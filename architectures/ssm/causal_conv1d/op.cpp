// Registers causal_conv1d with LibTorch: schemas, checks, CPU and meta kernels, autograd.
#include "architectures/ssm/causal_conv1d/op.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>

#include "architectures/ssm/causal_conv1d/binding.h"
#include "architectures/ssm/causal_conv1d/causal_conv1d.h"
#include "architectures/ssm/causal_conv1d/reference.h"
#include "core/tensor/flop_meter.h"
#include "core/tensor/op_binding.h"

namespace hippodrome {
namespace causal_conv1d_op {
namespace {

using Outputs = std::tuple<Tensor, Tensor>;
using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor>;
using Public = Outputs(const Tensor&, const Tensor&, const OptionalTensor&, std::string_view, const OptionalTensor&,
                       const OptionalTensor&);
using Forward = Outputs(const Tensor&, const Tensor&, const OptionalTensor&, std::string_view, const OptionalTensor&,
                        const OptionalTensor&, bool);
using Backward = Gradients(const OptionalTensor&, const OptionalTensor&, const Tensor&, const Tensor&,
                           const OptionalTensor&, std::string_view, const OptionalTensor&, const OptionalTensor&, bool);

const auto& forward_op() {
  static const auto op = find_op<Forward>("hippodrome::_causal_conv1d_forward");
  return op;
}
const auto& backward_op() {
  static const auto op = find_op<Backward>("hippodrome::_causal_conv1d_backward");
  return op;
}

// Arguments as the kernels take them: the layout above, the state's dtype.
struct Inputs {
  Tensor x, weight, bias, initial_state, positions;
  int64_t batch, channels, time, taps;
  bool silu;

  Inputs(const Tensor& x_in, const Tensor& weight_in, const OptionalTensor& bias_in, std::string_view activation,
         const OptionalTensor& initial_state_in, const OptionalTensor& positions_in)
      : batch(x_in.size(0)),
        channels(x_in.size(1)),
        time(x_in.size(2)),
        taps(weight_in.size(1)),
        silu(!activation.empty()) {
    const at::ScalarType type = compute_dtype(x_in);
    x = channels_adjacent(x_in.to(type));
    weight = in_compute_dtype(weight_in, type);
    bias = in_compute_dtype(bias_in, type);
    initial_state = in_compute_dtype(initial_state_in, type);
    positions = contiguous_if_given(positions_in);
  }
  int64_t items() const { return batch * causal_conv1d_tiles(time) * causal_conv1d_blocks(channels); }
  // Items below which a second thread costs more than it saves: about 20 microseconds of work.
  int64_t grain() const {
    const int64_t steps = std::clamp<int64_t>(time, 1, kCausalConv1dTile);
    return std::max<int64_t>(1, 32768 / (kCausalConv1dBlock * steps));
  }
};

template <class Scalar>
CausalConv1dSequence<Scalar> sequence(const Tensor& x) {
  return {x.const_data_ptr<Scalar>(), x.stride(0), x.stride(2)};
}

template <class Scalar>
void run_forward(const Inputs& in, Tensor& y, Tensor& final_state, bool reference) {
  const CausalConv1dForward<Scalar> p{in.batch,
                                      in.channels,
                                      in.time,
                                      in.taps,
                                      in.silu,
                                      sequence<Scalar>(in.x),
                                      in.weight.const_data_ptr<Scalar>(),
                                      data_or_null<Scalar>(in.bias),
                                      data_or_null<Scalar>(in.initial_state),
                                      data_or_null<int64_t>(in.positions),
                                      y.mutable_data_ptr<Scalar>(),
                                      final_state.mutable_data_ptr<Scalar>()};
  if (reference) {
    run_counted(p, [](const auto& params) { causal_conv1d_forward_reference(params); });
  } else {
    at::parallel_for(0, in.items(), in.grain(),
                     [&](int64_t begin, int64_t end) { causal_conv1d_forward_cpu(p, begin, end); });
  }
}

Outputs forward_cpu(const Tensor& x, const Tensor& weight, const OptionalTensor& bias, std::string_view activation,
                    const OptionalTensor& initial_state, const OptionalTensor& positions, bool reference) {
  check_inputs(x, weight, bias, activation, initial_state, positions);
  const Inputs in(x, weight, bias, activation, initial_state, positions);
  Tensor y = empty_channels_last(in.x, in.x.scalar_type());
  Tensor final_state = at::empty({in.batch, in.channels, in.taps - 1}, in.x.options());
  if (in.x.scalar_type() == at::kDouble) {
    run_forward<double>(in, y, final_state, reference);
  } else {
    run_forward<float>(in, y, final_state, reference);
  }
  return {y.to(x.scalar_type()), final_state};
}

Tensor in_place_cpu(const Tensor& x, const Tensor& weight, const OptionalTensor& bias, std::string_view activation,
                    const Tensor& state, const OptionalTensor& positions) {
  check_in_place(x, state);
  auto [y, final_state] = forward_cpu(x, weight, bias, activation, state, positions, false);
  state.copy_(final_state);
  return y;
}

template <class Scalar>
void run_backward(const Inputs& in, const Tensor& grad_y, const Tensor& grad_final_state, bool reference,
                  Tensor& grad_x, Tensor& grad_weight, Tensor& grad_bias, Tensor& grad_initial_state) {
  const int64_t rows = in.batch * causal_conv1d_tiles(in.time), width = (in.taps + 1) * in.channels;
  const Tensor partial = at::empty({rows, in.taps + 1, in.channels}, in.x.options());
  const CausalConv1dBackward<Scalar> p{in.batch,
                                       in.channels,
                                       in.time,
                                       in.taps,
                                       in.silu,
                                       sequence<Scalar>(in.x),
                                       in.weight.const_data_ptr<Scalar>(),
                                       data_or_null<Scalar>(in.bias),
                                       data_or_null<Scalar>(in.initial_state),
                                       data_or_null<int64_t>(in.positions),
                                       sequence<Scalar>(grad_y),
                                       data_or_null<Scalar>(grad_final_state),
                                       grad_x.mutable_data_ptr<Scalar>(),
                                       partial.mutable_data_ptr<Scalar>(),
                                       grad_initial_state.mutable_data_ptr<Scalar>()};
  if (reference) {
    causal_conv1d_backward_reference(p);
  } else {
    at::parallel_for(0, in.items(), in.grain(),
                     [&](int64_t begin, int64_t end) { causal_conv1d_backward_cpu(p, begin, end); });
  }
  // Rows are added in their order, whichever thread made them.
  Tensor sums = at::zeros({in.taps + 1, in.channels}, in.x.options());
  Scalar* sum = sums.mutable_data_ptr<Scalar>();
  const Scalar* from = partial.const_data_ptr<Scalar>();
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < width; ++i) sum[i] += from[row * width + i];
  }
  grad_weight = sums.narrow(0, 0, in.taps).t().contiguous();
  grad_bias = sums.select(0, in.taps).clone();
}

Gradients backward_cpu(const OptionalTensor& grad_y, const OptionalTensor& grad_final_state, const Tensor& x,
                       const Tensor& weight, const OptionalTensor& bias, std::string_view activation,
                       const OptionalTensor& initial_state, const OptionalTensor& positions, bool reference) {
  check_inputs(x, weight, bias, activation, initial_state, positions);
  const Inputs in(x, weight, bias, activation, initial_state, positions);
  const at::ScalarType type = in.x.scalar_type();
  const Tensor gy = given(grad_y) ? channels_adjacent(grad_y->to(type))
                                  : at::zeros({in.batch, in.time, in.channels}, in.x.options()).transpose(1, 2);
  const Tensor gs = in_compute_dtype(grad_final_state, type);
  Tensor grad_x = empty_channels_last(in.x, in.x.scalar_type()), grad_weight, grad_bias;
  Tensor grad_initial_state = at::empty({in.batch, in.channels, in.taps - 1}, in.x.options());
  if (type == at::kDouble) {
    run_backward<double>(in, gy, gs, reference, grad_x, grad_weight, grad_bias, grad_initial_state);
  } else {
    run_backward<float>(in, gy, gs, reference, grad_x, grad_weight, grad_bias, grad_initial_state);
  }
  return {grad_x.to(x.scalar_type()), grad_weight.to(weight.scalar_type()),
          given(bias) ? grad_bias.to(bias->scalar_type()) : grad_bias,
          given(initial_state) ? grad_initial_state.to(initial_state->scalar_type()) : grad_initial_state};
}

// ---- meta: shapes and strides only, sizes may be symbolic ----

Outputs forward_meta(const Tensor& x, const Tensor& weight, const OptionalTensor& bias, std::string_view activation,
                     const OptionalTensor& initial_state, const OptionalTensor& positions, bool) {
  check_inputs(x, weight, bias, activation, initial_state, positions);
  return {
      empty_channels_last(x, x.scalar_type()),
      at::empty_symint({x.sym_size(0), x.sym_size(1), weight.sym_size(1) - 1}, x.options().dtype(compute_dtype(x)))};
}

Tensor in_place_meta(const Tensor& x, const Tensor& weight, const OptionalTensor& bias, std::string_view activation,
                     const Tensor& state, const OptionalTensor& positions) {
  check_inputs(x, weight, bias, activation, state, positions);
  return empty_channels_last(x, x.scalar_type());
}

Gradients backward_meta(const OptionalTensor&, const OptionalTensor&, const Tensor& x, const Tensor& weight,
                        const OptionalTensor& bias, std::string_view activation, const OptionalTensor& initial_state,
                        const OptionalTensor& positions, bool) {
  check_inputs(x, weight, bias, activation, initial_state, positions);
  const auto options = x.options().dtype(compute_dtype(x));
  return {empty_channels_last(x, x.scalar_type()), at::empty_symint(weight.sym_sizes(), weight.options()),
          at::empty_symint({x.sym_size(1)}, given(bias) ? bias->options() : options),
          at::empty_symint({x.sym_size(0), x.sym_size(1), weight.sym_size(1) - 1},
                           given(initial_state) ? initial_state->options() : options)};
}

// ---- autograd ----

class BackwardOnce : public torch::autograd::Function<BackwardOnce> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext*, const OptionalTensor& grad_y,
                                                const OptionalTensor& grad_final_state, const Tensor& x,
                                                const Tensor& weight, const OptionalTensor& bias,
                                                std::string_view activation, const OptionalTensor& initial_state,
                                                const OptionalTensor& positions, bool reference) {
    at::AutoDispatchBelowADInplaceOrView below;
    auto [gx, gw, gb, gs] =
        backward_op().call(grad_y, grad_final_state, x, weight, bias, activation, initial_state, positions, reference);
    return {gx, gw, gb, gs};
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*, torch::autograd::variable_list) {
    TORCH_CHECK(false, "causal_conv1d: gradients of gradients are not implemented");
  }
};

Gradients backward_autograd(const OptionalTensor& grad_y, const OptionalTensor& grad_final_state, const Tensor& x,
                            const Tensor& weight, const OptionalTensor& bias, std::string_view activation,
                            const OptionalTensor& initial_state, const OptionalTensor& positions, bool reference) {
  if (wants_gradient(grad_y, grad_final_state, x, weight, bias, initial_state)) {
    const auto g =
        BackwardOnce::apply(grad_y, grad_final_state, x, weight, bias, activation, initial_state, positions, reference);
    return {g[0], g[1], g[2], g[3]};
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return backward_op().call(grad_y, grad_final_state, x, weight, bias, activation, initial_state, positions, reference);
}

class ForwardWithBackward : public torch::autograd::Function<ForwardWithBackward> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context, const Tensor& x,
                                                const Tensor& weight, const OptionalTensor& bias,
                                                std::string_view activation, const OptionalTensor& initial_state,
                                                const OptionalTensor& positions, bool reference) {
    at::AutoDispatchBelowADInplaceOrView below;
    auto [y, final_state] = forward_op().call(x, weight, bias, activation, initial_state, positions, reference);
    context->save_for_backward({x, weight, or_undefined(bias), or_undefined(initial_state), or_undefined(positions)});
    context->saved_data["activation"] = std::string(activation);
    context->saved_data["reference"] = reference;
    context->set_materialize_grads(false);
    return {y, final_state};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    if (!gradients[0].defined() && !gradients[1].defined()) return torch::autograd::variable_list(7);
    auto [gx, gw, gb, gs] =
        backward_op().call(if_defined(gradients[0]), if_defined(gradients[1]), saved[0], saved[1], if_defined(saved[2]),
                           context->saved_data["activation"].toStringView(), if_defined(saved[3]), if_defined(saved[4]),
                           context->saved_data["reference"].toBool());
    return {gx,       gw,      saved[2].defined() ? gb : Tensor(), Tensor(), saved[3].defined() ? gs : Tensor(),
            Tensor(), Tensor()};
  }
};

Outputs forward_autograd(const Tensor& x, const Tensor& weight, const OptionalTensor& bias, std::string_view activation,
                         const OptionalTensor& initial_state, const OptionalTensor& positions, bool reference) {
  if (wants_gradient(x, weight, bias, initial_state)) {
    const auto out = ForwardWithBackward::apply(x, weight, bias, activation, initial_state, positions, reference);
    return {out[0], out[1]};
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return forward_op().call(x, weight, bias, activation, initial_state, positions, reference);
}

// Both public ops are the differentiable `_forward`: nothing is saved beyond the inputs, so inference needs no other
// path.
Outputs fused_composite(const Tensor& x, const Tensor& weight, const OptionalTensor& bias, std::string_view activation,
                        const OptionalTensor& initial_state, const OptionalTensor& positions) {
  return forward_op().call(x, weight, bias, activation, initial_state, positions, false);
}

Outputs reference_composite(const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
                            std::string_view activation, const OptionalTensor& initial_state,
                            const OptionalTensor& positions) {
  return forward_op().call(x, weight, bias, activation, initial_state, positions, true);
}

TORCH_LIBRARY_FRAGMENT(hippodrome, m) {
  m.def(
      "causal_conv1d(Tensor x, Tensor weight, Tensor? bias=None, str activation=\"\", Tensor? initial_state=None, "
      "Tensor? positions=None) -> (Tensor y, Tensor final_state)");
  m.def(
      "causal_conv1d_reference(Tensor x, Tensor weight, Tensor? bias=None, str activation=\"\", "
      "Tensor? initial_state=None, Tensor? positions=None) -> (Tensor y, Tensor final_state)");
  m.def(
      "_causal_conv1d_forward(Tensor x, Tensor weight, Tensor? bias=None, str activation=\"\", "
      "Tensor? initial_state=None, Tensor? positions=None, bool reference=False) -> (Tensor y, Tensor final_state)");
  // For inference: the state becomes the final state.
  m.def(
      "_causal_conv1d_in_place(Tensor x, Tensor weight, Tensor? bias, str activation, Tensor(a!) state, "
      "Tensor? positions) -> Tensor y");
  m.def(
      "_causal_conv1d_backward(Tensor? grad_y, Tensor? grad_final_state, Tensor x, Tensor weight, Tensor? bias, "
      "str activation, Tensor? initial_state, Tensor? positions, bool reference=False) "
      "-> (Tensor grad_x, Tensor grad_weight, Tensor grad_bias, Tensor grad_initial_state)");
}

TORCH_LIBRARY_IMPL(hippodrome, CPU, m) {
  m.impl("_causal_conv1d_forward", TORCH_FN(forward_cpu));
  m.impl("_causal_conv1d_in_place", TORCH_FN(in_place_cpu));
  m.impl("_causal_conv1d_backward", TORCH_FN(backward_cpu));
}

TORCH_LIBRARY_IMPL(hippodrome, Meta, m) {
  m.impl("_causal_conv1d_forward", TORCH_FN(forward_meta));
  m.impl("_causal_conv1d_in_place", TORCH_FN(in_place_meta));
  m.impl("_causal_conv1d_backward", TORCH_FN(backward_meta));
}

TORCH_LIBRARY_IMPL(hippodrome, Autograd, m) {
  m.impl("_causal_conv1d_forward", TORCH_FN(forward_autograd));
  m.impl("_causal_conv1d_backward", TORCH_FN(backward_autograd));
}

TORCH_LIBRARY_IMPL(hippodrome, CompositeImplicitAutograd, m) {
  m.impl("causal_conv1d", TORCH_FN(fused_composite));
  m.impl("causal_conv1d_reference", TORCH_FN(reference_composite));
}

}  // namespace
}  // namespace causal_conv1d_op

CausalConv1dResult causal_conv1d(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                                 std::string_view activation, const std::optional<at::Tensor>& initial_state,
                                 const std::optional<at::Tensor>& positions) {
  // The composite's body, one dispatch shorter: this is the decoding path.
  auto [y, final_state] =
      causal_conv1d_op::forward_op().call(x, weight, bias, activation, initial_state, positions, false);
  return {y, final_state};
}

at::Tensor causal_conv1d_in_place(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                                  std::string_view activation, const at::Tensor& state,
                                  const std::optional<at::Tensor>& positions) {
  static const auto op = find_op<Tensor(const Tensor&, const Tensor&, const OptionalTensor&, std::string_view,
                                        const Tensor&, const OptionalTensor&)>("hippodrome::_causal_conv1d_in_place");
  return op.call(x, weight, bias, activation, state, positions);
}

CausalConv1dResult causal_conv1d_reference(const at::Tensor& x, const at::Tensor& weight,
                                           const std::optional<at::Tensor>& bias, std::string_view activation,
                                           const std::optional<at::Tensor>& initial_state,
                                           const std::optional<at::Tensor>& positions) {
  auto [y, final_state] =
      causal_conv1d_op::forward_op().call(x, weight, bias, activation, initial_state, positions, true);
  return {y, final_state};
}

}  // namespace hippodrome

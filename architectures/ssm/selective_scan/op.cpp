// Registration of the selective scan with LibTorch: schemas, shape checks, CPU and meta kernels, autograd.
#include "architectures/ssm/selective_scan/op.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "architectures/ssm/selective_scan/binding.h"
#include "architectures/ssm/selective_scan/reference.h"
#include "architectures/ssm/selective_scan/selective_scan.h"
#include "core/tensor/flop_meter.h"

namespace hippodrome::s6 {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Below this many state updates a thread costs more to wake than it saves (about 10 us of work).
constexpr int64_t kUpdatesPerTask = 1 << 15;

template <class Body>
void parallel_items(int64_t items, int64_t updates, const Body& body) {
  const int64_t updates_per_item = std::max<int64_t>(1, updates / std::max<int64_t>(1, items));
  at::parallel_for(0, items, std::max<int64_t>(1, kUpdatesPerTask / updates_per_item), body);
}

template <class T>
int64_t updates(const Params<T>& p) {
  return p.batch * p.channels * p.length * p.states;
}

// ---- forward
// -----------------------------------------------------------------------------------------------------------

template <class T>
Outputs forward_cpu_as(const Arguments& arguments, bool reference, bool keep, const Tensor& state = Tensor()) {
  const Bound<T> bound(arguments);
  Outputs out = allocate_outputs(bound.params, arguments, keep, state);
  Params<T> p = bound.params;
  p.y = out.y.mutable_data_ptr<T>();
  p.last_state = out.last_state.mutable_data_ptr<T>();
  p.checkpoints = keep ? out.checkpoints.mutable_data_ptr<T>() : nullptr;
  if (reference) {
    run_counted(p, [](const auto& params) { selective_scan_reference(params); });
  } else {
    parallel_items(forward_items(p), updates(p), [&](int64_t begin, int64_t end) { forward(p, begin, end); });
  }
  out.y = out.y.to(arguments.u.scalar_type());
  return out;
}

Outputs forward_cpu(const Arguments& arguments, bool reference, bool keep) {
  check_arguments(arguments);
  return arguments.u.scalar_type() == at::kDouble ? forward_cpu_as<double>(arguments, reference, keep)
                                                  : forward_cpu_as<float>(arguments, reference, keep);
}

Outputs forward_meta(const Arguments& arguments, bool keep) {
  check_arguments(arguments);
  const c10::SymInt batch = arguments.u.sym_size(0), channels = arguments.u.sym_size(1),
                    length = arguments.u.sym_size(2);
  const c10::SymInt states = arguments.A.sym_size(1);
  const auto options = arguments.u.options().dtype(working_dtype(arguments.u.scalar_type()));
  const c10::SymInt kept = keep ? (length + (kChunk - 1)) / kChunk : c10::SymInt(0);
  return {at::empty_strided_symint({batch, channels, length}, {length * channels, 1, channels}, arguments.u.options()),
          at::empty_symint({batch, channels, states}, options),
          at::empty_symint({batch, kept, states, channels}, options)};
}

// ---- backward
// ----------------------------------------------------------------------------------------------------------

// Adds the superblocks' partial sums in order: [B, G, superblocks, L, N] -> [B, L, G, N].
template <class T>
void sum_superblocks(const Params<T>& p, const T* partial, T* sum) {
  const int64_t count = superblocks(p.channels, p.groups), N = p.states;
  parallel_items(p.batch * p.length, p.batch * p.length * p.groups * count * N, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t b = row / p.length, t = row % p.length;
      for (int64_t g = 0; g < p.groups; ++g) {
        T* to = sum + (row * p.groups + g) * N;
        const T* from = partial + ((b * p.groups + g) * count * p.length + t) * N;
        std::copy(from, from + N, to);
        for (int64_t s = 1; s < count; ++s) {
          for (int64_t n = 0; n < N; ++n) to[n] += from[s * p.length * N + n];
        }
      }
    }
  });
}

// Adds the rows of [B, size] in order.
template <class T>
void sum_batch(const T* partial, int64_t batch, int64_t size, T* sum) {
  std::copy(partial, partial + size, sum);
  for (int64_t b = 1; b < batch; ++b) {
    for (int64_t i = 0; i < size; ++i) sum[i] += partial[b * size + i];
  }
}

template <class T>
void run_fused_backward(const Params<T>& p, const Gradients<T>& total) {
  const int64_t partial_rows = p.batch * p.groups * superblocks(p.channels, p.groups);
  const auto options = at::TensorOptions().dtype(c10::CppTypeToScalarType<T>::value);
  const auto buffer = [&](int64_t size) { return at::empty({size}, options); };
  const Tensor A = buffer(p.batch * p.states * p.channels);
  const Tensor B = buffer(partial_rows * p.length * p.states);
  const Tensor C = buffer(partial_rows * p.length * p.states);
  const Tensor D = buffer(p.batch * p.channels), bias = buffer(p.batch * p.channels);
  Gradients<T> partial = total;
  partial.A = A.mutable_data_ptr<T>();
  partial.B = B.mutable_data_ptr<T>();
  partial.C = C.mutable_data_ptr<T>();
  partial.D = total.D != nullptr ? D.mutable_data_ptr<T>() : nullptr;
  partial.delta_bias = total.delta_bias != nullptr ? bias.mutable_data_ptr<T>() : nullptr;
  parallel_items(backward_items(p), updates(p), [&](int64_t begin, int64_t end) { backward(p, partial, begin, end); });

  sum_superblocks(p, partial.B, total.B);
  sum_superblocks(p, partial.C, total.C);
  if (total.D != nullptr) sum_batch(partial.D, p.batch, p.channels, total.D);
  if (total.delta_bias != nullptr) sum_batch(partial.delta_bias, p.batch, p.channels, total.delta_bias);
  for (int64_t d = 0; d < p.channels; ++d) {
    for (int64_t n = 0; n < p.states; ++n) {
      T sum = T(0);
      for (int64_t b = 0; b < p.batch; ++b) sum += partial.A[(b * p.states + n) * p.channels + d];
      total.A[d * p.states + n] = sum;
    }
  }
}

template <class T>
InputGradients backward_cpu_as(const OptionalTensor& grad_y, const OptionalTensor& grad_last_state,
                               const Arguments& arguments, const OptionalTensor& checkpoints, bool reference) {
  const Bound<T> bound(arguments);
  Params<T> p = bound.params;
  InputGradients out = allocate_gradients(p, arguments);
  Tensor dy, dlast;
  Gradients<T> g;
  if (grad_y.has_value()) g.y = bind_channels<T>(*grad_y, dy);
  if (grad_last_state.has_value()) g.last_state = bind_contiguous<T>(*grad_last_state, dlast);
  const auto data = [](const Tensor& t) { return t.numel() > 0 ? t.mutable_data_ptr<T>() : nullptr; };
  g.u = data(out.u), g.delta = data(out.delta), g.z = data(out.z), g.initial_state = data(out.initial_state);
  g.A = data(out.A), g.B = data(out.B), g.C = data(out.C), g.D = data(out.D), g.delta_bias = data(out.delta_bias);
  Tensor kept;
  if (reference) {
    selective_scan_reference_backward(p, g);
  } else if (p.batch * p.length > 0) {
    TORCH_CHECK(checkpoints.has_value(),
                "_selective_scan_backward needs the checkpoints that _selective_scan_forward returned");
    kept = checkpoints->to(c10::CppTypeToScalarType<T>::value).contiguous();
    TORCH_CHECK(kept.numel() == p.batch * chunks(p.length) * p.states * p.channels,
                "_selective_scan_backward: checkpoints do not have the size that _selective_scan_forward returned");
    p.checkpoints = kept.mutable_data_ptr<T>();
    run_fused_backward(p, g);
  } else {
    out.A.zero_(), out.D.zero_(), out.delta_bias.zero_();
    if (out.initial_state.numel() > 0 && grad_last_state.has_value())
      out.initial_state.copy_(*grad_last_state);
    else
      out.initial_state.zero_();
  }
  return cast_to_inputs(out, arguments);
}

InputGradients backward_cpu(const OptionalTensor& grad_y, const OptionalTensor& grad_last_state,
                            const Arguments& arguments, const OptionalTensor& checkpoints, bool reference) {
  check_arguments(arguments);
  return arguments.u.scalar_type() == at::kDouble
             ? backward_cpu_as<double>(grad_y, grad_last_state, arguments, checkpoints, reference)
             : backward_cpu_as<float>(grad_y, grad_last_state, arguments, checkpoints, reference);
}

InputGradients backward_meta(const Arguments& arguments) {
  check_arguments(arguments);
  const auto channels_last = [&](const Tensor& like) {
    const c10::SymInt channels = like.sym_size(1), length = like.sym_size(2);
    return at::empty_strided_symint(like.sym_sizes(), {length * channels, 1, channels}, like.options());
  };
  const auto states_last = [&](const Tensor& like) {
    const c10::SymInt N = like.sym_size(-2), L = like.sym_size(-1);
    if (like.dim() == 3) return at::empty_strided_symint(like.sym_sizes(), {L * N, 1, N}, like.options());
    const c10::SymInt G = like.sym_size(1);
    return at::empty_strided_symint(like.sym_sizes(), {L * G * N, N, 1, G * N}, like.options());
  };
  // One for each absent input: outputs must not share memory.
  const auto none = [&] { return at::empty({0}, arguments.u.options()); };
  const auto same = [&](const OptionalTensor& like) {
    return like.has_value() ? at::empty_symint(like->sym_sizes(), like->options()) : none();
  };
  return {channels_last(arguments.u),
          channels_last(arguments.delta),
          same(arguments.A),
          states_last(arguments.B),
          states_last(arguments.C),
          same(arguments.D),
          arguments.z.has_value() ? channels_last(*arguments.z) : none(),
          same(arguments.delta_bias),
          same(arguments.initial_state)};
}

// ---- adapters from the dispatcher's long argument lists
// ------------------------------------------------------------------

using YAndState = std::tuple<Tensor, Tensor>;
using YStateAndCheckpoints = std::tuple<Tensor, Tensor, Tensor>;
using NineTensors = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

#define SCAN_PARAMETERS                                                                                             \
  const Tensor &u, const Tensor &delta, const Tensor &A, const Tensor &B, const Tensor &C, const OptionalTensor &D, \
      const OptionalTensor &z, const OptionalTensor &delta_bias, bool delta_softplus, bool complex,                 \
      bool zero_order_hold, const OptionalTensor &initial_state, const OptionalTensor &positions
#define SCAN_ARGUMENTS \
  u, delta, A, B, C, D, z, delta_bias, delta_softplus, complex, zero_order_hold, initial_state, positions

NineTensors tuple_of(const InputGradients& g) {
  return {g.u, g.delta, g.A, g.B, g.C, g.D, g.z, g.delta_bias, g.initial_state};
}

template <bool kReference>
YAndState scan_cpu(SCAN_PARAMETERS) {
  const Outputs out = forward_cpu({SCAN_ARGUMENTS}, kReference, false);
  return {out.y, out.last_state};
}
YAndState scan_meta(SCAN_PARAMETERS) {
  const Outputs out = forward_meta({SCAN_ARGUMENTS}, false);
  return {out.y, out.last_state};
}
YStateAndCheckpoints kept_cpu(SCAN_PARAMETERS) {
  const Outputs out = forward_cpu({SCAN_ARGUMENTS}, false, true);
  return {out.y, out.last_state, out.checkpoints};
}
YStateAndCheckpoints kept_meta(SCAN_PARAMETERS) {
  const Outputs out = forward_meta({SCAN_ARGUMENTS}, true);
  return {out.y, out.last_state, out.checkpoints};
}
template <bool kReference>
NineTensors gradients_cpu(const OptionalTensor& grad_y, const OptionalTensor& grad_last_state, SCAN_PARAMETERS,
                          const OptionalTensor& checkpoints) {
  return tuple_of(backward_cpu(grad_y, grad_last_state, {SCAN_ARGUMENTS}, checkpoints, kReference));
}
NineTensors gradients_meta(const OptionalTensor&, const OptionalTensor&, SCAN_PARAMETERS, const OptionalTensor&) {
  return tuple_of(backward_meta({SCAN_ARGUMENTS}));
}

// ---- calls through the dispatcher
// ----------------------------------------------------------------------------------------

template <class Signature>
c10::TypedOperatorHandle<Signature> find_op(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

using ScanSignature = YAndState(SCAN_PARAMETERS);
using KeptSignature = YStateAndCheckpoints(SCAN_PARAMETERS);
using BackwardSignature = NineTensors(const OptionalTensor& grad_y, const OptionalTensor& grad_last_state,
                                      SCAN_PARAMETERS, const OptionalTensor& checkpoints);

YAndState call_scan(bool reference, SCAN_PARAMETERS) {
  static const auto fused_op = find_op<ScanSignature>("hippodrome::selective_scan");
  static const auto reference_op = find_op<ScanSignature>("hippodrome::selective_scan_reference");
  return (reference ? reference_op : fused_op).call(SCAN_ARGUMENTS);
}

NineTensors call_backward(bool reference, const OptionalTensor& grad_y, const OptionalTensor& grad_last_state,
                          SCAN_PARAMETERS, const OptionalTensor& checkpoints) {
  static const auto fused_op = find_op<BackwardSignature>("hippodrome::_selective_scan_backward");
  static const auto reference_op = find_op<BackwardSignature>("hippodrome::_selective_scan_reference_backward");
  return (reference ? reference_op : fused_op).call(grad_y, grad_last_state, SCAN_ARGUMENTS, checkpoints);
}

// ---- autograd
// ------------------------------------------------------------------------------------------------------------

OptionalTensor optional_of(const Tensor& t) { return t.defined() ? OptionalTensor(t) : std::nullopt; }

template <bool kReference>
struct ScanFunction : torch::autograd::Function<ScanFunction<kReference>> {
  static variable_list forward(AutogradContext* context, SCAN_PARAMETERS) {
    const at::AutoDispatchBelowADInplaceOrView below;
    Tensor y, last_state, checkpoints;
    if constexpr (kReference) {
      std::tie(y, last_state) = call_scan(true, SCAN_ARGUMENTS);
    } else {
      static const auto op = find_op<KeptSignature>("hippodrome::_selective_scan_forward");
      std::tie(y, last_state, checkpoints) = op.call(SCAN_ARGUMENTS);
    }
    const auto or_undefined = [](const OptionalTensor& t) { return t.value_or(Tensor()); };
    context->save_for_backward({u, delta, A, B, C, or_undefined(D), or_undefined(z), or_undefined(delta_bias),
                                or_undefined(initial_state), or_undefined(positions), checkpoints});
    context->saved_data["delta_softplus"] = delta_softplus;
    context->saved_data["complex"] = complex;
    context->saved_data["zero_order_hold"] = zero_order_hold;
    context->set_materialize_grads(false);
    return {y, last_state};
  }

  static variable_list backward(AutogradContext* context, variable_list grad) {
    if (!grad[0].defined() && !grad[1].defined()) return variable_list(13);
    const variable_list s = context->get_saved_variables();
    auto& data = context->saved_data;
    const auto [u, delta, A, B, C, D, z, delta_bias, initial_state] = call_backward(
        kReference, optional_of(grad[0]), optional_of(grad[1]), s[0], s[1], s[2], s[3], s[4], optional_of(s[5]),
        optional_of(s[6]), optional_of(s[7]), data["delta_softplus"].toBool(), data["complex"].toBool(),
        data["zero_order_hold"].toBool(), optional_of(s[8]), optional_of(s[9]), optional_of(s[10]));
    const auto if_given = [](const Tensor& input, const Tensor& gradient) {
      return input.defined() ? gradient : Tensor();
    };
    return {u,
            delta,
            A,
            B,
            C,
            if_given(s[5], D),
            if_given(s[6], z),
            if_given(s[7], delta_bias),
            Tensor(),
            Tensor(),
            Tensor(),
            if_given(s[8], initial_state),
            Tensor()};
  }
};

bool needs_gradient(const Tensor& t) { return t.defined() && t.requires_grad(); }
bool needs_gradient(const OptionalTensor& t) { return t.has_value() && needs_gradient(*t); }

template <bool kReference>
YAndState scan_autograd(SCAN_PARAMETERS) {
  const bool needed =
      at::GradMode::is_enabled() &&
      (needs_gradient(u) || needs_gradient(delta) || needs_gradient(A) || needs_gradient(B) || needs_gradient(C) ||
       needs_gradient(D) || needs_gradient(z) || needs_gradient(delta_bias) || needs_gradient(initial_state));
  if (!needed) {
    const at::AutoDispatchBelowADInplaceOrView below;
    return call_scan(kReference, SCAN_ARGUMENTS);
  }
  const variable_list out = ScanFunction<kReference>::apply(SCAN_ARGUMENTS);
  return {out[0], out[1]};
}

constexpr char kOnce[] =
    " can be differentiated once only: its backward has no derivative. Call backward without create_graph=true, or "
    "differentiate "
    "selective_scan itself";

// Runs below autograd and hangs an error on the result, for what has no derivative of its own.
template <bool kReference>
struct BackwardFunction : torch::autograd::Function<BackwardFunction<kReference>> {
  static variable_list forward(AutogradContext*, const OptionalTensor& grad_y, const OptionalTensor& grad_last_state,
                               SCAN_PARAMETERS, const OptionalTensor& checkpoints) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const auto g = call_backward(kReference, grad_y, grad_last_state, SCAN_ARGUMENTS, checkpoints);
    return std::apply([](const auto&... t) { return variable_list{t...}; }, g);
  }
  static variable_list backward(AutogradContext*, const variable_list&) { TORCH_CHECK(false, "selective_scan", kOnce); }
};

template <bool kReference>
NineTensors backward_autograd(const OptionalTensor& grad_y, const OptionalTensor& grad_last_state, SCAN_PARAMETERS,
                              const OptionalTensor& checkpoints) {
  const variable_list g = BackwardFunction<kReference>::apply(grad_y, grad_last_state, SCAN_ARGUMENTS, checkpoints);
  return {g[0], g[1], g[2], g[3], g[4], g[5], g[6], g[7], g[8]};
}

struct KeptFunction : torch::autograd::Function<KeptFunction> {
  static variable_list forward(AutogradContext*, SCAN_PARAMETERS) {
    const at::AutoDispatchBelowADInplaceOrView below;
    static const auto op = find_op<KeptSignature>("hippodrome::_selective_scan_forward");
    const auto [y, last_state, checkpoints] = op.call(SCAN_ARGUMENTS);
    return {y, last_state, checkpoints};
  }
  static variable_list backward(AutogradContext*, const variable_list&) {
    TORCH_CHECK(false, "_selective_scan_forward has no derivative of its own: call selective_scan");
  }
};

YStateAndCheckpoints kept_autograd(SCAN_PARAMETERS) {
  const variable_list out = KeptFunction::apply(SCAN_ARGUMENTS);
  return {out[0], out[1], out[2]};
}

#define SCAN_SCHEMA                                                                                                 \
  "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D=None, Tensor? z=None, Tensor? delta_bias=None, " \
  "bool delta_softplus=False, bool complex=False, bool zero_order_hold=False, Tensor? initial_state=None, "         \
  "Tensor? positions=None"
#define BACKWARD_SCHEMA                                                                                        \
  "(Tensor? grad_y, Tensor? grad_last_state, " SCAN_SCHEMA                                                     \
  ", Tensor? checkpoints=None) -> (Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor D, Tensor z, " \
  "Tensor delta_bias, Tensor initial_state)"

TORCH_LIBRARY_FRAGMENT(hippodrome, m) {
  m.def("selective_scan(" SCAN_SCHEMA ") -> (Tensor y, Tensor last_state)");
  m.def("selective_scan_reference(" SCAN_SCHEMA ") -> (Tensor y, Tensor last_state)");
  m.def("_selective_scan_forward(" SCAN_SCHEMA ") -> (Tensor y, Tensor last_state, Tensor checkpoints)");
  // The gradient of an argument that is absent comes back with no elements.
  m.def("_selective_scan_backward" BACKWARD_SCHEMA);
  m.def("_selective_scan_reference_backward" BACKWARD_SCHEMA);
}

TORCH_LIBRARY_IMPL(hippodrome, CPU, m) {
  m.impl("selective_scan", scan_cpu<false>);
  m.impl("selective_scan_reference", scan_cpu<true>);
  m.impl("_selective_scan_forward", kept_cpu);
  m.impl("_selective_scan_backward", gradients_cpu<false>);
  m.impl("_selective_scan_reference_backward", gradients_cpu<true>);
}

TORCH_LIBRARY_IMPL(hippodrome, Meta, m) {
  m.impl("selective_scan", scan_meta);
  m.impl("selective_scan_reference", scan_meta);
  m.impl("_selective_scan_forward", kept_meta);
  m.impl("_selective_scan_backward", gradients_meta);
  m.impl("_selective_scan_reference_backward", gradients_meta);
}

TORCH_LIBRARY_IMPL(hippodrome, Autograd, m) {
  m.impl("selective_scan", scan_autograd<false>);
  m.impl("selective_scan_reference", scan_autograd<true>);
  m.impl("_selective_scan_forward", kept_autograd);
  m.impl("_selective_scan_backward", backward_autograd<false>);
  m.impl("_selective_scan_reference_backward", backward_autograd<true>);
}

YAndState call_with(bool reference, const SelectiveScanArguments& a) {
  return call_scan(reference, a.u, a.delta, a.A, a.B, a.C, a.D, a.z, a.delta_bias, a.delta_softplus, a.complex,
                   a.zero_order_hold, a.initial_state, a.positions);
}

#undef SCAN_PARAMETERS
#undef SCAN_ARGUMENTS
#undef SCAN_SCHEMA
#undef BACKWARD_SCHEMA

}  // namespace
}  // namespace hippodrome::s6

namespace hippodrome {

std::tuple<at::Tensor, at::Tensor> selective_scan(const SelectiveScanArguments& arguments) {
  return s6::call_with(false, arguments);
}

at::Tensor selective_scan_in_place(const SelectiveScanArguments& arguments, const at::Tensor& state) {
  s6::Arguments a = arguments;
  a.initial_state = state;
  s6::check_arguments(a);
  TORCH_CHECK(
      !at::GradMode::is_enabled() && state.is_contiguous() && a.u.is_cpu() &&
          state.scalar_type() == s6::working_dtype(a.u.scalar_type()),
      "selective_scan_in_place: needs a contiguous state in the working dtype, tensors on the CPU and no gradients");
  return (a.u.scalar_type() == at::kDouble ? s6::forward_cpu_as<double>(a, false, false, state)
                                           : s6::forward_cpu_as<float>(a, false, false, state))
      .y;
}

std::tuple<at::Tensor, at::Tensor> selective_scan_reference(const SelectiveScanArguments& arguments) {
  return s6::call_with(true, arguments);
}

}  // namespace hippodrome

// Registration of SSD with LibTorch: schemas, CPU and meta kernels, autograd.
#include "architectures/ssm/ssd/op.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "architectures/ssm/ssd/binding.h"
#include "architectures/ssm/ssd/reference.h"
#include "architectures/ssm/ssd/ssd.h"
#include "core/tensor/flop_meter.h"

namespace hippodrome::ssd_kernel {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Below this many state updates a thread costs more to wake than it saves (about 20 us of work).
constexpr int64_t kUpdatesPerTask = 1 << 18;

template <class T, class Body>
void parallel_items(const Params<T>& p, const Body& body) {
  const int64_t items = work_items(p);
  const int64_t updates_per_item = p.length * p.states * p.head_size * kHeadBlock;
  at::parallel_for(0, items, std::max<int64_t>(1, kUpdatesPerTask / std::max<int64_t>(1, updates_per_item)), body);
}

// ---- forward ----

template <class T>
Outputs forward_cpu_as(const Arguments& arguments, bool reference, bool keep, const Tensor& state = Tensor()) {
  const Bound<T> bound(arguments);
  Params<T> p = bound.params;
  Outputs out = allocate_outputs(p, arguments, keep, state);
  p.y = out.y.mutable_data_ptr<T>();
  p.last_state = out.last_state.mutable_data_ptr<T>();
  p.checkpoints = keep ? out.checkpoints.mutable_data_ptr<T>() : nullptr;
  if (reference) {
    run_counted(p, [](const auto& params) { ssd_reference(params); });
  } else {
    parallel_items(p, [&](int64_t begin, int64_t end) { forward(p, begin, end); });
  }
  out.y = out.y.to(arguments.x.scalar_type());
  return out;
}

Outputs forward_cpu(const Arguments& arguments, bool reference, bool keep) {
  check_arguments(arguments);
  return arguments.x.scalar_type() == at::kDouble ? forward_cpu_as<double>(arguments, reference, keep)
                                                  : forward_cpu_as<float>(arguments, reference, keep);
}

Outputs forward_meta(const Arguments& a, bool keep) {
  check_arguments(a);
  const c10::SymInt batch = a.x.sym_size(0), heads = a.x.sym_size(2), head_size = a.x.sym_size(3),
                    states = a.B.sym_size(3);
  const auto options = a.x.options().dtype(working_dtype(a.x.scalar_type()));
  const c10::SymInt kept = keep ? (a.x.sym_size(1) + (a.chunk - 1)) / a.chunk : c10::SymInt(0);
  return {at::empty_symint(a.x.sym_sizes(), a.x.options()),
          at::empty_symint({batch, heads, head_size, states}, options),
          at::empty_symint({batch, kept, heads, states, head_size}, options)};
}

// ---- backward ----

// Adds the head blocks' partial sums in order: [B, G, blocks, L, N] -> [B, L, G, N].
template <class T>
void sum_head_blocks(const Params<T>& p, const T* partial, T* sum) {
  const int64_t blocks = head_blocks(p.heads, p.groups), N = p.states, L = p.length;
  constexpr int64_t kRowsPerTask = 128;
  at::parallel_for(0, p.batch * L, kRowsPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t g = 0; g < p.groups; ++g) {
        T* to = sum + (row * p.groups + g) * N;
        const T* from = partial + ((row / L * p.groups + g) * blocks * L + row % L) * N;
        std::copy(from, from + N, to);
        for (int64_t block = 1; block < blocks; ++block) {
          for (int64_t n = 0; n < N; ++n) to[n] += from[block * L * N + n];
        }
      }
    }
  });
}

// Adds the rows of [B, H] in order.
template <class T>
void sum_batch(const Params<T>& p, const T* partial, T* sum) {
  std::copy(partial, partial + p.heads, sum);
  for (int64_t b = 1; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads; ++h) sum[h] += partial[b * p.heads + h];
  }
}

template <class T>
void run_fused_backward(const Params<T>& p, const Gradients<T>& total) {
  const auto options = at::TensorOptions().dtype(c10::CppTypeToScalarType<T>::value);
  const auto buffer = [&](int64_t size) { return at::empty({size}, options); };
  const Tensor B = buffer(work_items(p) * p.length * p.states), C = buffer(work_items(p) * p.length * p.states);
  const Tensor A = buffer(p.batch * p.heads), D = buffer(p.batch * p.heads), bias = buffer(p.batch * p.heads);
  Gradients<T> partial = total;
  partial.A = A.mutable_data_ptr<T>();
  partial.B = B.mutable_data_ptr<T>();
  partial.C = C.mutable_data_ptr<T>();
  partial.D = total.D != nullptr ? D.mutable_data_ptr<T>() : nullptr;
  partial.dt_bias = total.dt_bias != nullptr ? bias.mutable_data_ptr<T>() : nullptr;
  parallel_items(p, [&](int64_t begin, int64_t end) { backward(p, partial, begin, end); });

  sum_head_blocks(p, partial.B, total.B);
  sum_head_blocks(p, partial.C, total.C);
  sum_batch(p, partial.A, total.A);
  if (total.D != nullptr) sum_batch(p, partial.D, total.D);
  if (total.dt_bias != nullptr) sum_batch(p, partial.dt_bias, total.dt_bias);
}

template <class T>
InputGradients backward_cpu_as(const OptionalTensor& grad_y, const OptionalTensor& grad_last_state,
                               const Arguments& arguments, const OptionalTensor& checkpoints, bool reference) {
  const Bound<T> bound(arguments);
  Params<T> p = bound.params;
  InputGradients out = allocate_gradients<T>(arguments);
  Tensor dy, dlast;
  Gradients<T> g;
  if (grad_y.has_value()) g.y = bind_rows<T>(*grad_y, dy);
  if (grad_last_state.has_value()) g.last_state = bind_contiguous<T>(*grad_last_state, dlast);
  const auto data = [](const Tensor& t) { return t.numel() > 0 ? t.mutable_data_ptr<T>() : nullptr; };
  g.x = data(out.x), g.dt = data(out.dt), g.z = data(out.z), g.initial_state = data(out.initial_state);
  g.A = data(out.A), g.B = data(out.B), g.C = data(out.C), g.D = data(out.D), g.dt_bias = data(out.dt_bias);
  Tensor kept;
  if (reference) {
    ssd_reference_backward(p, g);
  } else if (p.batch * p.length > 0) {
    TORCH_CHECK(checkpoints.has_value(), "_ssd_backward needs the checkpoints that _ssd_forward returned");
    kept = checkpoints->to(c10::CppTypeToScalarType<T>::value).contiguous();
    TORCH_CHECK(kept.numel() == p.batch * chunks(p.length, p.chunk) * p.heads * p.states * p.head_size,
                "_ssd_backward: checkpoints do not have the size that _ssd_forward returned");
    p.checkpoints = kept.mutable_data_ptr<T>();
    run_fused_backward(p, g);
  } else {
    out.A.zero_(), out.D.zero_(), out.dt_bias.zero_();
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
  return arguments.x.scalar_type() == at::kDouble
             ? backward_cpu_as<double>(grad_y, grad_last_state, arguments, checkpoints, reference)
             : backward_cpu_as<float>(grad_y, grad_last_state, arguments, checkpoints, reference);
}

InputGradients backward_meta(const Arguments& a) {
  check_arguments(a);
  const auto same = [](const Tensor& like) { return at::empty_symint(like.sym_sizes(), like.options()); };
  // One for each absent input: outputs must not share memory.
  const auto same_if_given = [&](const OptionalTensor& like) {
    return like.has_value() ? same(*like) : at::empty({0}, a.x.options());
  };
  return {same(a.x),
          same(a.dt),
          same(a.A),
          same(a.B),
          same(a.C),
          same_if_given(a.D),
          same_if_given(a.z),
          same_if_given(a.dt_bias),
          same_if_given(a.initial_state)};
}

// ---- adapters from the dispatcher's long argument lists ----

using YAndState = std::tuple<Tensor, Tensor>;
using YStateAndCheckpoints = std::tuple<Tensor, Tensor, Tensor>;
using NineTensors = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

#define SSD_PARAMETERS                                                                                           \
  const Tensor &x, const Tensor &dt, const Tensor &A, const Tensor &B, const Tensor &C, const OptionalTensor &D, \
      const OptionalTensor &z, const OptionalTensor &dt_bias, bool dt_softplus, double dt_low,                   \
      std::optional<double> dt_high, int64_t chunk, const OptionalTensor &initial_state,                         \
      const OptionalTensor &positions
#define SSD_ARGUMENTS x, dt, A, B, C, D, z, dt_bias, dt_softplus, dt_low, dt_high, chunk, initial_state, positions

NineTensors tuple_of(const InputGradients& g) {
  return {g.x, g.dt, g.A, g.B, g.C, g.D, g.z, g.dt_bias, g.initial_state};
}

template <bool kReference>
YAndState scan_cpu(SSD_PARAMETERS) {
  const Outputs out = forward_cpu({SSD_ARGUMENTS}, kReference, false);
  return {out.y, out.last_state};
}
YAndState scan_meta(SSD_PARAMETERS) {
  const Outputs out = forward_meta({SSD_ARGUMENTS}, false);
  return {out.y, out.last_state};
}
YStateAndCheckpoints kept_cpu(SSD_PARAMETERS) {
  const Outputs out = forward_cpu({SSD_ARGUMENTS}, false, true);
  return {out.y, out.last_state, out.checkpoints};
}
YStateAndCheckpoints kept_meta(SSD_PARAMETERS) {
  const Outputs out = forward_meta({SSD_ARGUMENTS}, true);
  return {out.y, out.last_state, out.checkpoints};
}
template <bool kReference>
NineTensors gradients_cpu(const OptionalTensor& grad_y, const OptionalTensor& grad_last_state, SSD_PARAMETERS,
                          const OptionalTensor& checkpoints) {
  return tuple_of(backward_cpu(grad_y, grad_last_state, {SSD_ARGUMENTS}, checkpoints, kReference));
}
NineTensors gradients_meta(const OptionalTensor&, const OptionalTensor&, SSD_PARAMETERS, const OptionalTensor&) {
  return tuple_of(backward_meta({SSD_ARGUMENTS}));
}

// ---- calls through the dispatcher ----

template <class Signature>
c10::TypedOperatorHandle<Signature> find_op(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

using ScanSignature = YAndState(SSD_PARAMETERS);
using KeptSignature = YStateAndCheckpoints(SSD_PARAMETERS);
using BackwardSignature = NineTensors(const OptionalTensor& grad_y, const OptionalTensor& grad_last_state,
                                      SSD_PARAMETERS, const OptionalTensor& checkpoints);

YAndState call_scan(bool reference, SSD_PARAMETERS) {
  static const auto fused_op = find_op<ScanSignature>("hippodrome::ssd");
  static const auto reference_op = find_op<ScanSignature>("hippodrome::ssd_reference");
  return (reference ? reference_op : fused_op).call(SSD_ARGUMENTS);
}

NineTensors call_backward(bool reference, const OptionalTensor& grad_y, const OptionalTensor& grad_last_state,
                          SSD_PARAMETERS, const OptionalTensor& checkpoints) {
  static const auto fused_op = find_op<BackwardSignature>("hippodrome::_ssd_backward");
  static const auto reference_op = find_op<BackwardSignature>("hippodrome::_ssd_reference_backward");
  return (reference ? reference_op : fused_op).call(grad_y, grad_last_state, SSD_ARGUMENTS, checkpoints);
}

// ---- autograd ----

OptionalTensor optional_of(const Tensor& t) { return t.defined() ? OptionalTensor(t) : std::nullopt; }

template <bool kReference>
struct SsdFunction : torch::autograd::Function<SsdFunction<kReference>> {
  static variable_list forward(AutogradContext* context, SSD_PARAMETERS) {
    const at::AutoDispatchBelowADInplaceOrView below;
    Tensor y, last_state, checkpoints;
    if constexpr (kReference) {
      std::tie(y, last_state) = call_scan(true, SSD_ARGUMENTS);
    } else {
      static const auto op = find_op<KeptSignature>("hippodrome::_ssd_forward");
      std::tie(y, last_state, checkpoints) = op.call(SSD_ARGUMENTS);
    }
    const auto or_undefined = [](const OptionalTensor& t) { return t.value_or(Tensor()); };
    context->save_for_backward({x, dt, A, B, C, or_undefined(D), or_undefined(z), or_undefined(dt_bias),
                                or_undefined(initial_state), or_undefined(positions), checkpoints});
    context->saved_data["dt_softplus"] = dt_softplus;
    context->saved_data["dt_low"] = dt_low;
    context->saved_data["dt_high"] = dt_high;
    context->saved_data["chunk"] = chunk;
    context->set_materialize_grads(false);
    return {y, last_state};
  }

  static variable_list backward(AutogradContext* context, variable_list grad) {
    if (!grad[0].defined() && !grad[1].defined()) return variable_list(14);
    const variable_list s = context->get_saved_variables();
    auto& data = context->saved_data;
    const auto [x, dt, A, B, C, D, z, dt_bias, initial_state] =
        call_backward(kReference, optional_of(grad[0]), optional_of(grad[1]), s[0], s[1], s[2], s[3], s[4],
                      optional_of(s[5]), optional_of(s[6]), optional_of(s[7]), data["dt_softplus"].toBool(),
                      data["dt_low"].toDouble(), data["dt_high"].toOptional<double>(), data["chunk"].toInt(),
                      optional_of(s[8]), optional_of(s[9]), optional_of(s[10]));
    const auto if_given = [](const Tensor& input, const Tensor& gradient) {
      return input.defined() ? gradient : Tensor();
    };
    const Tensor none;
    return {x,
            dt,
            A,
            B,
            C,
            if_given(s[5], D),
            if_given(s[6], z),
            if_given(s[7], dt_bias),
            none,
            none,
            none,
            none,
            if_given(s[8], initial_state),
            none};
  }
};

bool needs_gradient(const Tensor& t) { return t.defined() && t.requires_grad(); }
bool needs_gradient(const OptionalTensor& t) { return t.has_value() && needs_gradient(*t); }

template <bool kReference>
YAndState scan_autograd(SSD_PARAMETERS) {
  const bool needed =
      at::GradMode::is_enabled() &&
      (needs_gradient(x) || needs_gradient(dt) || needs_gradient(A) || needs_gradient(B) || needs_gradient(C) ||
       needs_gradient(D) || needs_gradient(z) || needs_gradient(dt_bias) || needs_gradient(initial_state));
  if (!needed) {
    const at::AutoDispatchBelowADInplaceOrView below;
    return call_scan(kReference, SSD_ARGUMENTS);
  }
  const variable_list out = SsdFunction<kReference>::apply(SSD_ARGUMENTS);
  return {out[0], out[1]};
}

// Runs below autograd and hangs an error on the result, for what has no derivative of its own.
template <bool kReference>
struct BackwardFunction : torch::autograd::Function<BackwardFunction<kReference>> {
  static variable_list forward(AutogradContext*, const OptionalTensor& grad_y, const OptionalTensor& grad_last_state,
                               SSD_PARAMETERS, const OptionalTensor& checkpoints) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const auto g = call_backward(kReference, grad_y, grad_last_state, SSD_ARGUMENTS, checkpoints);
    return std::apply([](const auto&... t) { return variable_list{t...}; }, g);
  }
  static variable_list backward(AutogradContext*, const variable_list&) {
    TORCH_CHECK(false,
                "ssd can be differentiated once only: its backward has no derivative. Call backward without "
                "create_graph=true, or differentiate ssd itself");
  }
};

template <bool kReference>
NineTensors backward_autograd(const OptionalTensor& grad_y, const OptionalTensor& grad_last_state, SSD_PARAMETERS,
                              const OptionalTensor& checkpoints) {
  const variable_list g = BackwardFunction<kReference>::apply(grad_y, grad_last_state, SSD_ARGUMENTS, checkpoints);
  return {g[0], g[1], g[2], g[3], g[4], g[5], g[6], g[7], g[8]};
}

struct KeptFunction : torch::autograd::Function<KeptFunction> {
  static variable_list forward(AutogradContext*, SSD_PARAMETERS) {
    const at::AutoDispatchBelowADInplaceOrView below;
    static const auto op = find_op<KeptSignature>("hippodrome::_ssd_forward");
    const auto [y, last_state, checkpoints] = op.call(SSD_ARGUMENTS);
    return {y, last_state, checkpoints};
  }
  static variable_list backward(AutogradContext*, const variable_list&) {
    TORCH_CHECK(false, "_ssd_forward has no derivative of its own: call ssd");
  }
};

YStateAndCheckpoints kept_autograd(SSD_PARAMETERS) {
  const variable_list out = KeptFunction::apply(SSD_ARGUMENTS);
  return {out[0], out[1], out[2]};
}

#define SSD_SCHEMA                                                                                             \
  "Tensor x, Tensor dt, Tensor A, Tensor B, Tensor C, Tensor? D=None, Tensor? z=None, Tensor? dt_bias=None, "  \
  "bool dt_softplus=False, float dt_low=0.0, float? dt_high=None, int chunk=256, Tensor? initial_state=None, " \
  "Tensor? positions=None"
#define BACKWARD_SCHEMA                                                                                     \
  "(Tensor? grad_y, Tensor? grad_last_state, " SSD_SCHEMA                                                   \
  ", Tensor? checkpoints=None) -> (Tensor x, Tensor dt, Tensor A, Tensor B, Tensor C, Tensor D, Tensor z, " \
  "Tensor dt_bias, Tensor initial_state)"

TORCH_LIBRARY_FRAGMENT(hippodrome, m) {
  m.def("ssd(" SSD_SCHEMA ") -> (Tensor y, Tensor last_state)");
  m.def("ssd_reference(" SSD_SCHEMA ") -> (Tensor y, Tensor last_state)");
  m.def("_ssd_forward(" SSD_SCHEMA ") -> (Tensor y, Tensor last_state, Tensor checkpoints)");
  // The gradient of an argument that is absent comes back with no elements.
  m.def("_ssd_backward" BACKWARD_SCHEMA);
  m.def("_ssd_reference_backward" BACKWARD_SCHEMA);
}

TORCH_LIBRARY_IMPL(hippodrome, CPU, m) {
  m.impl("ssd", scan_cpu<false>);
  m.impl("ssd_reference", scan_cpu<true>);
  m.impl("_ssd_forward", kept_cpu);
  m.impl("_ssd_backward", gradients_cpu<false>);
  m.impl("_ssd_reference_backward", gradients_cpu<true>);
}

TORCH_LIBRARY_IMPL(hippodrome, Meta, m) {
  m.impl("ssd", scan_meta);
  m.impl("ssd_reference", scan_meta);
  m.impl("_ssd_forward", kept_meta);
  m.impl("_ssd_backward", gradients_meta);
  m.impl("_ssd_reference_backward", gradients_meta);
}

TORCH_LIBRARY_IMPL(hippodrome, Autograd, m) {
  m.impl("ssd", scan_autograd<false>);
  m.impl("ssd_reference", scan_autograd<true>);
  m.impl("_ssd_forward", kept_autograd);
  m.impl("_ssd_backward", backward_autograd<false>);
  m.impl("_ssd_reference_backward", backward_autograd<true>);
}

YAndState call_with(bool reference, const SsdArguments& a) {
  return call_scan(reference, a.x, a.dt, a.A, a.B, a.C, a.D, a.z, a.dt_bias, a.dt_softplus, a.dt_low, a.dt_high,
                   a.chunk, a.initial_state, a.positions);
}

#undef SSD_PARAMETERS
#undef SSD_ARGUMENTS
#undef SSD_SCHEMA
#undef BACKWARD_SCHEMA

}  // namespace
}  // namespace hippodrome::ssd_kernel

namespace hippodrome {

std::tuple<at::Tensor, at::Tensor> ssd(const SsdArguments& arguments) {
  return ssd_kernel::call_with(false, arguments);
}

at::Tensor ssd_in_place(const SsdArguments& arguments, const at::Tensor& state) {
  ssd_kernel::Arguments a = arguments;
  a.initial_state = state;
  ssd_kernel::check_arguments(a);
  TORCH_CHECK(!at::GradMode::is_enabled() && state.is_contiguous() && a.x.is_cpu() &&
                  state.scalar_type() == ssd_kernel::working_dtype(a.x.scalar_type()),
              "ssd_in_place: needs a contiguous state in the working dtype, tensors on the CPU and no gradients");
  return (a.x.scalar_type() == at::kDouble ? ssd_kernel::forward_cpu_as<double>(a, false, false, state)
                                           : ssd_kernel::forward_cpu_as<float>(a, false, false, state))
      .y;
}

std::tuple<at::Tensor, at::Tensor> ssd_reference(const SsdArguments& arguments) {
  return ssd_kernel::call_with(true, arguments);
}

}  // namespace hippodrome

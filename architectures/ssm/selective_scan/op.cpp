// Registration of the selective scan with LibTorch: schemas, shape checks, CPU and meta kernels, autograd.
#include "architectures/ssm/selective_scan/op.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <torch/library.h>

#include "architectures/ssm/scan_operator.h"
#include "architectures/ssm/selective_scan/binding.h"
#include "architectures/ssm/selective_scan/reference.h"
#include "architectures/ssm/selective_scan/selective_scan.h"
#include "core/tensor/flop_meter.h"

namespace hippodrome::s6 {
namespace {

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

// ---- forward ----

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
  const auto options = arguments.u.options().dtype(compute_dtype(arguments.u));
  const c10::SymInt kept = keep ? (length + (kChunk - 1)) / kChunk : c10::SymInt(0);
  return {empty_channels_last(arguments.u, arguments.u.scalar_type()),
          at::empty_symint({batch, channels, states}, options),
          at::empty_symint({batch, kept, states, channels}, options)};
}

// ---- backward ----

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
  constexpr auto dtype = c10::CppTypeToScalarType<T>::value;
  InputGradients out = allocate_gradients(arguments, dtype, dtype);
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
    kept = checkpoints->to(dtype).contiguous();
    TORCH_CHECK(kept.numel() == p.batch * chunks(p.length) * p.states * p.channels,
                "_selective_scan_backward: checkpoints do not have the size that _selective_scan_forward returned");
    p.checkpoints = kept.mutable_data_ptr<T>();
    run_fused_backward(p, g);
  } else {
    set_gradients_of_nothing(out, grad_last_state);
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
  const auto channels_last = [](const Tensor& like) { return empty_channels_last(like, like.scalar_type()); };
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

// ---- the operator ----

struct SelectiveScan {
  static constexpr const char* kName = "selective_scan";
  using Parameters = void(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
                          const OptionalTensor& D, const OptionalTensor& z, const OptionalTensor& delta_bias,
                          bool delta_softplus, bool complex, bool zero_order_hold, const OptionalTensor& initial_state,
                          const OptionalTensor& positions);
  static constexpr auto forward_cpu = s6::forward_cpu;
  static constexpr auto forward_meta = s6::forward_meta;
  static constexpr auto backward_cpu = s6::backward_cpu;
  static constexpr auto backward_meta = s6::backward_meta;
};
using Operator = ScanOperator<SelectiveScan>;

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

TORCH_LIBRARY_IMPL(hippodrome, CPU, m) { Operator::implement_on_cpu(m); }
TORCH_LIBRARY_IMPL(hippodrome, Meta, m) { Operator::implement_on_meta(m); }
TORCH_LIBRARY_IMPL(hippodrome, Autograd, m) { Operator::implement_autograd(m); }

Operator::YAndState call_with(bool reference, const SelectiveScanArguments& a) {
  return Operator::call_scan(reference, a.u, a.delta, a.A, a.B, a.C, a.D, a.z, a.delta_bias, a.delta_softplus,
                             a.complex, a.zero_order_hold, a.initial_state, a.positions);
}

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
  TORCH_CHECK(!at::GradMode::is_enabled() && state.is_contiguous() && state.scalar_type() == compute_dtype(a.u),
              "selective_scan_in_place: needs a contiguous state in the working dtype and no gradients");
  if (!a.u.is_cpu()) {
    const auto [y, last_state] = s6::call_with(false, a);
    state.copy_(last_state);
    return y;
  }
  return (a.u.scalar_type() == at::kDouble ? s6::forward_cpu_as<double>(a, false, false, state)
                                           : s6::forward_cpu_as<float>(a, false, false, state))
      .y;
}

std::tuple<at::Tensor, at::Tensor> selective_scan_reference(const SelectiveScanArguments& arguments) {
  return s6::call_with(true, arguments);
}

}  // namespace hippodrome

// Registration of SSD with LibTorch: schemas, CPU and meta kernels, autograd.
#include "architectures/ssm/ssd/op.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "architectures/ssm/scan_operator.h"
#include "architectures/ssm/ssd/binding.h"
#include "architectures/ssm/ssd/reference.h"
#include "architectures/ssm/ssd/ssd.h"
#include "core/tensor/flop_meter.h"

namespace hippodrome::ssd_kernel {
namespace {

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
  const auto options = a.x.options().dtype(compute_dtype(a.x));
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

// ---- the operator ----

struct Ssd {
  static constexpr const char* kName = "ssd";
  using Parameters = OperatorParameters;
  static constexpr auto forward_cpu = ssd_kernel::forward_cpu;
  static constexpr auto forward_meta = ssd_kernel::forward_meta;
  static constexpr auto backward_cpu = ssd_kernel::backward_cpu;
  static constexpr auto backward_meta = ssd_kernel::backward_meta;
};
using Operator = ScanOperator<Ssd>;

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

TORCH_LIBRARY_IMPL(hippodrome, CPU, m) { Operator::implement_on_cpu(m); }
TORCH_LIBRARY_IMPL(hippodrome, Meta, m) { Operator::implement_on_meta(m); }
TORCH_LIBRARY_IMPL(hippodrome, Autograd, m) { Operator::implement_autograd(m); }

Operator::YAndState call_with(bool reference, const SsdArguments& a) {
  return Operator::call_scan(reference, a.x, a.dt, a.A, a.B, a.C, a.D, a.z, a.dt_bias, a.dt_softplus, a.dt_low,
                             a.dt_high, a.chunk, a.initial_state, a.positions);
}

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
  TORCH_CHECK(
      !at::GradMode::is_enabled() && state.is_contiguous() && a.x.is_cpu() && state.scalar_type() == compute_dtype(a.x),
      "ssd_in_place: needs a contiguous state in the working dtype, tensors on the CPU and no gradients");
  return (a.x.scalar_type() == at::kDouble ? ssd_kernel::forward_cpu_as<double>(a, false, false, state)
                                           : ssd_kernel::forward_cpu_as<float>(a, false, false, state))
      .y;
}

std::tuple<at::Tensor, at::Tensor> ssd_reference(const SsdArguments& arguments) {
  return ssd_kernel::call_with(true, arguments);
}

}  // namespace hippodrome

// What the scans over complex modes (diagonal_scan, dplr_scan) have in common between LibTorch and their kernels: the
// arguments u, parameters, state and positions, their checks, what is allocated for results, and the binding of the
// kernels for the CPU. An operator adds what its parameters are.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/core/ScalarType.h>
#include <c10/util/Exception.h>

#include <array>
#include <utility>

#include "core/tensor/flop_meter.h"
#include "core/tensor/op_binding.h"

namespace hippodrome::mode_scan {

template <size_t kParameters>
struct Arguments {
  Tensor u;                                    // [B, D, L]
  std::array<Tensor, kParameters> parameters;  // the first [D, N, …]
  OptionalTensor state;                        // [B, D, N, 2]
  OptionalTensor positions;                    // [B, L]
};

struct Outputs {
  Tensor y;           // [B, D, L], channels contiguous
  Tensor last_state;  // [B, D, N, 2]
  Tensor checkpoints;
};

// Of u, the parameters and the state.
template <size_t kParameters>
using Gradients = std::array<Tensor, kParameters + 2>;

// The arguments one by one, as scan_operator.h wants them.
template <size_t kParameters, class = std::make_index_sequence<kParameters>>
struct ArgumentList;
template <size_t kParameters, size_t... I>
struct ArgumentList<kParameters, std::index_sequence<I...>> {
  template <size_t>
  using Parameter = const Tensor&;
  using Function = void(const Tensor& u, Parameter<I>... parameters, const OptionalTensor& state,
                        const OptionalTensor& positions);
};

// All but the parameters' shapes.
template <size_t kParameters>
void check(const char* op, const Arguments<kParameters>& a) {
  const auto dtype = a.u.scalar_type();
  TORCH_CHECK(dtype == at::kFloat || dtype == at::kDouble || dtype == at::kBFloat16, op,
              ": u must be float32, float64 or bfloat16, not ", dtype);
  TORCH_CHECK(a.u.dim() == 3, op, ": u must be [B, D, L], got ", a.u.sym_sizes());
  const auto check_type = [&](const Tensor& t) {
    TORCH_CHECK(t.is_floating_point() && (t.scalar_type() == at::kDouble) == (dtype == at::kDouble), op,
                ": float64 u, parameters and state go together; got ", dtype, " u with ", t.scalar_type());
    TORCH_CHECK(t.device() == a.u.device(), op, ": all tensors must be on ", a.u.device(), ", not ", t.device());
  };
  for (const Tensor& t : a.parameters) check_type(t);
  check_positions(op, a.positions, a.u.sym_size(0), a.u.sym_size(2));
  if (!given(a.state)) return;
  check_type(*a.state);
  const c10::SymInt batch = a.u.sym_size(0), channels = a.u.sym_size(1), states = a.parameters[0].sym_size(1);
  TORCH_CHECK(has_shape(*a.state, {batch, channels, states, 2}), op, ": state must be [B, D, N, 2] = [", batch, ", ",
              channels, ", ", states, ", 2], real and imaginary parts, got ", a.state->sym_sizes());
}

// [B, D, L] as kernels read it: contiguous [B, L, D].
inline Tensor channels_last(const Tensor& t, at::ScalarType dtype) { return t.transpose(1, 2).to(dtype).contiguous(); }

// ---- results ----

// Without checkpoints; y in `dtype`.
template <size_t kParameters>
Outputs make_outputs(const Arguments<kParameters>& a, at::ScalarType dtype) {
  return {empty_channels_last(a.u, dtype),
          at::empty_symint({a.u.sym_size(0), a.u.sym_size(1), a.parameters[0].sym_size(1), c10::SymInt(2)},
                           a.u.options().dtype(compute_dtype(a.u))),
          Tensor()};
}

// An output's gradient, zeros where there is none.
inline Tensor or_zeros(const OptionalTensor& gradient, c10::SymIntArrayRef sizes, const at::TensorOptions& options) {
  return given(gradient) ? *gradient : at::zeros_symint(sizes, options);
}

// In the dtypes of the inputs.
template <size_t kParameters>
Gradients<kParameters> cast_to_inputs(Gradients<kParameters> gradients, const Arguments<kParameters>& a) {
  gradients[0] = gradients[0].to(a.u.scalar_type());
  for (size_t i = 0; i < kParameters; ++i) gradients[i + 1] = gradients[i + 1].to(a.parameters[i].scalar_type());
  if (given(a.state)) gradients.back() = gradients.back().to(a.state->scalar_type());
  return gradients;
}

// ---- the CPU's operator, and its shapes for meta tensors ----

// As scan_operator.h wants it. `Scan` has
//   kName, kParameters, kChunk, kGroup           tokens between two checkpoints, channels of a work item
//   Forward<T>, Backward<T>                      the kernels' parameters (op.h)
//   check_parameters(u, parameters)              their shapes
//   set_parameters<T>(p, parameters), set_gradients<T>(p, gradients of the parameters)
//   forward_work(p), backward_work(p)            multiply-adds for a state of a token
//   forward, step, backward                      the kernels over [begin, end) of items, B · D rows and groups
//   forward_reference, backward_reference        the plain loops
template <class Scan>
struct OnCpu {
  static constexpr const char* kName = Scan::kName;
  static constexpr size_t kParameters = Scan::kParameters, kGradients = kParameters + 2;
  using Parameters = typename ArgumentList<kParameters>::Function;
  using Arguments = mode_scan::Arguments<kParameters>;

  static Outputs forward_cpu(const Arguments& a, bool reference, bool keep) {
    check_all(a);
    return a.u.scalar_type() == at::kDouble ? forward_as<double>(a, reference, keep)
                                            : forward_as<float>(a, reference, keep);
  }
  static Outputs forward_meta(const Arguments& a, bool keep) {
    check_all(a);
    Outputs out = make_outputs(a, a.u.scalar_type());
    if (keep) out.checkpoints = make_checkpoints(out.last_state, a.u.sym_size(2));
    return out;
  }
  static Gradients<kParameters> backward_cpu(const OptionalTensor& grad_y, const OptionalTensor& grad_last_state,
                                             const Arguments& a, const OptionalTensor& checkpoints, bool reference) {
    check_all(a);
    TORCH_CHECK(reference || given(checkpoints), kName, ": backward needs the checkpoints that forward returned");
    return cast_to_inputs(a.u.scalar_type() == at::kDouble
                              ? backward_as<double>(grad_y, grad_last_state, a, checkpoints, reference)
                              : backward_as<float>(grad_y, grad_last_state, a, checkpoints, reference),
                          a);
  }
  static Gradients<kParameters> backward_meta(const Arguments& a) {
    check_all(a);
    Gradients<kParameters> gradients;
    gradients[0] = empty_channels_last(a.u, a.u.scalar_type());
    for (size_t i = 0; i < kParameters; ++i) {
      gradients[i + 1] = at::empty_symint(a.parameters[i].sym_sizes(), a.parameters[i].options());
    }
    gradients.back() = make_outputs(a, a.u.scalar_type()).last_state;
    if (given(a.state)) gradients.back() = at::empty_symint(a.state->sym_sizes(), a.state->options());
    return gradients;
  }

  static void check_all(const Arguments& a) {
    check(kName, a);
    Scan::check_parameters(a.u, a.parameters);
  }

 private:
  // [B, chunks, groups, N, 2, kGroup]
  static Tensor make_checkpoints(const Tensor& like_state, const c10::SymInt& length) {
    const auto blocks = [](const c10::SymInt& size, int64_t block) { return (size + (block - 1)) / block; };
    return at::empty_symint(
        {like_state.sym_size(0), blocks(length, Scan::kChunk), blocks(like_state.sym_size(1), Scan::kGroup),
         like_state.sym_size(2), c10::SymInt(2), c10::SymInt(Scan::kGroup)},
        like_state.options());
  }

  // The inputs as the kernels take them.
  template <class T>
  struct Bound {
    static constexpr auto kType = c10::CppTypeToScalarType<T>::value;
    explicit Bound(const Arguments& a)
        : u(channels_last(a.u, kType)),
          state(in_compute_dtype(a.state, kType)),
          positions(contiguous_if_given(a.positions)),
          parameters(in_compute_dtype(a.parameters, kType)) {}
    template <class P>
    void set(P& p) const {
      p.batch = u.size(0), p.channels = u.size(2), p.length = u.size(1), p.states = parameters[0].size(1);
      p.u = u.const_data_ptr<T>();
      p.state = data_or_null<T>(state);
      p.positions = data_or_null<int64_t>(positions);
      Scan::set_parameters(p, parameters);
    }
    const Tensor u, state, positions;
    const std::array<Tensor, kParameters> parameters;
  };

  template <class T>
  static Outputs forward_as(const Arguments& a, bool reference, bool keep) {
    const Bound<T> in(a);
    Outputs out = make_outputs(a, in.kType);
    typename Scan::template Forward<T> p{};
    in.set(p);
    p.y = out.y.template mutable_data_ptr<T>();
    p.last_state = out.last_state.template mutable_data_ptr<T>();
    if (keep) {
      out.checkpoints = make_checkpoints(out.last_state, p.length);
      p.checkpoints = out.checkpoints.template mutable_data_ptr<T>();
    }
    const int64_t groups = (p.channels + Scan::kGroup - 1) / Scan::kGroup, work = Scan::forward_work(p) * p.states;
    if (reference) {
      run_counted(p, [](const auto& params) { Scan::forward_reference(params); });
    } else if (p.length == 1 && !keep) {
      at::parallel_for(0, p.batch * p.channels, grain(work),
                       [&](int64_t begin, int64_t end) { Scan::step(p, begin, end); });
    } else {
      at::parallel_for(0, groups * p.batch, grain(p.length * work * Scan::kGroup),
                       [&](int64_t begin, int64_t end) { Scan::forward(p, begin, end); });
    }
    out.y = out.y.to(a.u.scalar_type());
    return out;
  }

  template <class T>
  static Gradients<kParameters> backward_as(const OptionalTensor& grad_y_in, const OptionalTensor& grad_last_state_in,
                                            const Arguments& a, const OptionalTensor& checkpoints, bool reference) {
    const Bound<T> in(a);
    const auto options = a.u.options().dtype(in.kType);
    Gradients<kParameters> out;
    out[0] = empty_channels_last(a.u, in.kType);
    std::array<Tensor, kParameters> of_parameters;
    for (size_t i = 0; i < kParameters; ++i) {
      out[i + 1] = of_parameters[i] = at::empty(a.parameters[i].sizes(), options);
    }
    out.back() = make_outputs(a, in.kType).last_state;
    const Tensor grad_y = channels_last(or_zeros(grad_y_in, a.u.sym_sizes(), options), in.kType);
    const Tensor grad_last_state =
        in_compute_dtype(or_zeros(grad_last_state_in, out.back().sym_sizes(), options), in.kType);
    typename Scan::template Backward<T> p{};
    in.set(p);
    Scan::set_gradients(p, of_parameters);
    p.checkpoints = given(checkpoints) ? checkpoints->template const_data_ptr<T>() : nullptr;
    p.grad_y = grad_y.const_data_ptr<T>();
    p.grad_last_state = grad_last_state.const_data_ptr<T>();
    p.grad_u = out[0].template mutable_data_ptr<T>();
    p.grad_state = out.back().template mutable_data_ptr<T>();
    if (reference) {
      Scan::backward_reference(p);
    } else {
      const int64_t work = p.batch * p.length * p.states * Scan::backward_work(p) * Scan::kGroup;
      at::parallel_for(0, (p.channels + Scan::kGroup - 1) / Scan::kGroup, grain(work),
                       [&](int64_t begin, int64_t end) { Scan::backward(p, begin, end); });
    }
    return out;
  }
};

}  // namespace hippodrome::mode_scan

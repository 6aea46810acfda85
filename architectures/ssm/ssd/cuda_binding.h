// From LibTorch tensors to the CUDA kernels: dtypes, layouts, allocation. What starts the kernels is an argument, so
// that tests call this with tensors of the CPU and emulated kernels.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sum.h>

#include <deque>
#include <utility>

#include "architectures/ssm/ssd/binding.h"
#include "architectures/ssm/ssd/cuda.h"
#include "core/cuda/binding.h"

namespace hippodrome::ssd_kernel {

struct CudaKernels {
  const char* (*forward)(const CudaParams& p, void* stream);
  const char* (*backward)(const CudaGradients& p, void* stream);
  void* stream = nullptr;
};

// The kernels' element type: that of x, B, C and z where they agree, else the working dtype. dt may have another.
inline at::ScalarType element_dtype(const Arguments& a) {
  const auto type = a.x.scalar_type();
  const bool agree =
      a.B.scalar_type() == type && a.C.scalar_type() == type && (!a.z.has_value() || a.z->scalar_type() == type);
  return agree && (type == at::kBFloat16 || type == at::kHalf) ? type : compute_dtype(a.x);
}

// The inputs and the work space of either pass as the kernels take them, and the tensors that hold them.
class CudaBound {
 public:
  explicit CudaBound(const Arguments& a)
      : element(element_dtype(a)), scalar(compute_dtype(a.x)), options_(a.x.options()) {
    params.batch = a.x.size(0), params.length = a.x.size(1), params.heads = a.x.size(2), params.head_size = a.x.size(3);
    params.groups = a.B.size(2), params.states = a.B.size(3);
    params.chunk = a.chunk;
    params.dt_softplus = a.dt_softplus, params.dt_low = a.dt_low;
    if (a.dt_high.has_value()) params.dt_high = *a.dt_high;
    params.type = cuda::element_of(element), params.dt_type = cuda::element_of(a.dt.scalar_type());
    params.x = rows(a.x, element), params.B = rows(a.B, element), params.C = rows(a.C, element);
    params.dt = rows(a.dt, a.dt.scalar_type());
    if (a.z.has_value()) params.z = rows(*a.z, element);
    params.A = contiguous(a.A, scalar);
    if (a.D.has_value()) params.D = contiguous(*a.D, scalar);
    if (a.dt_bias.has_value()) params.dt_bias = contiguous(*a.dt_bias, scalar);
    if (a.initial_state.has_value()) params.initial_state = contiguous(*a.initial_state, scalar);
    if (a.positions.has_value()) params.positions = static_cast<const int64_t*>(contiguous(*a.positions, at::kLong));
  }

  // The work space for sequences in units, states apart.
  void take_space() {
    params.steps = space({kStepFacts, params.batch, params.heads, params.length}, scalar);
    params.unit_decays = space({params.batch, units().count, params.heads}, scalar);
    params.sequences = static_cast<int32_t*>(space({params.batch, params.length}, at::kInt));
  }

  Units units() const { return units_of(params.length, params.chunk); }

  Strided<const void> rows(const Tensor& t, at::ScalarType dtype) {
    const Tensor owner = keep(in_rows(t, dtype));
    return {owner.const_data_ptr(), owner.stride(0), owner.stride(1)};
  }
  const void* contiguous(const Tensor& t, at::ScalarType dtype) {
    return keep(in_compute_dtype(t, dtype)).const_data_ptr();
  }
  Tensor empty(at::IntArrayRef sizes, at::ScalarType dtype) const { return at::empty(sizes, options_.dtype(dtype)); }
  void* space(at::IntArrayRef sizes, at::ScalarType dtype) { return keep(empty(sizes, dtype)).mutable_data_ptr(); }
  void* state_space() {
    return space({params.batch, units().count, params.heads, params.states, params.head_size}, scalar);
  }

  CudaParams params;
  at::ScalarType element, scalar;

 private:
  const Tensor& keep(Tensor t) { return owners_.emplace_back(std::move(t)); }

  at::TensorOptions options_;
  std::deque<Tensor> owners_;
};

inline Outputs forward_with(const CudaKernels& kernels, const Arguments& a, bool keep) {
  check_arguments(a);
  CudaBound bound(a);
  CudaParams& p = bound.params;
  Outputs out{bound.empty(a.x.sizes(), bound.element),
              bound.empty({p.batch, p.heads, p.head_size, p.states}, bound.scalar),
              keep ? bound.empty({p.batch, chunks(p.length, p.chunk), p.heads, p.states, p.head_size}, bound.scalar)
                   : Tensor()};
  p.y = out.y.mutable_data_ptr();
  p.last_state = out.last_state.mutable_data_ptr();
  p.keeps_states = keep;
  const bool sequential = !keep && p.length <= kSequentialSteps;
  if (!sequential) bound.take_space();
  if (keep && bound.units().per_chunk == 1) {
    p.unit_states = out.checkpoints.mutable_data_ptr();
  } else if (!sequential) {
    p.unit_states = bound.state_space();
    p.checkpoints = keep ? out.checkpoints.mutable_data_ptr() : nullptr;
  }
  cuda::check_started("ssd", kernels.forward(p, kernels.stream));
  out.y = out.y.to(a.x.scalar_type());
  return out;
}

inline InputGradients backward_with(const CudaKernels& kernels, const OptionalTensor& grad_y,
                                    const OptionalTensor& grad_last_state, const Arguments& a,
                                    const OptionalTensor& checkpoints) {
  check_arguments(a);
  CudaBound bound(a);
  bound.take_space();
  CudaGradients g;
  g.in = bound.params;
  CudaParams& p = g.in;
  const int64_t units = bound.units().count;
  // Where a chunk is one unit the checkpoints are all that forward knew; else its states cost less to make again.
  if (bound.units().per_chunk == 1) {
    TORCH_CHECK(checkpoints.has_value(), "_ssd_backward needs the checkpoints that _ssd_forward returned");
    TORCH_CHECK(checkpoints->numel() == p.batch * units * p.heads * p.states * p.head_size,
                "_ssd_backward: checkpoints do not have the size that _ssd_forward returned");
    p.unit_states = const_cast<void*>(bound.contiguous(*checkpoints, bound.scalar));  // read only
    p.has_unit_states = true;
  } else {
    p.unit_states = bound.state_space();
  }
  if (grad_y.has_value()) g.y = bound.rows(*grad_y, bound.element);
  if (grad_last_state.has_value()) g.last_state = bound.contiguous(*grad_last_state, bound.scalar);

  const auto data = [](const Tensor& t) { return t.numel() > 0 ? t.mutable_data_ptr() : nullptr; };
  const int64_t blocks = head_blocks(p.heads, p.groups);
  const Tensor B = bound.empty({blocks, p.batch, p.length, p.groups, p.states}, bound.scalar),
               C = bound.empty(B.sizes(), bound.scalar);
  const auto per_head = [&](bool present) {
    return present ? bound.empty({p.batch, units, p.heads}, at::kDouble) : bound.empty({0}, at::kDouble);
  };
  const Tensor A = per_head(true), D = per_head(p.D != nullptr), bias = per_head(p.dt_bias != nullptr);
  InputGradients out;
  out.x = bound.empty(a.x.sizes(), bound.element);
  out.dt = bound.empty(a.dt.sizes(), bound.scalar);
  out.z = a.z.has_value() ? bound.empty(a.z->sizes(), bound.element) : bound.empty({0}, bound.element);
  out.initial_state = a.initial_state.has_value() ? bound.empty(a.initial_state->sizes(), bound.scalar)
                                                  : bound.empty({0}, bound.scalar);
  g.x = data(out.x), g.dt = data(out.dt), g.z = data(out.z), g.initial_state = data(out.initial_state);
  g.B = data(B), g.C = data(C);
  const auto doubles = [&](const Tensor& t) { return static_cast<double*>(data(t)); };
  g.A = doubles(A), g.D = doubles(D), g.dt_bias = doubles(bias);
  g.unit_states = bound.state_space();
  g.step_sums =
      bound.space({step_sums_of(p.head_size, bound.units()).count(), p.batch, p.heads, p.length}, bound.scalar);
  if (a.z.has_value()) g.before_gate = bound.space(a.x.sizes(), bound.element);
  cuda::check_started("ssd's backward", kernels.backward(g, kernels.stream));

  out.B = blocks == 1 ? B.select(0, 0) : B.sum(0);
  out.C = blocks == 1 ? C.select(0, 0) : C.sum(0);
  const auto over_units = [](const Tensor& t, bool present) { return present ? t.sum(at::IntArrayRef{0, 1}) : t; };
  out.A = over_units(A, true);
  out.D = over_units(D, p.D != nullptr);
  out.dt_bias = over_units(bias, p.dt_bias != nullptr);
  return cast_to_inputs(out, a);
}

}  // namespace hippodrome::ssd_kernel

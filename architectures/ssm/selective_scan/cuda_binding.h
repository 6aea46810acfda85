// From LibTorch tensors to the CUDA kernels of the selective scan and back. No CUDA headers: tests call this with
// tensors of the CPU and emulated kernels.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/sum.h>

#include <vector>

#include "architectures/ssm/selective_scan/binding.h"
#include "architectures/ssm/selective_scan/cuda.h"
#include "core/cuda/binding.h"

namespace hippodrome::s6 {

// What starts the kernels.
struct CudaKernels {
  const char* (*forward)(const CudaForward& p, void* stream);
  const char* (*backward)(const CudaBackward& p, void* stream);
  void* stream = nullptr;
};

// The inputs as the kernels take them, and the tensors that hold them.
struct CudaBound {
  // Rows are read in the dtype of u where all of them have it, else, and for the general kernels, in the scalar's.
  explicit CudaBound(const Arguments& a) : scalar(compute_dtype(a.u)) {
    const auto as_u = [&](const at::Tensor& t) { return t.scalar_type() == a.u.scalar_type(); };
    const bool uniform = as_u(a.delta) && as_u(a.B) && as_u(a.C) && (!a.z.has_value() || as_u(*a.z));
    rows = uniform && !a.complex && !a.zero_order_hold ? a.u.scalar_type() : scalar;
    scan.element = cuda::element_of(rows);
    scan.batch = a.u.size(0), scan.channels = a.u.size(1), scan.length = a.u.size(2), scan.states = a.A.size(1);
    scan.groups = a.B.dim() == 4 ? a.B.size(1) : 1;
    scan.delta_softplus = a.delta_softplus, scan.complex = a.complex, scan.zero_order_hold = a.zero_order_hold;
    scan.segments = cuda_segments(scan.batch, scan.channels, scan.length, scan.complex || scan.zero_order_hold);
    scan.u = channels(a.u), scan.delta = channels(a.delta);
    if (a.z.has_value()) scan.z = channels(*a.z);
    scan.A = dense(a.A);
    scan.B = groups(a.B), scan.C = groups(a.C);
    scan.D = dense(a.D), scan.delta_bias = dense(a.delta_bias), scan.initial_state = dense(a.initial_state);
    if (a.positions.has_value()) {
      scan.positions = owners.emplace_back(a.positions->contiguous()).const_data_ptr<int64_t>();
    }
  }

  Strided<const void> channels(const at::Tensor& t) {
    const at::Tensor& owner = owners.emplace_back(with_channels_last(t, rows));
    return {owner.const_data_ptr(), owner.stride(0), owner.stride(1)};
  }
  StridedGroups<void> groups(const at::Tensor& t) {
    const at::Tensor& owner = owners.emplace_back(with_states_last(t, rows));
    return {owner.const_data_ptr(), owner.stride(0), owner.stride(2), owner.stride(1)};
  }
  const void* dense(const std::optional<at::Tensor>& t) {
    return given(t) ? owners.emplace_back(in_compute_dtype(*t, scalar)).const_data_ptr() : nullptr;
  }
  // Not set.
  at::Tensor buffer(at::IntArrayRef sizes) const { return at::empty(sizes, owners[0].options().dtype(scalar)); }
  at::Tensor segment_states() const { return buffer({scan.batch, scan.segments.count, scan.states, scan.channels}); }
  int64_t states_at_once() const { return scalar == at::kDouble ? kCudaStates<double> : kCudaStates<float>; }
  bool has_work() const { return scan.batch * scan.channels * scan.length > 0; }

  CudaScan scan;
  at::ScalarType rows, scalar;
  std::vector<at::Tensor> owners;
};

inline Outputs forward_on_gpu(const Arguments& a, bool keep, const CudaKernels& kernels) {
  check_arguments(a);
  const CudaBound bound(a);
  CudaForward p;
  p.scan = bound.scan;
  const CudaScan& x = p.scan;
  Outputs out{empty_channels_last(a.u, bound.rows), bound.buffer({x.batch, x.channels, x.states}),
              keep ? bound.buffer({x.batch, chunks(x.length), x.states, x.channels}) : at::Tensor()};
  if (bound.has_work()) {
    p.y = out.y.mutable_data_ptr();
    p.last_state = out.last_state.mutable_data_ptr();
    p.checkpoints = keep ? out.checkpoints.mutable_data_ptr() : nullptr;
    at::Tensor states, decays;
    if (x.segments.count > 1 || x.states > bound.states_at_once()) {
      states = bound.segment_states();
      p.states = states.mutable_data_ptr();
    }
    if (x.segments.count > 1) {
      decays = bound.segment_states();
      p.decays = decays.mutable_data_ptr();
    }
    cuda::check_started("selective_scan", kernels.forward(p, kernels.stream));
  } else if (a.initial_state.has_value()) {
    out.last_state.copy_(*a.initial_state);
  } else {
    out.last_state.zero_();
  }
  out.y = out.y.to(a.u.scalar_type());
  return out;
}

inline InputGradients backward_on_gpu(const std::optional<at::Tensor>& grad_y,
                                      const std::optional<at::Tensor>& grad_last_state, const Arguments& a,
                                      const std::optional<at::Tensor>& checkpoints, const CudaKernels& kernels) {
  check_arguments(a);
  CudaBound bound(a);
  InputGradients out = allocate_gradients(a, bound.rows, bound.scalar);
  if (!bound.has_work()) {
    set_gradients_of_nothing(out, grad_last_state);
    return cast_to_inputs(out, a);
  }
  CudaBackward p;
  if (given(grad_y)) p.grad_y = bound.channels(*grad_y);
  p.grad_last_state = bound.dense(grad_last_state);
  p.scan = bound.scan;
  const CudaScan& x = p.scan;
  TORCH_CHECK(given(checkpoints) && checkpoints->numel() == x.batch * chunks(x.length) * x.states * x.channels,
              "_selective_scan_backward needs the checkpoints that _selective_scan_forward returned");
  p.checkpoints = bound.dense(checkpoints);
  const auto data = [](const at::Tensor& t) { return t.numel() > 0 ? t.mutable_data_ptr() : nullptr; };
  p.u = data(out.u), p.delta = data(out.delta), p.z = data(out.z), p.initial_state = data(out.initial_state);

  const bool general = x.complex || x.zero_order_hold;
  const int64_t blocks = cuda_blocks_of_channels(x.channels, x.groups, general);
  const at::Tensor A = bound.segment_states();
  const at::Tensor B = bound.buffer({x.batch, x.groups, blocks, x.length, x.states}), C = at::empty_like(B);
  const at::Tensor D = bound.buffer({x.batch, x.segments.count, x.channels}), delta_bias = at::empty_like(D);
  p.A = data(A), p.B = data(B), p.C = data(C), p.D = data(D), p.delta_bias = data(delta_bias);
  at::Tensor carries, decays;
  if (general || x.segments.count > 1 || x.states > bound.states_at_once()) {
    carries = bound.segment_states();
    p.carries = data(carries);
  }
  if (x.segments.count > 1) {
    decays = bound.segment_states();
    p.decays = data(decays);
  }
  const at::Tensor scratch = bound.buffer({cuda_scratch(x, bound.states_at_once())});
  p.scratch = data(scratch);
  cuda::check_started("selective_scan", kernels.backward(p, kernels.stream));

  const auto by_group = [](const at::Tensor& t) {  // [B, G, L, N]
    return (t.dim() == 3 ? t.unsqueeze(1) : t).transpose(2, 3);
  };
  const auto add = [](at::Tensor sum, const at::Tensor& partial, at::IntArrayRef over) {
    at::sum_out(sum, partial, over);
  };
  add(out.A.t(), A, {0, 1});
  add(by_group(out.B), B, {2});
  add(by_group(out.C), C, {2});
  if (a.D.has_value()) add(out.D, D, {0, 1});
  if (a.delta_bias.has_value()) add(out.delta_bias, delta_bias, {0, 1});
  return cast_to_inputs(out, a);
}

}  // namespace hippodrome::s6

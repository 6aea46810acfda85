// Runs the CUDA kernels of the diagonal scan on tensors.
#pragma once

#include <ATen/ops/sum.h>

#include "architectures/ssm/diagonal_scan/binding.h"
#include "architectures/ssm/diagonal_scan/cuda.h"
#include "architectures/ssm/mode_scan_cuda_binding.h"

namespace hippodrome::diagonal_scan_op {

using CudaKernels = mode_scan::CudaKernels<DiagonalScanForwardCuda, DiagonalScanBackwardCuda>;

template <class P>
struct CudaBound : mode_scan::CudaBound<P> {
  at::ScalarType type;  // of u, y and their gradients

  CudaBound(const Arguments& a, bool backward) : mode_scan::CudaBound<P>(a) {
    P& p = this->params;
    // Sums over more states than a launch takes pass through u's and y's type.
    type = p.states > 32 ? this->dtype : a.u.scalar_type();
    p.element = cuda::element_of(type);
    p.u = rows(a.u);
    for (size_t i = 0; i < kParameters; ++i) p.parameters[i] = this->numbers(a.parameters[i]);
    this->cut(diagonal_scan_segments(p.batch, p.channels, p.length), backward);
    if (p.segments.count == 1) return;
    p.tokens =
        static_cast<int64_t*>(this->scratch(at::empty({p.batch, p.segments.count}, a.u.options().dtype(at::kLong))));
  }

  // [B, D, L] as [B, L, D] with contiguous channels, whatever the other two strides.
  DiagonalScanRows rows(const Tensor& t) {
    Tensor rows = t.to(type).transpose(1, 2);
    if (rows.stride(2) != 1 && rows.size(2) != 1) rows = rows.contiguous();
    return {this->keep(rows), rows.stride(0), rows.stride(1)};
  }
};

// As scan_operator.h wants it; nothing is kept.
inline Outputs cuda_forward(const Arguments& a, const CudaKernels& kernels) {
  mode_scan::check(kName, a);
  check_parameters(a.u, a.parameters);
  CudaBound<DiagonalScanForwardCuda> bound(a, false);
  Outputs out = mode_scan::make_outputs(a, bound.type);
  out.checkpoints = bound.empty({0});
  bound.params.y = out.y.mutable_data_ptr();
  bound.params.last_state = out.last_state.mutable_data_ptr();
  cuda::check_started(kName, kernels.forward(bound.params, kernels.stream));
  out.y = out.y.to(a.u.scalar_type());
  return out;
}

inline Gradients cuda_backward(const OptionalTensor& grad_y, const OptionalTensor& grad_last_state, const Arguments& a,
                               const CudaKernels& kernels) {
  mode_scan::check(kName, a);
  check_parameters(a.u, a.parameters);
  CudaBound<DiagonalScanBackwardCuda> bound(a, true);
  DiagonalScanBackwardCuda& p = bound.params;
  const Tensor grad_u = empty_channels_last(a.u, bound.type), grad_state = bound.states();
  const Tensor sums = bound.empty({p.batch * p.segments.count, 6, p.states, p.channels});
  p.grad_y = bound.rows(bound.gradient_of_y(grad_y));
  p.grad_last_state = bound.gradient_of_last_state(grad_last_state);
  p.grad_u = grad_u.mutable_data_ptr();
  p.grad_state = grad_state.mutable_data_ptr();
  p.sums = sums.mutable_data_ptr();
  cuda::check_started(kName, kernels.backward(p, kernels.stream));
  const Tensor total = sums.sum(0).transpose(1, 2).contiguous();  // [6, D, N]
  Gradients gradients{grad_u};
  for (size_t i = 0; i < kParameters; ++i) gradients[i + 1] = total.select(0, static_cast<int64_t>(i));
  gradients.back() = grad_state;
  return mode_scan::cast_to_inputs(gradients, a);
}

}  // namespace hippodrome::diagonal_scan_op

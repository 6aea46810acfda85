// Runs the CUDA kernels of the diagonal-plus-low-rank scan on tensors.
#pragma once

#include <ATen/ops/sum.h>

#include <optional>

#include "architectures/ssm/dplr_scan/binding.h"
#include "architectures/ssm/dplr_scan/cuda.h"
#include "architectures/ssm/mode_scan_cuda_binding.h"

namespace hippodrome::dplr_scan_op {

using CudaKernels = mode_scan::CudaKernels<DplrScanForwardCuda, DplrScanBackwardCuda>;

template <class P>
struct CudaBound : mode_scan::CudaBound<P> {
  CudaBound(const Arguments& a, bool backward, const std::optional<ScanSegments>& segments)
      : mode_scan::CudaBound<P>(a) {
    P& p = this->params;
    p.rank = a.parameters[3].size(1);
    TORCH_CHECK(p.states <= kDplrScanCudaStates, "dplr_scan: on a GPU a, b and c may be [D, N, 2] with N up to ",
                kDplrScanCudaStates, ", not ", p.states);
    p.u = rows(a.u);
    const void** const to[] = {&p.a, &p.b, &p.c, &p.q, &p.w};
    for (size_t i = 0; i < kParameters; ++i) *to[i] = this->numbers(a.parameters[i]);
    this->cut(
        segments ? *segments : dplr_scan_segments(p.batch, p.channels, p.length, p.states, p.positions != nullptr),
        backward);
    if (p.segments.count > 1) {
      p.passage = this->scratch(this->empty({2 * p.states, p.channels, p.states, 2}));
    }
  }

  const void* rows(const Tensor& t) { return this->keep(mode_scan::channels_last(t, this->dtype)); }
};

// As scan_operator.h wants it, with [B, L, R, D] for checkpoints: s of each token. Tests may cut short sequences.
inline Outputs cuda_forward(const Arguments& a, bool keep, const CudaKernels& kernels,
                            const std::optional<ScanSegments>& segments = std::nullopt) {
  mode_scan::check(kName, a);
  check_parameters(a.u, a.parameters);
  CudaBound<DplrScanForwardCuda> bound(a, false, segments);
  DplrScanForwardCuda& p = bound.params;
  Outputs out = mode_scan::make_outputs(a, bound.dtype);
  p.y = out.y.mutable_data_ptr();
  p.last_state = out.last_state.mutable_data_ptr();
  if (keep) {
    out.checkpoints = bound.empty({p.batch, p.length, p.rank, p.channels});
    p.readouts = out.checkpoints.mutable_data_ptr();
  }
  cuda::check_started(kName, kernels.forward(p, kernels.stream));
  out.y = out.y.to(a.u.scalar_type());
  return out;
}

inline Gradients cuda_backward(const OptionalTensor& grad_y, const OptionalTensor& grad_last_state, const Arguments& a,
                               const OptionalTensor& readouts, const CudaKernels& kernels,
                               const std::optional<ScanSegments>& segments = std::nullopt) {
  mode_scan::check(kName, a);
  check_parameters(a.u, a.parameters);
  TORCH_CHECK(given(readouts), "dplr_scan: backward needs the readouts that forward returned");
  CudaBound<DplrScanBackwardCuda> bound(a, true, segments);
  DplrScanBackwardCuda& p = bound.params;
  const Tensor grad_u = empty_channels_last(a.u, bound.dtype), grad_state = bound.states();
  const Tensor sigma = bound.empty(readouts->sizes());
  const auto of_pairs = [&] { return bound.states_of_segments().flatten(0, 1); };
  const auto of_ranks = [&] { return bound.empty({p.batch * p.segments.count, p.channels, p.rank, p.states, 2}); };
  const std::array<Tensor, kParameters> parts{of_pairs(), of_pairs(), of_pairs(), of_ranks(), of_ranks()};
  void** const to[] = {&p.grad_a, &p.grad_b, &p.grad_c, &p.grad_q, &p.grad_w};
  for (size_t i = 0; i < kParameters; ++i) *to[i] = parts[i].mutable_data_ptr();
  p.readouts = bound.numbers(*readouts);
  p.grad_y = bound.rows(bound.gradient_of_y(grad_y));
  p.grad_last_state = bound.gradient_of_last_state(grad_last_state);
  p.sigma = sigma.mutable_data_ptr();
  p.grad_u = grad_u.mutable_data_ptr();
  p.grad_state = grad_state.mutable_data_ptr();
  cuda::check_started(kName, kernels.backward(p, kernels.stream));
  Gradients gradients{grad_u};
  for (size_t i = 0; i < kParameters; ++i) gradients[i + 1] = parts[i].sum(0);
  gradients.back() = grad_state;
  return mode_scan::cast_to_inputs(gradients, a);
}

}  // namespace hippodrome::dplr_scan_op

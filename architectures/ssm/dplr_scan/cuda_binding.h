// Runs the CUDA kernels of the diagonal-plus-low-rank scan on tensors. What starts them is an argument, so that tests
// can give it emulated kernels and tensors of the CPU.
#pragma once

#include <ATen/ops/empty.h>
#include <ATen/ops/sum.h>

#include <tuple>
#include <vector>

#include "architectures/ssm/dplr_scan/binding.h"
#include "architectures/ssm/dplr_scan/cuda.h"
#include "core/cuda/binding.h"

namespace hippodrome::dplr_scan_op {

struct CudaKernels {
  const char* (*forward)(const DplrScanForwardCuda&, void* stream);
  const char* (*backward)(const DplrScanBackwardCuda&, void* stream);
  void* stream = nullptr;
};

// The inputs as the kernels take them, and the tensors that hold them.
template <class P>
struct CudaBound {
  P params;
  at::ScalarType dtype;  // that they compute in

  CudaBound(const Tensor& u, const Parameters& parameters, const OptionalTensor& state, const OptionalTensor& positions,
            bool reference)
      : dtype(compute_dtype(u)), device_(u.device()) {
    TORCH_CHECK(!reference, "dplr_scan_reference runs on the CPU only");
    check(u, parameters, state, positions);
    params.element = cuda::element_of(dtype);
    params.batch = u.size(0), params.channels = u.size(1), params.length = u.size(2);
    params.states = parameters[0].size(1), params.rank = parameters[3].size(1);
    TORCH_CHECK(params.states <= kDplrScanCudaStates, "dplr_scan: on a GPU a, b and c may be [D, N, 2] with N up to ",
                kDplrScanCudaStates, ", not ", params.states);
    params.u = rows(u);
    params.a = numbers(parameters[0]), params.b = numbers(parameters[1]), params.c = numbers(parameters[2]);
    params.q = numbers(parameters[3]), params.w = numbers(parameters[4]);
    if (given(state)) params.state = numbers(*state);
    if (given(positions)) params.positions = static_cast<const int64_t*>(keep(positions->contiguous()));
  }

  const void* rows(const Tensor& t) { return keep(channels_last(t, dtype)); }  // [B, D, L] as [B, L, D]
  const void* numbers(const Tensor& t) { return keep(in_compute_dtype(t, dtype)); }

 private:
  const void* keep(const Tensor& t) {
    TORCH_CHECK(t.device() == device_, "dplr_scan: all tensors must be on ", device_, ", not ", t.device());
    return owners_.emplace_back(t).const_data_ptr();
  }
  at::Device device_;
  std::vector<Tensor> owners_;
};

// As _dplr_scan_forward, with [B, L, R, D] for checkpoints.
inline Saved cuda_forward(const Tensor& u, const Parameters& parameters, const OptionalTensor& state,
                          const OptionalTensor& positions, bool save, bool reference, const CudaKernels& kernels) {
  CudaBound<DplrScanForwardCuda> bound(u, parameters, state, positions, reference);
  DplrScanForwardCuda& p = bound.params;
  auto [y, last_state, readouts] = make_outputs(u, parameters, bound.dtype, false);
  if (save) readouts = at::empty({p.batch, p.length, p.rank, p.channels}, last_state.options());
  p.y = y.mutable_data_ptr();
  p.last_state = last_state.mutable_data_ptr();
  p.readouts = save ? readouts.mutable_data_ptr() : nullptr;
  cuda::check_started("dplr_scan", kernels.forward(p, kernels.stream));
  return {y.to(u.scalar_type()), last_state, readouts};
}

// As _dplr_scan_backward.
inline Gradients cuda_backward(const Tensor& grad_y, const Tensor& grad_last_state, const Tensor& u,
                               const Parameters& parameters, const OptionalTensor& state, const Tensor& readouts,
                               const OptionalTensor& positions, bool reference, const CudaKernels& kernels) {
  CudaBound<DplrScanBackwardCuda> bound(u, parameters, state, positions, reference);
  DplrScanBackwardCuda& p = bound.params;
  const auto options = u.options().dtype(bound.dtype);
  const Tensor grad_u = empty_channels_last(u, bound.dtype), grad_state = at::empty(grad_last_state.sizes(), options);
  const Tensor sigma = at::empty(readouts.sizes(), options);
  const auto per_row = [&] { return at::empty({p.batch, p.channels, p.states, 2}, options); };
  const auto per_row_and_rank = [&] { return at::empty({p.batch, p.channels, p.rank, p.states, 2}, options); };
  const Tensor a = per_row(), b = per_row(), c = per_row(), q = per_row_and_rank(), w = per_row_and_rank();
  p.readouts = bound.numbers(readouts);
  p.grad_y = bound.rows(grad_y);
  p.grad_last_state = bound.numbers(grad_last_state);
  p.sigma = sigma.mutable_data_ptr();
  p.grad_u = grad_u.mutable_data_ptr();
  p.grad_a = a.mutable_data_ptr(), p.grad_b = b.mutable_data_ptr(), p.grad_c = c.mutable_data_ptr();
  p.grad_q = q.mutable_data_ptr(), p.grad_w = w.mutable_data_ptr();
  p.grad_state = grad_state.mutable_data_ptr();
  cuda::check_started("dplr_scan", kernels.backward(p, kernels.stream));
  return {grad_u, a.sum(0), b.sum(0), c.sum(0), q.sum(0), w.sum(0), grad_state};
}

}  // namespace hippodrome::dplr_scan_op

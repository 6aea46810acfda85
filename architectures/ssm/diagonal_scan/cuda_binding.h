// Runs the CUDA kernels of the diagonal scan on tensors. What starts them is an argument, so that tests can give it
// emulated kernels and tensors of the CPU.
#pragma once

#include <ATen/ops/empty.h>
#include <ATen/ops/sum.h>

#include <tuple>
#include <vector>

#include "architectures/ssm/diagonal_scan/binding.h"
#include "architectures/ssm/diagonal_scan/cuda.h"
#include "core/cuda/binding.h"

namespace hippodrome::diagonal_scan_op {

struct CudaKernels {
  const char* (*forward)(const DiagonalScanForwardCuda&, void* stream);
  const char* (*backward)(const DiagonalScanBackwardCuda&, void* stream);
  void* stream = nullptr;
};

// The inputs as the kernels take them, and the tensors that hold them.
template <class P>
struct CudaBound {
  P params;
  at::ScalarType dtype;  // that they compute in

  CudaBound(const Tensor& u, const Parameters& parameters, const OptionalTensor& state, const OptionalTensor& positions,
            bool reference)
      : dtype(compute_dtype(u)) {
    TORCH_CHECK(!reference, "diagonal_scan_reference runs on the CPU only");
    check(u, parameters, state, positions);
    params.batch = u.size(0), params.channels = u.size(1), params.length = u.size(2);
    params.states = parameters[0].size(1);
    // Sums over more states than a launch takes pass through u's and y's type.
    type_ = params.states > 32 ? dtype : u.scalar_type();
    params.element = cuda::element_of(type_);
    params.segments = diagonal_scan_segments(params.batch, params.channels, params.length);
    device_ = u.device();
    params.u = rows(u);
    for (size_t i = 0; i < 6; ++i) params.parameters[i] = keep(in_compute_dtype(on_device(parameters[i]), dtype));
    if (given(state)) params.state = keep(in_compute_dtype(on_device(*state), dtype));
    if (given(positions)) params.positions = static_cast<const int64_t*>(keep(on_device(*positions).contiguous()));
    if (params.segments.count > 1) {
      params.tokens = static_cast<int64_t*>(
          scratch(at::empty({params.batch, params.segments.count}, u.options().dtype(at::kLong))));
    }
  }

  at::ScalarType type() const { return type_; }
  const void* keep(const Tensor& t) { return owners_.emplace_back(t).const_data_ptr(); }
  void* scratch(const Tensor& t) { return owners_.emplace_back(t).mutable_data_ptr(); }

  // [B, D, L] as [B, L, D] with contiguous channels, whatever the other two strides.
  DiagonalScanRows rows(const Tensor& t) {
    Tensor rows = on_device(t).to(type_).transpose(1, 2);
    if (rows.stride(2) != 1 && rows.size(2) != 1) rows = rows.contiguous();
    return {keep(rows), rows.stride(0), rows.stride(1)};
  }
  const Tensor& on_device(const Tensor& t) const {
    TORCH_CHECK(t.device() == device_, "diagonal_scan: all tensors must be on ", device_, ", not ", t.device());
    return t;
  }
  // [B, segments, N, parts, D], where there are several segments.
  void* carries(const Tensor& like, int64_t parts) {
    if (params.segments.count == 1) return nullptr;
    return scratch(at::empty({params.batch, params.segments.count, params.states, parts, params.channels},
                             like.options().dtype(dtype)));
  }

 private:
  at::ScalarType type_;
  at::Device device_ = at::kCPU;
  std::vector<Tensor> owners_;
};

// As _diagonal_scan_forward; there are no checkpoints.
inline Saved cuda_forward(const Tensor& u, const Parameters& parameters, const OptionalTensor& state,
                          const OptionalTensor& positions, bool reference, const CudaKernels& kernels) {
  CudaBound<DiagonalScanForwardCuda> bound(u, parameters, state, positions, reference);
  auto [y, last_state, checkpoints] = make_outputs(u, parameters, bound.type(), false);
  bound.params.y = y.mutable_data_ptr();
  bound.params.last_state = last_state.mutable_data_ptr();
  bound.params.before = bound.carries(u, 2);
  cuda::check_started("diagonal_scan", kernels.forward(bound.params, kernels.stream));
  return {y.to(u.scalar_type()), last_state, checkpoints};
}

// As _diagonal_scan_backward.
inline Gradients cuda_backward(const Tensor& grad_y, const Tensor& grad_last_state, const Tensor& u,
                               const Parameters& parameters, const OptionalTensor& state,
                               const OptionalTensor& positions, bool reference, const CudaKernels& kernels) {
  CudaBound<DiagonalScanBackwardCuda> bound(u, parameters, state, positions, reference);
  DiagonalScanBackwardCuda& p = bound.params;
  const auto options = u.options().dtype(bound.dtype);
  const Tensor grad_u = empty_channels_last(u, bound.type()), grad_state = at::empty(grad_last_state.sizes(), options);
  const Tensor sums = at::empty({p.batch * p.segments.count, 6, p.states, p.channels}, options);
  p.grad_y = bound.rows(grad_y);
  p.grad_last_state = bound.keep(in_compute_dtype(bound.on_device(grad_last_state), bound.dtype));
  p.grad_u = grad_u.mutable_data_ptr();
  p.grad_state = grad_state.mutable_data_ptr();
  p.sums = sums.mutable_data_ptr();
  p.before = bound.carries(u, 4);
  p.behind = bound.carries(u, 2);
  cuda::check_started("diagonal_scan", kernels.backward(p, kernels.stream));
  const Tensor total = sums.sum(0).transpose(1, 2).contiguous();  // [6, D, N]
  return {grad_u.to(u.scalar_type()), total.select(0, 0), total.select(0, 1), total.select(0, 2),
          total.select(0, 3),         total.select(0, 4), total.select(0, 5), grad_state};
}

}  // namespace hippodrome::diagonal_scan_op

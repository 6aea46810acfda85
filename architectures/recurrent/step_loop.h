// The time loops of the recurrent scans on a GPU, on the host: per step one matrix product by LibTorch and one
// elementwise kernel (step_kernel.h), enqueued one after the other without waiting. What limits them is the latency of
// two launches per step, and of one product when the batch is small; a whole sequence in one kernel would need a
// barrier over all blocks.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <limits>

#include "core/cuda/binding.h"
#include "core/tensor/op_binding.h"

namespace hippodrome::recurrent {

// What starts the kernels of a step, on a stream.
template <class Forward, class Backward>
struct StepKernels {
  const char* (*forward)(const Forward&, void*);
  const char* (*backward)(const Backward&, void*);
  void* stream;
};

// t [B, L, n] as kernels read it: with the last axis contiguous.
inline at::Tensor units_contiguous(const at::Tensor& t) {
  return t.stride(2) == 1 || t.size(2) == 1 ? t : t.contiguous();
}

// The gradient of y as the adjoint kernels read it: in its own dtype, where that computes in `dtype`.
inline at::Tensor output_gradient(const at::Tensor& grad_y, at::ScalarType dtype) {
  return units_contiguous(compute_dtype(grad_y) == dtype ? grad_y : grad_y.to(dtype));
}

inline const void* address_or_null(const at::Tensor& t) { return t.defined() ? t.const_data_ptr() : nullptr; }

// The rows [B, n] of step t of a [B, L, n]. BLAS counts the distance between rows in 32 bits, so rows further apart are
// copied.
inline at::Tensor rows_of_step(const at::Tensor& all, int64_t t) {
  const at::Tensor rows = all.select(1, t);
  return rows.stride(0) > std::numeric_limits<int32_t>::max() ? rows.contiguous() : rows;
}

// A state [B, H] of its own memory, for the steps to change.
inline at::Tensor copied_state(const OptionalTensor& state, int64_t batch, int64_t hidden,
                               const at::TensorOptions& options) {
  return given(state) ? at::empty({batch, hidden}, options).copy_(*state) : at::zeros({batch, hidden}, options);
}

// t = 0, 1, …: product = h weightᵀ, [B, n] from h [B, H] and weight [n, H], then step(t), which changes h and returns
// null or an error.
template <class Step>
void forward_steps(const char* op, int64_t length, const at::Tensor& h, const at::Tensor& weight, at::Tensor& product,
                   const Step& step) {
  const at::Tensor transposed = weight.t();
  for (int64_t t = 0; t < length; ++t) {
    at::mm_out(product, h, transposed);
    cuda::check_started(op, step(t));
  }
}

// t = L - 1, …, 0: step(t), which writes grad_products[:, t] of [B, L, n] and in grad_h [B, H] what reaches h_{t-1}
// beside the product, then grad_h += grad_products[:, t] weight. What is left in grad_h is the gradient of the initial
// state.
template <class Step>
void backward_steps(const char* op, const at::Tensor& grad_products, const at::Tensor& weight,
                    const at::Tensor& positions, at::Tensor& grad_h, const Step& step) {
  const int64_t length = grad_products.size(1);
  for (int64_t t = length - 1; t >= 0; --t) {
    cuda::check_started(op, step(t));
    grad_h.addmm_(rows_of_step(grad_products, t), weight);
  }
  if (positions.defined() && length > 0) grad_h.masked_fill_(positions.select(1, 0).eq(0).unsqueeze(1), 0);
}

}  // namespace hippodrome::recurrent

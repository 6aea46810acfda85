// The time loops of the recurrent scans on a GPU, on the host: per step one matrix product by LibTorch and one
// elementwise kernel (step_kernel.h), enqueued one after the other without waiting. What limits them is the latency of
// two launches per step, and of one product when the batch is small; a whole sequence in one kernel would need a
// barrier over all blocks. What starts the kernels is an argument, so that tests run all of this on the CPU.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

#include <cstdint>
#include <limits>

#include "architectures/recurrent/step.h"
#include "core/cuda/binding.h"
#include "core/tensor/op_binding.h"

namespace hippodrome::recurrent {

// What starts the kernels of a step, on a stream. Forward and Backward are a cell's Step and StepBackward.
template <class Forward, class Backward>
struct StepKernels {
  const char* (*forward)(const Forward&, void*);
  const char* (*backward)(const Backward&, void*);
  void* stream;
};

// t [B, L, n] as kernels read it: with the last axis contiguous.
inline Tensor units_contiguous(const Tensor& t) { return t.stride(2) == 1 || t.size(2) == 1 ? t : t.contiguous(); }

inline const void* address_or_null(const Tensor& t) { return t.defined() ? t.const_data_ptr() : nullptr; }

// The rows [B, n] of step t of a [B, L, n]. BLAS counts the distance between rows in 32 bits, so rows further apart are
// copied.
inline Tensor rows_of_step(const Tensor& all, int64_t t) {
  const Tensor rows = all.select(1, t);
  return rows.stride(0) > std::numeric_limits<int32_t>::max() ? rows.contiguous() : rows;
}

// The state or gradient `to` begins with.
inline void begin_with(const OptionalTensor& from, Tensor& to) {
  if (given(from)) {
    to.copy_(*from);
  } else {
    to.zero_();
  }
}

// The scan, from h [B, H], the first hidden state, to the last; `p` has what only this cell has. Writes y [B, L, H]
// and, unless they have no elements, activated [B, L, 4H] and states [B, L, H].
template <class Step, class Kernels>
void scan(const char* op, Step p, const Tensor& gates_in, const Tensor& weight_in, const OptionalTensor& positions_in,
          Tensor& y, Tensor& h, Tensor& activated, Tensor& states, const Kernels& kernels) {
  const Tensor gates = units_contiguous(gates_in), weight = in_compute_dtype(weight_in, h.scalar_type());
  const Tensor positions = contiguous_if_given(positions_in), transposed = weight.t();
  Tensor product = at::empty({gates.size(0), weight.size(0)}, weight.options());
  p.batch = gates.size(0), p.length = gates.size(1), p.hidden = weight.size(1);
  p.element = cuda::element_of(gates.scalar_type());
  p.gates = gates.const_data_ptr();
  p.gates_row = gates.stride(0), p.gates_time = gates.stride(1);
  p.product = product.const_data_ptr();
  p.positions = data_or_null<int64_t>(positions);
  p.y = y.mutable_data_ptr();
  p.h = h.mutable_data_ptr();
  p.activated = activated.numel() > 0 ? activated.mutable_data_ptr() : nullptr;
  p.states = states.numel() > 0 ? states.mutable_data_ptr() : nullptr;
  for (; p.step < p.length; ++p.step) {
    at::mm_out(product, h, transposed);
    cuda::check_started(op, kernels.forward(p, kernels.stream));
  }
}

// Of the products W_hh h_{t-1} [B, L, G H], of W_hh [G H, H] and of the first hidden state [B, H].
struct ScanGradients {
  Tensor products, weight, h;
};

// The adjoint of `scan`, from the gradients of y and of the last hidden state.
template <class Step, class Kernels>
ScanGradients differentiate_scan(const char* op, Step p, const Tensor& grad_y_in, const Tensor& grad_h,
                                 const Tensor& weight_in, const Tensor& activated, const Tensor& states,
                                 const OptionalTensor& h0_in, const OptionalTensor& positions_in,
                                 const Kernels& kernels) {
  const auto dtype = activated.scalar_type();
  const auto options = activated.options();
  const int64_t batch = activated.size(0), length = activated.size(1), hidden = weight_in.size(1);
  const int64_t tokens = batch * length, width = weight_in.size(0);
  const Tensor weight = in_compute_dtype(weight_in, dtype), h0 = in_compute_dtype(h0_in, dtype);
  const Tensor positions = contiguous_if_given(positions_in);
  // The kernels read it in its own dtype where that computes in theirs.
  const Tensor grad_y = units_contiguous(compute_dtype(grad_y_in) == dtype ? grad_y_in : grad_y_in.to(dtype));
  ScanGradients result;
  result.products = at::empty({batch, length, width}, options);
  result.h = at::empty({batch, hidden}, options);
  begin_with(grad_h, result.h);
  const Tensor previous_h = at::empty({tokens, hidden}, options);
  p.batch = batch, p.length = length, p.hidden = hidden;
  p.element = cuda::element_of(grad_y.scalar_type());
  p.activated = activated.const_data_ptr();
  p.states = states.const_data_ptr();
  p.h0 = address_or_null(h0);
  p.positions = data_or_null<int64_t>(positions);
  p.grad_y = grad_y.const_data_ptr();
  p.grad_y_row = grad_y.stride(0), p.grad_y_time = grad_y.stride(1);
  p.grad_h = result.h.mutable_data_ptr();
  p.grad_products = result.products.mutable_data_ptr();
  p.previous_h = previous_h.mutable_data_ptr();
  for (p.step = length - 1; p.step >= 0; --p.step) {
    cuda::check_started(op, kernels.backward(p, kernels.stream));
    result.h.addmm_(rows_of_step(result.products, p.step), weight);
  }
  if (positions.defined() && length > 0) result.h.masked_fill_(positions.select(1, 0).eq(0).unsqueeze(1), 0);
  result.weight = at::mm(result.products.view({tokens, width}).t(), previous_h);
  return result;
}

}  // namespace hippodrome::recurrent

// Runs the CUDA kernels of the Cauchy sums on tensors. What starts them is an argument, so that tests can give it
// emulated kernels and tensors of the CPU.
#pragma once

#include <ATen/ops/empty.h>
#include <ATen/ops/sum.h>

#include "architectures/ssm/cauchy/binding.h"
#include "architectures/ssm/cauchy/cuda.h"
#include "core/cuda/binding.h"

namespace hippodrome::cauchy_op {

struct CudaKernels {
  const char* (*forward)(const CauchyForwardCuda&, void* stream);
  const char* (*backward)(const CauchyBackwardCuda&, void* stream);
  void* stream = nullptr;
};

// v and lambda are contiguous.
template <class P>
P cuda_problem(const Tensor& v, const Tensor& lambda, int64_t length, bool reference) {
  TORCH_CHECK(!reference, "cauchy_reference runs on the CPU only");
  check(v, lambda, length);
  TORCH_CHECK(v.device() == lambda.device(), "cauchy: v and lambda must be on one device, not ", v.device(), " and ",
              lambda.device());
  P p;
  p.element = cuda::element_of(v.scalar_type());
  p.channels = v.size(0), p.rows = v.size(1), p.states = v.size(2), p.length = length;
  p.v = v.const_data_ptr();
  p.lambda = lambda.const_data_ptr();
  return p;
}

// As _cauchy_forward.
inline Tensor cuda_forward(const Tensor& v_in, const Tensor& lambda_in, int64_t length, bool reference,
                           const CudaKernels& kernels) {
  const Tensor v = v_in.contiguous(), lambda = lambda_in.contiguous();
  auto p = cuda_problem<CauchyForwardCuda>(v, lambda, length, reference);
  const Tensor sums = make_sums(v, length);
  p.sums = sums.mutable_data_ptr();
  cuda::check_started("cauchy", kernels.forward(p, kernels.stream));
  return sums;
}

// As _cauchy_backward.
inline Gradients cuda_backward(const Tensor& grad_sums_in, const Tensor& v_in, const Tensor& lambda_in, int64_t length,
                               bool reference, const CudaKernels& kernels) {
  const Tensor grad_sums = grad_sums_in.contiguous(), v = v_in.contiguous(), lambda = lambda_in.contiguous();
  auto p = cuda_problem<CauchyBackwardCuda>(v, lambda, length, reference);
  TORCH_CHECK(grad_sums.scalar_type() == v.scalar_type() && grad_sums.device() == v.device(),
              "cauchy: the sums' gradient must be of v's dtype and device");
  const int64_t splits = cauchy_cuda_splits(p), sheets = splits * cauchy_cuda_row_blocks(p);
  const Tensor grad_v = at::empty({splits, p.channels, p.rows, p.states, 2}, v.options());
  const Tensor grad_lambda = at::empty({sheets, p.channels, p.states, 2}, v.options());
  p.grad_sums = grad_sums.const_data_ptr();
  p.grad_v = grad_v.mutable_data_ptr();
  p.grad_lambda = grad_lambda.mutable_data_ptr();
  cuda::check_started("cauchy", kernels.backward(p, kernels.stream));
  const auto total = [](const Tensor& parts) { return parts.size(0) == 1 ? parts.squeeze(0) : parts.sum(0); };
  return {total(grad_v), total(grad_lambda)};
}

}  // namespace hippodrome::cauchy_op

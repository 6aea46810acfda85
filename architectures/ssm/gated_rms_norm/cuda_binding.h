// From LibTorch tensors to the CUDA kernels of gated_rms_norm. What starts the kernels is an argument, so that tests
// run this with CPU tensors and emulated kernels.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <tuple>

#include "architectures/ssm/gated_rms_norm/binding.h"
#include "architectures/ssm/gated_rms_norm/cuda.h"
#include "core/cuda/binding.h"

namespace hippodrome::gated_rms_norm_op {

struct CudaKernels {
  const char* (*forward)(const CudaForward&, void* stream);
  const char* (*backward)(const CudaBackward&, void* stream);
  void* stream = nullptr;
};

inline CudaRows cuda_rows(const Tensor& t) { return {t.const_data_ptr(), t.stride(0)}; }

inline std::tuple<Tensor, Tensor> cuda_forward(const CudaKernels& kernels, const Tensor& x_in, const Tensor& z_in,
                                               const Tensor& weight_in, int64_t groups, double epsilon,
                                               bool norm_before_gate, bool reference) {
  TORCH_CHECK(!reference, "gated_rms_norm: the plain loops are for the CPU");
  check(x_in, z_in, weight_in, groups);
  const at::ScalarType type = x_in.scalar_type(), wide = compute_dtype(x_in);
  CudaForward p;
  p.sizes = sizes_of(x_in, groups, epsilon, norm_before_gate);
  p.element = cuda::element_of(type);
  const Tensor x = as_rows(x_in, type, p.sizes), z = as_rows(z_in, type, p.sizes);
  const Tensor weight = in_compute_dtype(weight_in, wide);
  Tensor y = at::empty(x_in.sizes(), x.options()), scale = at::empty({p.sizes.rows, groups}, weight.options());
  p.x = cuda_rows(x), p.z = cuda_rows(z), p.weight = weight.const_data_ptr();
  p.y = y.mutable_data_ptr(), p.scale = scale.mutable_data_ptr();
  cuda::check_started("gated_rms_norm", kernels.forward(p, kernels.stream));
  return {y, scale};
}

inline std::tuple<Tensor, Tensor, Tensor> cuda_backward(const CudaKernels& kernels, const Tensor& grad_y_in,
                                                        const Tensor& x_in, const Tensor& z_in, const Tensor& weight_in,
                                                        const Tensor& scale_in, int64_t groups, bool norm_before_gate,
                                                        bool reference) {
  TORCH_CHECK(!reference, "gated_rms_norm: the plain loops are for the CPU");
  check(x_in, z_in, weight_in, groups);
  const at::ScalarType type = x_in.scalar_type(), wide = compute_dtype(x_in);
  CudaBackward p;
  p.sizes = sizes_of(x_in, groups, 0.0, norm_before_gate);
  p.element = cuda::element_of(type);
  p.parts = cuda_parts(p.sizes, p.element);
  const Tensor x = as_rows(x_in, type, p.sizes), z = as_rows(z_in, type, p.sizes);
  const Tensor grad_y = as_rows(grad_y_in, type, p.sizes);
  const Tensor weight = in_compute_dtype(weight_in, wide), scale = in_compute_dtype(scale_in, wide);
  Tensor grad_x = at::empty(x_in.sizes(), x.options()), grad_z = at::empty(x_in.sizes(), x.options());
  const Tensor grad_weight = at::empty({p.parts, p.sizes.width}, weight.options());
  p.x = cuda_rows(x), p.z = cuda_rows(z), p.grad_y = cuda_rows(grad_y);
  p.weight = weight.const_data_ptr(), p.scale = scale.const_data_ptr();
  p.grad_x = grad_x.mutable_data_ptr(), p.grad_z = grad_z.mutable_data_ptr();
  p.grad_weight = grad_weight.mutable_data_ptr();
  cuda::check_started("gated_rms_norm", kernels.backward(p, kernels.stream));
  return {grad_x, grad_z, grad_weight.sum(0).to(weight_in.scalar_type())};
}

}  // namespace hippodrome::gated_rms_norm_op

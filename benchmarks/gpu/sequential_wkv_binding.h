// The tensors of sequential_wkv.h to its parameters. What starts the kernels is an argument, so that tests run this on
// the CPU with emulated ones.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <tuple>

#include "benchmarks/gpu/sequential_wkv.h"
#include "core/cuda/binding.h"
#include "core/tensor/at_least_float32.h"

namespace hippodrome::sequential_wkv {

struct Kernels {
  const char* (*forward)(const Forward&, void* stream);
  const char* (*backward)(const Backward&, void* stream);
  void* stream;
};

inline void bind(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v, Inputs& p) {
  const auto scalar = at_least_float32(k.scalar_type());
  TORCH_CHECK(k.dim() == 3 && k.sizes() == v.sizes() && k.scalar_type() == v.scalar_type() && k.is_contiguous() &&
                  v.is_contiguous(),
              "sequential_wkv4: k and v must be contiguous [B, T, C] of one dtype");
  for (const at::Tensor& x : {w, u}) {
    TORCH_CHECK(x.dim() == 1 && x.size(0) == k.size(2) && x.scalar_type() == scalar && x.is_contiguous(),
                "sequential_wkv4: w and u must be contiguous [C], ", scalar);
  }
  p.batch = k.size(0), p.time = k.size(1), p.channels = k.size(2);
  p.type = cuda::element_of(k.scalar_type());
  p.w = w.const_data_ptr(), p.u = u.const_data_ptr(), p.k = k.const_data_ptr(), p.v = v.const_data_ptr();
}

// y [B, T, C].
inline at::Tensor forward_with(const Kernels& kernels, const at::Tensor& w, const at::Tensor& u, const at::Tensor& k,
                               const at::Tensor& v) {
  Forward p;
  bind(w, u, k, v, p);
  at::Tensor y = at::empty_like(k);
  p.y = y.mutable_data_ptr();
  cuda::check_started("sequential_wkv4", kernels.forward(p, kernels.stream));
  return y;
}

// The gradients of w, u, k and v. y is what forward gave.
inline std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> backward_with(
    const Kernels& kernels, const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v,
    const at::Tensor& y, const at::Tensor& grad_y) {
  Backward p;
  bind(w, u, k, v, p);
  for (const at::Tensor& x : {y, grad_y}) {
    TORCH_CHECK(x.sizes() == k.sizes() && x.scalar_type() == k.scalar_type() && x.is_contiguous(),
                "sequential_wkv4: y and its gradient must be as k");
  }
  const at::Tensor kept = at::empty({2, p.batch, p.time, p.channels}, w.options());
  at::Tensor rows = at::empty({2, p.batch, p.channels}, w.options());
  at::Tensor grad_k = at::empty_like(k), grad_v = at::empty_like(v);
  p.y = y.const_data_ptr(), p.grad_y = grad_y.const_data_ptr();
  p.kept = kept.mutable_data_ptr();
  p.grad_w_rows = rows[0].mutable_data_ptr(), p.grad_u_rows = rows[1].mutable_data_ptr();
  p.grad_k = grad_k.mutable_data_ptr(), p.grad_v = grad_v.mutable_data_ptr();
  cuda::check_started("sequential_wkv4", kernels.backward(p, kernels.stream));
  const at::Tensor sums = rows.sum(1);
  return {sums[0], sums[1], grad_k, grad_v};
}

}  // namespace hippodrome::sequential_wkv

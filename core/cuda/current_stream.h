// For the files that register CUDA operators (architectures/*/*/cuda_op.cpp).
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

namespace hippodrome::cuda {

// Makes a tensor's GPU the current one for its lifetime, and names LibTorch's current stream there.
class OnDeviceOf {
 public:
  explicit OnDeviceOf(const at::Tensor& t)
      : guard_(t.device()), stream_(c10::cuda::getCurrentCUDAStream(t.device().index()).stream()) {}
  void* stream() const { return stream_; }

 private:
  c10::cuda::CUDAGuard guard_;
  void* stream_;
};

}  // namespace hippodrome::cuda

// From LibTorch tensors to the untyped parameters of CUDA kernels. The bindings of operators
// (architectures/*/*/cuda_binding.h) take what starts their kernels as an argument, so that tests run them on the CPU
// with emulated kernels (emulator.h).
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>
#include <c10/util/Exception.h>

#include "core/cuda/element.h"

namespace hippodrome::cuda {

inline Element element_of(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return Element::kFloat;
    case at::kBFloat16:
      return Element::kBFloat16;
    case at::kHalf:
      return Element::kHalf;
    case at::kDouble:
      return Element::kDouble;
    default:
      TORCH_CHECK(false, "the CUDA kernels take float32, bfloat16, float16 and float64, not ", dtype);
  }
}

// Raises when a kernel could not be started; `error` is what launch() returned.
inline void check_started(const char* op, const char* error) {
  TORCH_CHECK(error == nullptr, op, ": the CUDA kernel could not be started: ", error);
}

}  // namespace hippodrome::cuda

// From LibTorch tensors to the CUDA kernel of scan_step. What starts the kernel is an argument, so that tests run this
// with CPU tensors and an emulated kernel.
#pragma once

#include "architectures/ssm/scan_step/binding.h"
#include "architectures/ssm/scan_step/cuda.h"
#include "core/cuda/binding.h"

namespace hippodrome::scan_step {

// `start` takes the CudaParams of any element type and returns what step_cuda does.
template <class Start>
Tensor cuda_step(const Start& start, const Arguments& a) {
  check(a);
  const at::ScalarType dtype = a.x.scalar_type();
  return cuda::with_element(cuda::element_of(dtype), [&](auto tag) {
    using T = typename decltype(tag)::Type;
    const Bound<T, cuda::ScalarOf<T>> bound(a, dtype);
    cuda::check_started("scan_step", start(bound.params));
    return bound.y;
  });
}

}  // namespace hippodrome::scan_step

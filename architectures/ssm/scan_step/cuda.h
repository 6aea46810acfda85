// Entry of the CUDA kernel of scan_step. No CUDA and no LibTorch headers, so that both sides can include it.
#pragma once

#include "architectures/ssm/scan_step/op.h"
#include "core/cuda/element.h"

namespace hippodrome::scan_step {

// Device pointers.
template <class T>
using CudaParams = Params<T, cuda::ScalarOf<T>>;

// Enqueue on `stream` (a cudaStream_t) of the current device. Return null, or CUDA's words for what went wrong.
const char* step_cuda(const CudaParams<float>& p, void* stream);
const char* step_cuda(const CudaParams<cuda::BFloat16>& p, void* stream);
const char* step_cuda(const CudaParams<cuda::Half>& p, void* stream);
const char* step_cuda(const CudaParams<double>& p, void* stream);

}  // namespace hippodrome::scan_step

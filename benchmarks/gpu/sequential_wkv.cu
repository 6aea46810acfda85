#include "benchmarks/gpu/sequential_wkv.h"

#include "benchmarks/gpu/sequential_wkv_kernels.h"
#include "core/cuda/launch.cuh"

namespace hippodrome::sequential_wkv {

const char* forward_cuda(const Forward& p, void* stream) { return run_forward(p, cuda::GpuLauncher{stream}); }
const char* backward_cuda(const Backward& p, void* stream) { return run_backward(p, cuda::GpuLauncher{stream}); }

}  // namespace hippodrome::sequential_wkv

// The CUDA kernels of the selective scan, compiled for the GPU.
#include "architectures/ssm/selective_scan/cuda_kernels.h"
#include "core/cuda/launch.cuh"

namespace hippodrome::s6 {

const char* forward_cuda(const CudaForward& p, void* stream) { return run_forward(p, cuda::GpuLauncher{stream}); }
const char* backward_cuda(const CudaBackward& p, void* stream) { return run_backward(p, cuda::GpuLauncher{stream}); }

}  // namespace hippodrome::s6

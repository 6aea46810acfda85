// Additive attention on the GPU: the entries of cuda.h.
#include "architectures/recurrent/additive_attention/cuda.h"

#include "architectures/recurrent/additive_attention/cuda_kernels.h"
#include "core/cuda/launch.cuh"

namespace hippodrome::additive_cuda {

const char* additive_attention_forward_cuda(const Forward& p, void* stream) {
  return run_additive_attention_forward(p, cuda::GpuLauncher{stream});
}
const char* additive_attention_weights_cuda(const Weights& p, void* stream) {
  return run_additive_attention_weights(p, cuda::GpuLauncher{stream});
}
const char* additive_attention_backward_cuda(const Backward& p, void* stream) {
  return run_additive_attention_backward(p, cuda::GpuLauncher{stream});
}

}  // namespace hippodrome::additive_cuda

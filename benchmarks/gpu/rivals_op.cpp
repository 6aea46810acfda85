// The rivals as operators of the library libhippodrome_rivals.so, for the benchmarks in C++ and in Python. The forms of
// rivals.h differentiate by themselves; sequential_wkv4 has its backward pass as an operator of its own.
#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include <optional>
#include <tuple>

#include "benchmarks/gpu/rivals.h"
#include "benchmarks/gpu/sequential_wkv_binding.h"
#include "core/cuda/current_stream.h"

namespace hippodrome::rivals {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

Tensor scan(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
            const OptionalTensor& D, const OptionalTensor& z, const OptionalTensor& delta_bias, bool delta_softplus) {
  SelectiveScanArguments in;
  in.u = u, in.delta = delta, in.A = A, in.B = B, in.C = C;
  in.D = D, in.z = z, in.delta_bias = delta_bias, in.delta_softplus = delta_softplus;
  return selective_scan_by_doubling(in);
}

Tensor chunked(const Tensor& x, const Tensor& dt, const Tensor& A, const Tensor& B, const Tensor& C, int64_t chunk) {
  SsdArguments in;
  in.x = x, in.dt = dt, in.A = A, in.B = B, in.C = C;
  return ssd_in_chunks(in, chunk);
}

sequential_wkv::Kernels kernels_on(void* stream) {
  return {sequential_wkv::forward_cuda, sequential_wkv::backward_cuda, stream};
}

Tensor wkv(const Tensor& w, const Tensor& u, const Tensor& k, const Tensor& v) {
  const cuda::OnDeviceOf device(k);
  return sequential_wkv::forward_with(kernels_on(device.stream()), w, u, k, v);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> wkv_backward(const Tensor& w, const Tensor& u, const Tensor& k,
                                                        const Tensor& v, const Tensor& y, const Tensor& grad_y) {
  const cuda::OnDeviceOf device(k);
  return sequential_wkv::backward_with(kernels_on(device.stream()), w, u, k, v, y, grad_y);
}

TORCH_LIBRARY(hippodrome_rivals, m) {
  m.def(
      "selective_scan_by_doubling(Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D=None, Tensor? z=None,"
      " Tensor? delta_bias=None, bool delta_softplus=False) -> Tensor",
      scan);
  m.def("ssd_in_chunks(Tensor x, Tensor dt, Tensor A, Tensor B, Tensor C, int chunk=256) -> Tensor", chunked);
  m.def("fft_convolution(Tensor x, Tensor taps) -> Tensor", fft_convolution);
  m.def("conv1d_silu(Tensor x, Tensor weight, Tensor bias) -> Tensor", conv1d_silu);
  m.def("cauchy_by_division(Tensor v, Tensor lambda_, int length) -> Tensor", cauchy_by_division);
  m.def("eager_additive_attention(Tensor queries, Tensor keys, Tensor v, Tensor values) -> Tensor",
        eager_additive_attention);
  m.def("sequential_wkv4(Tensor w, Tensor u, Tensor k, Tensor v) -> Tensor");
  m.def(
      "sequential_wkv4_backward(Tensor w, Tensor u, Tensor k, Tensor v, Tensor y, Tensor grad_y)"
      " -> (Tensor grad_w, Tensor grad_u, Tensor grad_k, Tensor grad_v)");
}
TORCH_LIBRARY_IMPL(hippodrome_rivals, CUDA, m) {
  m.impl("sequential_wkv4", wkv);
  m.impl("sequential_wkv4_backward", wkv_backward);
}

}  // namespace
}  // namespace hippodrome::rivals

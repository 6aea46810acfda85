// Binds the CUDA forward kernel of the selective scan to LibTorch, in libhippodrome_cuda.so. The schemas are in op.cpp.
// There is no CUDA backward: differentiating on a GPU raises the dispatcher's error.
#include <ATen/core/Tensor.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <optional>
#include <tuple>
#include <type_traits>

#include "architectures/ssm/selective_scan/binding.h"
#include "architectures/ssm/selective_scan/cuda.h"

namespace hippodrome::s6 {
namespace {

template <class T>
constexpr CudaType cuda_type() {
  if constexpr (std::is_same_v<T, c10::BFloat16>) return CudaType::kBFloat16;
  if constexpr (std::is_same_v<T, c10::Half>) return CudaType::kHalf;
  return CudaType::kFloat;
}

template <class T>
Strided<const void> untyped(const Strided<const T>& t) {
  return {t.data, t.batch, t.time};
}
template <class T>
Strided<const void> untyped(const StridedGroups<T>& t) {
  return {t.data, t.batch, t.time};
}

template <class T>
Outputs forward_as(const Arguments& a, bool keep) {
  const c10::cuda::CUDAGuard device(a.u.device());
  CudaForward p;
  p.batch = a.u.size(0), p.channels = a.u.size(1), p.length = a.u.size(2), p.states = a.A.size(1);
  p.groups = a.B.dim() == 4 ? a.B.size(1) : 1;
  p.delta_softplus = a.delta_softplus;
  p.type = cuda_type<T>();
  Tensor owners[10];
  p.u = untyped(bind_channels<T>(a.u, owners[0]));
  p.delta = untyped(bind_channels<T>(a.delta, owners[1]));
  p.A = bind_contiguous<float>(a.A, owners[2]);
  const StridedGroups<T> B = bind_groups<T>(a.B, owners[3]), C = bind_groups<T>(a.C, owners[4]);
  p.B = untyped(B), p.B_group = B.group;
  p.C = untyped(C), p.C_group = C.group;
  if (a.D.has_value()) p.D = bind_contiguous<float>(*a.D, owners[5]);
  if (a.z.has_value()) p.z = untyped(bind_channels<T>(*a.z, owners[6]));
  if (a.delta_bias.has_value()) p.delta_bias = bind_contiguous<float>(*a.delta_bias, owners[7]);
  if (a.initial_state.has_value()) p.initial_state = bind_contiguous<float>(*a.initial_state, owners[8]);
  if (a.positions.has_value()) p.positions = bind_contiguous<int64_t>(*a.positions, owners[9]);

  const auto states = a.u.options().dtype(at::kFloat);
  Outputs out{empty_channels_last(a.u, c10::CppTypeToScalarType<T>::value),
              at::empty({p.batch, p.channels, p.states}, states),
              keep ? at::empty({p.batch, chunks(p.length), p.states, p.channels}, states) : Tensor()};
  p.y = out.y.mutable_data_ptr();
  p.last_state = out.last_state.mutable_data_ptr<float>();
  p.checkpoints = keep ? out.checkpoints.mutable_data_ptr<float>() : nullptr;
  const char* error = forward_cuda(p, c10::cuda::getCurrentCUDAStream(a.u.device().index()).stream());
  TORCH_CHECK(error == nullptr, "selective_scan: the CUDA kernel could not be started: ", error);
  out.y = out.y.to(a.u.scalar_type());
  return out;
}

Outputs forward_on_gpu(const Arguments& a, bool keep) {
  check_arguments(a);
  TORCH_CHECK(!a.complex && !a.zero_order_hold,
              "selective_scan: the CUDA kernel takes real numbers and Euler's rule for B; move the others to the CPU");
  TORCH_CHECK(a.u.scalar_type() != at::kDouble,
              "selective_scan: the CUDA kernel takes float32, bfloat16 and float16; move ",
              "float64 tensors to the CPU");
  const auto type = a.u.scalar_type();
  const auto is_type = [&](const Tensor& t) { return t.scalar_type() == type; };
  const bool uniform = is_type(a.delta) && is_type(a.B) && is_type(a.C) && (!a.z.has_value() || is_type(*a.z));
  if (uniform && type == at::kBFloat16) return forward_as<c10::BFloat16>(a, keep);
  if (uniform && type == at::kHalf) return forward_as<c10::Half>(a, keep);
  return forward_as<float>(a, keep);
}

#define SCAN_PARAMETERS                                                                                             \
  const Tensor &u, const Tensor &delta, const Tensor &A, const Tensor &B, const Tensor &C, const OptionalTensor &D, \
      const OptionalTensor &z, const OptionalTensor &delta_bias, bool delta_softplus, bool complex,                 \
      bool zero_order_hold, const OptionalTensor &initial_state, const OptionalTensor &positions
#define SCAN_ARGUMENTS \
  u, delta, A, B, C, D, z, delta_bias, delta_softplus, complex, zero_order_hold, initial_state, positions

std::tuple<Tensor, Tensor> scan_cuda(SCAN_PARAMETERS) {
  const Outputs out = forward_on_gpu({SCAN_ARGUMENTS}, false);
  return {out.y, out.last_state};
}

std::tuple<Tensor, Tensor, Tensor> kept_cuda(SCAN_PARAMETERS) {
  const Outputs out = forward_on_gpu({SCAN_ARGUMENTS}, true);
  return {out.y, out.last_state, out.checkpoints};
}

#undef SCAN_PARAMETERS
#undef SCAN_ARGUMENTS

TORCH_LIBRARY_IMPL(hippodrome, CUDA, m) {
  m.impl("selective_scan", scan_cuda);
  m.impl("_selective_scan_forward", kept_cuda);
}

}  // namespace
}  // namespace hippodrome::s6

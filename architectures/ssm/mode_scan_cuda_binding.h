// From the tensors of a scan over complex modes to its CUDA kernels. What starts the kernels is an argument, so that
// tests can give emulated ones and tensors of the CPU.
#pragma once

#include <ATen/ops/empty.h>

#include <vector>

#include "architectures/ssm/mode_scan_binding.h"
#include "architectures/ssm/mode_scan_cuda.h"
#include "core/cuda/binding.h"

namespace hippodrome::mode_scan {

template <class Forward, class Backward>
struct CudaKernels {
  const char* (*forward)(const Forward&, void* stream);
  const char* (*backward)(const Backward&, void* stream);
  void* stream = nullptr;
};

// Checked arguments as the kernels take them, and the tensors that hold them.
template <class P>
class CudaBound {
 public:
  template <size_t kParameters>
  explicit CudaBound(const Arguments<kParameters>& a) : dtype(compute_dtype(a.u)), like_(a.u) {
    params.element = cuda::element_of(dtype);
    params.batch = a.u.size(0), params.channels = a.u.size(1), params.length = a.u.size(2);
    params.states = a.parameters[0].size(1);
    if (given(a.state)) params.state = numbers(*a.state);
    if (given(a.positions)) params.positions = static_cast<const int64_t*>(keep(a.positions->contiguous()));
  }

  P params;
  const at::ScalarType dtype;  // that they compute in

  // Cuts the sequences, and makes room for what passes between segments; `backward` also for what passes back.
  void cut(const ScanSegments& segments, bool backward) {
    params.segments = segments;
    if (segments.count == 1) return;
    params.before = scratch(states_of_segments());
    if (backward) params.behind = scratch(states_of_segments());
  }

  const void* keep(const Tensor& t) {
    TORCH_CHECK(t.device() == like_.device(), "all tensors must be on ", like_.device(), ", not ", t.device());
    return owners_.emplace_back(t).const_data_ptr();
  }
  void* scratch(const Tensor& t) { return owners_.emplace_back(t).mutable_data_ptr(); }
  const void* numbers(const Tensor& t) { return keep(in_compute_dtype(t, dtype)); }
  // [B, D, L] in the compute dtype.
  Tensor gradient_of_y(const OptionalTensor& t) const { return or_zeros(t, like_.sym_sizes(), options()); }
  const void* gradient_of_last_state(const OptionalTensor& t) {
    return numbers(or_zeros(t, {params.batch, params.channels, params.states, 2}, options()));
  }

  // Not set.
  Tensor empty(at::IntArrayRef sizes) const { return at::empty(sizes, options()); }
  Tensor states() const { return empty({params.batch, params.channels, params.states, 2}); }
  Tensor states_of_segments() const {
    return empty({params.batch, params.segments.count, params.channels, params.states, 2});
  }

 private:
  at::TensorOptions options() const { return like_.options().dtype(dtype); }
  const Tensor like_;
  std::vector<Tensor> owners_;
};

}  // namespace hippodrome::mode_scan

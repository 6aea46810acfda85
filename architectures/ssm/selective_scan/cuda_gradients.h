// What the backward kernels of the selective scan share: the gradients of a step's inputs, and sums over channels.
#pragma once

#include "architectures/ssm/selective_scan/cuda_block.h"

namespace hippodrome::s6 {

// term(0) + ... + term(count - 1), in four interleaved parts.
template <class S, class F>
HIPPODROME_HOST_DEVICE S sum_of(int count, const F& term) {
  S sums[4] = {S(0), S(0), S(0), S(0)};
  int c = 0;
  for (; c + 4 <= count; c += 4) {
    HIPPODROME_UNROLL
    for (int k = 0; k < 4; ++k) sums[k] += term(c + k);
  }
  for (; c < count; ++c) sums[0] += term(c);
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

template <class T>
HIPPODROME_HOST_DEVICE void write_gate_gradient(const CudaBackward& p, int64_t b, int64_t t, int64_t d,
                                                ScalarOf<T> ungated) {
  const CudaScan& x = p.scan;
  if (p.z == nullptr) return;
  ScalarOf<T> dz = ScalarOf<T>(0);
  if (p.grad_y.data != nullptr) dz = read<T>(p.grad_y, b, t, d) * ungated * cuda::silu_slope(read<T>(x.z, b, t, d));
  store(dz, static_cast<T*>(p.z) + (b * x.length + t) * x.channels + d);
}
// du and the gradient of the step size; returns that of delta.
template <class T>
HIPPODROME_HOST_DEVICE ScalarOf<T> write_input_gradients(const CudaBackward& p, int64_t b, int64_t t, int64_t d,
                                                         ScalarOf<T> du, ScalarOf<T> ddelta) {
  const CudaScan& x = p.scan;
  const int64_t at = (b * x.length + t) * x.channels + d;
  if (x.delta_softplus) {
    ddelta *= cuda::softplus_slope(read<T>(x.delta, b, t, d) + read_or_zero<ScalarOf<T>>(x.delta_bias, d));
  }
  store(du, static_cast<T*>(p.u) + at);
  store(ddelta, static_cast<T*>(p.delta) + at);
  return ddelta;
}
template <class T>
HIPPODROME_HOST_DEVICE void write_padding(const CudaBackward& p, int64_t b, int64_t t, int64_t d) {
  const int64_t at = (b * p.scan.length + t) * p.scan.channels + d;
  for (void* const to : {p.u, p.delta, p.z}) {
    if (to != nullptr) store(ScalarOf<T>(0), static_cast<T*>(to) + at);
  }
}

}  // namespace hippodrome::s6

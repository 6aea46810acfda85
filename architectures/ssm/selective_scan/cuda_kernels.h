// Which CUDA kernels a scan takes, in which order. `launcher` is cuda::GpuLauncher or, in tests, the emulator's.
#pragma once

#include "architectures/ssm/selective_scan/cuda_backward.h"
#include "architectures/ssm/selective_scan/cuda_forward.h"
#include "architectures/ssm/selective_scan/cuda_general.h"
#include "architectures/ssm/selective_scan/cuda_segments.h"

namespace hippodrome::s6 {

// Leaves in `ends` what enters each segment.
template <class T, bool kReverse, class Launcher>
const char* chain_segments(const CudaSummary& summary, const void* first, const Launcher& launcher) {
  const char* error = summary.scan.positions != nullptr
                          ? launcher.template run<SummaryKernel<T, kReverse, true>>(summary)
                          : launcher.template run<SummaryKernel<T, kReverse, false>>(summary);
  if (error != nullptr) return error;
  return launcher.template run<ChainKernel<ScalarOf<T>, kReverse>>(
      CudaChain{summary.scan, first, summary.decays, summary.ends});
}

template <class Launcher>
const char* run_forward(const CudaForward& p, const Launcher& launcher) {
  const CudaScan& x = p.scan;
  if (x.complex || x.zero_order_hold) {
    return x.element == cuda::Element::kDouble ? launcher.template run<GeneralForwardKernel<double>>(p)
                                               : launcher.template run<GeneralForwardKernel<float>>(p);
  }
  return cuda::with_element(x.element, [&](auto tag) -> const char* {
    using T = typename decltype(tag)::Type;
    if (x.segments.count > 1) {
      const CudaSummary summary{x, {}, p.states, p.decays};
      const char* error = chain_segments<T, false>(summary, x.initial_state, launcher);
      if (error != nullptr) return error;
    }
    return x.positions != nullptr ? launcher.template run<ForwardKernel<T, true>>(p)
                                  : launcher.template run<ForwardKernel<T, false>>(p);
  });
}

template <class Launcher>
const char* run_backward(const CudaBackward& p, const Launcher& launcher) {
  const CudaScan& x = p.scan;
  if (x.complex || x.zero_order_hold) {
    return x.element == cuda::Element::kDouble ? launcher.template run<GeneralBackwardKernel<double>>(p)
                                               : launcher.template run<GeneralBackwardKernel<float>>(p);
  }
  return cuda::with_element(x.element, [&](auto tag) -> const char* {
    using T = typename decltype(tag)::Type;
    if (x.segments.count > 1) {
      const CudaSummary summary{x, p.grad_y, p.carries, p.decays};
      const char* error = chain_segments<T, true>(summary, p.grad_last_state, launcher);
      if (error != nullptr) return error;
    }
    return x.positions != nullptr ? launcher.template run<BackwardKernel<T, true>>(p)
                                  : launcher.template run<BackwardKernel<T, false>>(p);
  });
}

}  // namespace hippodrome::s6

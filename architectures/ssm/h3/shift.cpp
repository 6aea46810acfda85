#include "architectures/ssm/h3/shift.h"

#include <ATen/ops/fft_irfft.h>
#include <ATen/ops/fft_rfft.h>

namespace hippodrome {

Tensor shift_taps(const Tensor& B, const Tensor& C) {
  const int64_t states = B.size(1), padded = 2 * states;
  const Tensor spectrum = at::fft_rfft(B, padded).conj().mul(at::fft_rfft(C, padded));
  return at::fft_irfft(spectrum, padded).narrow(1, 0, states);
}

}  // namespace hippodrome

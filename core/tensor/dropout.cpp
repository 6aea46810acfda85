#include "core/tensor/dropout.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include "core/base/random.h"

namespace hippodrome {

Tensor dropout(const Tensor& x, double probability, uint64_t draw, std::string_view site) {
  const RandomStream stream = RandomStream(draw, "dropout").fork(site);
  Tensor factors = at::empty(x.sizes(), at::kFloat);
  float* factor = factors.mutable_data_ptr<float>();
  const auto kept = static_cast<float>(1.0 / (1.0 - probability));
  at::parallel_for(0, factors.numel(), /*grain_size=*/8192, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      factor[i] = stream.uniform_at(static_cast<uint64_t>(i)) < probability ? 0.0F : kept;
    }
  });
  // Without waiting for the device: memory that is not pinned has been read when the call returns.
  return x.mul(factors.to(x.options(), /*non_blocking=*/true));
}

}  // namespace hippodrome

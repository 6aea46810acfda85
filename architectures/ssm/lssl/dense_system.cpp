#include "architectures/ssm/lssl/dense_system.h"

#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>

namespace hippodrome {
namespace dense_system_detail {
namespace {

// A sequence of `length` is cut into blocks of S = 2^doublings ≈ √length tokens.
struct Blocks {
  int64_t doublings = 0, size = 1, count = 1;
  explicit Blocks(int64_t length) {
    while (size * size < length) {
      size *= 2;
      ++doublings;
    }
    count = (length + size - 1) / size;
  }
};

}  // namespace
}  // namespace dense_system_detail

const Tensor& DenseSystem::power(int64_t exponent) {
  while (static_cast<int64_t>(powers_.size()) <= exponent) powers_.push_back(at::bmm(powers_.back(), powers_.back()));
  return powers_[static_cast<size_t>(exponent)];
}

Tensor DenseSystem::columns(Tensor first, int64_t doublings) {
  for (int64_t k = 0; k < doublings; ++k) first = at::cat({first, at::bmm(power(k), first)}, 2);
  return first;
}

Tensor DenseSystem::rows(const Tensor& C, int64_t skipped, int64_t count) {
  Tensor result = C;
  for (int64_t k = skipped, have = 1; have < count; ++k, have *= 2) {
    result = at::cat({result, at::bmm(result, power(k))}, 1);
  }
  return result.narrow(1, 0, count * C.size(1));
}

Tensor DenseSystem::kernel(const Tensor& C, int64_t length) {
  const dense_system_detail::Blocks blocks(length);
  const Tensor product = at::bmm(rows(C, blocks.doublings, blocks.count), columns(B_.unsqueeze(-1), blocks.doublings));
  return product.view({C.size(0), blocks.count, C.size(1), blocks.size})
      .transpose(1, 2)
      .reshape({C.size(0), C.size(1), blocks.count * blocks.size})
      .narrow(2, 0, length);
}

Tensor DenseSystem::response(const Tensor& C, const Tensor& state, int64_t length) {
  const dense_system_detail::Blocks blocks(length);
  const int64_t batch = state.size(0);
  const Tensor first = at::bmm(A(), state.permute({1, 2, 0}).to(at::kDouble));
  const auto dtype = state.scalar_type();
  const Tensor product =
      at::bmm(rows(C, blocks.doublings, blocks.count).to(dtype), columns(first, blocks.doublings).to(dtype));
  return product.view({C.size(0), blocks.count, C.size(1), blocks.size, batch})
      .permute({4, 1, 3, 0, 2})
      .reshape({batch, blocks.count * blocks.size, C.size(0), C.size(1)})
      .narrow(1, 0, length);
}

Tensor DenseSystem::last_state(const Tensor& u, const Tensor& state) {
  const int64_t batch = u.size(0), length = u.size(1), channels = u.size(2), states = B_.size(1);
  const dense_system_detail::Blocks blocks(length);
  const auto dtype = u.scalar_type();
  // Zeros before the first token make the blocks whole; in each, Σ_i Ā^(S-1-i) B̄ u_i.
  const Tensor inputs = at::constant_pad_nd(u, {0, 0, blocks.count * blocks.size - length, 0})
                            .reshape({batch, blocks.count, blocks.size, channels})
                            .permute({3, 2, 0, 1})
                            .reshape({channels, blocks.size, batch * blocks.count});
  const Tensor reversed = columns(B_.unsqueeze(-1), blocks.doublings).flip(2).to(dtype);
  Tensor sums = at::bmm(reversed, inputs).view({channels, states, batch, blocks.count});
  // Two neighbours become one, until one is left.
  for (int64_t k = blocks.doublings; sums.size(3) > 1; ++k) {
    if (sums.size(3) % 2 == 1) sums = at::constant_pad_nd(sums, {1, 0});
    const int64_t half = sums.size(3) / 2;
    const Tensor neighbours = sums.view({channels, states, batch, half, 2});
    const Tensor earlier = neighbours.select(4, 0).reshape({channels, states, batch * half});
    sums = at::bmm(power(k).to(dtype), earlier).view({channels, states, batch, half}).add(neighbours.select(4, 1));
  }
  Tensor carried = state.permute({1, 2, 0}).to(dtype);
  for (int64_t k = 0, rest = length; rest > 0; ++k, rest /= 2) {
    if (rest % 2 == 1) carried = at::bmm(power(k).to(dtype), carried);
  }
  return sums.squeeze(3).add(carried).permute({2, 0, 1}).contiguous();
}

}  // namespace hippodrome

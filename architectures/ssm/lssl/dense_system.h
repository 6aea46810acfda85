#pragma once

#include <vector>

#include "core/tensor/tensor.h"

namespace hippodrome {

// x_t = Ā x_{t-1} + B̄ u_t with a dense Ā per channel. What a sequence of L tokens needs of it is had from powers
// Ā^(2^k) alone: the Krylov tensor [H, N, L] is never held, only √L of its columns, and no loop runs over time.
class DenseSystem {
 public:
  DenseSystem() = default;
  // A [H, N, N], B [H, N], float64.
  DenseSystem(Tensor A, Tensor B) : powers_{std::move(A)}, B_(std::move(B)) {}

  const Tensor& A() const { return powers_[0]; }
  const Tensor& B() const { return B_; }

  // K_l = C Ā^l B̄, l < length: [H, M, length] float64 from C [H, M, N] float64.
  Tensor kernel(const Tensor& C, int64_t length);
  // C Ā^(t+1) x_0, t < length: what a state x_0 [B, H, N] adds to the outputs, [B, length, H, M] in its dtype.
  Tensor response(const Tensor& C, const Tensor& state, int64_t length);
  // Ā^L x_0 + Σ_s Ā^(L-1-s) B̄ u_s: the state [B, H, N] after u [B, L, H] of the same dtype.
  Tensor last_state(const Tensor& u, const Tensor& state);

 private:
  const Tensor& power(int64_t exponent);            // Ā^(2^exponent)
  Tensor columns(Tensor first, int64_t doublings);  // first, Ā first, … [H, N, 2^doublings K], K columns a power
  Tensor rows(const Tensor& C, int64_t skipped, int64_t count);  // C, C Ā^S, … with S = 2^skipped: [H, count M, N]

  std::vector<Tensor> powers_;  // squared on demand
  Tensor B_;
};

}  // namespace hippodrome

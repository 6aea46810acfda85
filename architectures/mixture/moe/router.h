#pragma once

#include "core/tensor/tensor.h"

namespace hippodrome {

// Where the tokens of a mixture of experts go: each to its K best of n experts, by the router's logits [T, n].
struct Routing {
  Tensor experts;  // [T, K] int64, the best first
  Tensor weights;  // [T, K] in the logits' dtype, differentiable
};

enum class Router {
  kMixtral,  // softmax over the K chosen logits: weights sum to one (Jiang et al. 2024, section 2.1)
  kJamba,    // softmax over all n, of which the K best are taken as they are (the authors' code of Lieber et al. 2024)
};

// logits [T, n], float32 or wider.
Routing route(const Tensor& logits, int64_t top_k, Router router);

// n Σ_e f_e p_e (Fedus et al. 2021, equation 4): f_e the choices of expert e per token, p_e its mean probability under the
// softmax over all experts. K when both are uniform; differentiable through p. logits [T, n], experts [T, K], T > 0.
Tensor balance_loss(const Tensor& logits, const Tensor& experts);

// [n] in the logits' dtype: the share of all choices that fell on each expert.
Tensor router_load(const Tensor& logits, const Tensor& experts);

}  // namespace hippodrome

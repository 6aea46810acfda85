#pragma once

#include <cstdint>

namespace hippodrome {

// FLOPs of additive attention's plain loops: of `queries` queries that meet `pairs` keys in all, with scores of A
// features and values of M. A score takes a sum, a tanh and a multiply-add a feature; the softmax four, and three a
// query.
inline double additive_attention_flops(double pairs, double queries, int64_t features, int64_t width) {
  return pairs * static_cast<double>(4 * features + 4 + 2 * width) + 3.0 * queries;
}

// Of attentive_scan's on `tokens` tokens: state n, S keys of A features and values of M. Beside the products and the
// attention, a GRU takes 12 a hidden unit (two sigmoids of three, reset, tanh, four for the new state) and an LSTM 15.
inline double attentive_scan_flops(bool lstm, double tokens, int64_t n, int64_t keys, int64_t features, int64_t width) {
  const int64_t gates = (lstm ? 4 : 3) * n, elementwise = (lstm ? 15 : 12) * n;
  return tokens * static_cast<double>(2 * features * n + 2 * gates * (n + width) + elementwise) +
         additive_attention_flops(tokens * static_cast<double>(keys), tokens, features, width);
}

}  // namespace hippodrome

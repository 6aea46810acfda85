#pragma once

#include <string>

#include "core/layer/parameters.h"

namespace hippodrome {

// y = x Wᵀ + b with W [out, in]: the only matrix product with weights in the project, so that the choice of matrix library,
// and later adapters and quantised weights, have one home (core/tensor/matmul.h).
class Linear {
 public:
  struct Options {
    bool bias = false;
    Initialiser weight = nullptr;  // null: U(±1/√in), PyTorch's default
    Initialiser bias_initialiser = nullptr;  // null: U(±1/√in) as PyTorch
    ParameterFacts weight_facts = {};
  };
  Linear(int64_t in, int64_t out, Options options);
  Linear(int64_t in, int64_t out) : Linear(in, out, Options()) {}
  // Shares a weight [out, in] with another layer: a tied head.
  explicit Linear(ParameterPtr tied_weight);

  // x [..., in] -> [..., out], in x's dtype.
  Tensor forward(const Tensor& x) const;

  int64_t in() const { return weight_->value.size(1); }
  int64_t out() const { return weight_->value.size(0); }
  // Of one call on `tokens` rows of x.
  double flops(double tokens) const { return 2.0 * tokens * static_cast<double>(in() * out()); }
  Parameters& parameters() { return parameters_; }
  const ParameterPtr& weight() const { return weight_; }

 private:
  Parameters parameters_;
  ParameterPtr weight_;
  ParameterPtr bias_;  // may be null
};

}  // namespace hippodrome

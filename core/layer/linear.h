#pragma once

#include <string>
#include <vector>

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

// A weight for each of several groups of rows, as experts have: y = x W_gᵀ with W [G, out, in], through the same choice of
// matrix library. Initial values are drawn as those of G matrices [out, in].
class GroupedLinear {
 public:
  // `weight` null: U(±1/√in). The draw is element by element, so every group has the fan-in of one matrix.
  GroupedLinear(int64_t groups, int64_t in, int64_t out, Initialiser weight = nullptr);

  // x [T, in], sorted by group, counts[g] rows of group g -> [T, out], in x's dtype.
  Tensor forward(const Tensor& x, const std::vector<int64_t>& counts) const;

  int64_t groups() const { return weight_->value.size(0); }
  int64_t in() const { return weight_->value.size(2); }
  int64_t out() const { return weight_->value.size(1); }
  // Of one call on `rows` rows of x, whatever their groups.
  double flops(double rows) const { return 2.0 * rows * static_cast<double>(in() * out()); }
  Parameters& parameters() { return parameters_; }
  const ParameterPtr& weight() const { return weight_; }

 private:
  Parameters parameters_;
  ParameterPtr weight_;
};

}  // namespace hippodrome

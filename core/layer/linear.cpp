#include "core/layer/linear.h"

#include "core/tensor/matmul.h"

namespace hippodrome {

Linear::Linear(int64_t in, int64_t out, Options options) {
  weight_ = parameters_.add("weight", {out, in},
                            options.weight ? options.weight : initialise::uniform_fan_in(in), options.weight_facts);
  if (options.bias) {
    bias_ = parameters_.add("bias", {out},
                            options.bias_initialiser ? options.bias_initialiser : initialise::uniform_fan_in(in),
                            {.weight_decay = false});
  }
}

Linear::Linear(ParameterPtr tied_weight) : weight_(std::move(tied_weight)) {}

Tensor Linear::forward(const Tensor& x) const {
  return linear(x, weight_->cast(x), bias_ ? bias_->cast(x) : Tensor());
}

GroupedLinear::GroupedLinear(int64_t groups, int64_t in, int64_t out, Initialiser weight) {
  weight_ = parameters_.add("weight", {groups, out, in}, weight ? weight : initialise::uniform_fan_in(in));
}

Tensor GroupedLinear::forward(const Tensor& x, const std::vector<int64_t>& counts) const {
  return grouped_linear(x, weight_->cast(x), counts);
}

}  // namespace hippodrome

#include "core/layer/norm.h"

#include <ATen/ops/native_layer_norm.h>

#include "core/layer/rms_norm.h"

namespace hippodrome {

Norm::Norm(Kind kind, int64_t width, double epsilon) : kind_(kind), epsilon_(epsilon) {
  const ParameterFacts facts{.weight_decay = false, .keep_float32 = true};
  weight_ = parameters_.add("weight", {width}, initialise::constant(1.0), facts);
  if (kind == Kind::kLayerNorm) {
    bias_ = parameters_.add("bias", {width}, initialise::constant(0.0), facts);
  }
}

Tensor Norm::forward(const Tensor& x) const {
  const bool low_precision = x.scalar_type() == at::kBFloat16 || x.scalar_type() == at::kHalf;
  const Tensor wide = low_precision ? x.to(at::kFloat) : x;
  const Tensor weight = weight_->cast(wide);
  const Tensor y = kind_ == Kind::kLayerNorm
                       ? std::get<0>(at::native_layer_norm(wide, {wide.size(-1)}, weight, bias_->cast(wide), epsilon_))
                       : rms_norm(wide, weight, epsilon_);
  return low_precision ? y.to(x.scalar_type()) : y;
}

}  // namespace hippodrome

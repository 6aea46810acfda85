#pragma once

#include <string>

#include "core/layer/parameters.h"

namespace hippodrome {

// LayerNorm (Ba et al. 2016, with scale and shift) or RMSNorm (Zhang & Sennrich 2019, scale only) over the last dimension.
// Statistics are taken in float32 or wider, whatever x's dtype.
class Norm {
 public:
  enum class Kind { kLayerNorm, kRmsNorm };
  Norm(Kind kind, int64_t width, double epsilon);

  // x [..., width] -> the same shape and dtype.
  Tensor forward(const Tensor& x) const;
  const ParameterPtr& weight() const { return weight_; }  // [width]
  Parameters& parameters() { return parameters_; }

 private:
  Kind kind_;
  double epsilon_;
  Parameters parameters_;
  ParameterPtr weight_;
  ParameterPtr bias_;  // null for RMSNorm
};

}  // namespace hippodrome

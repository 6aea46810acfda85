#pragma once

#include <ATen/core/grad_mode.h>

#include "core/layer/parameters.h"

namespace hippodrome {

// A tensor computed from a parameter, kept as long as the parameter stays as it is: at one token a call, an element-wise map
// of a parameter costs as much as the layer's own kernel. In grad mode it is computed at each call, so that gradients reach
// the parameter. Writes that LibTorch does not count (through a data pointer) go unnoticed.
class Derived {
 public:
  // map(parameter.cast(like)).
  template <class Map>
  Tensor of(const Parameter& parameter, const Tensor& like, const Map& map) {
    const Tensor& source = parameter.value;
    if (at::GradMode::is_enabled() || source.is_inference()) return map(parameter.cast(like));
    if (!source_.is_same(source) || version_ != source._version() || dtype_ != like.scalar_type()) {
      value_ = map(parameter.cast(like));
      source_ = source;  // held, so that another tensor cannot take its place unnoticed
      version_ = source._version();
      dtype_ = like.scalar_type();
    }
    return value_;
  }

 private:
  Tensor source_;
  Tensor value_;
  int64_t version_ = 0;
  at::ScalarType dtype_ = at::kFloat;
};

}  // namespace hippodrome

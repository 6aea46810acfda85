#pragma once

#include <ATen/ops/tensor.h>

#include <functional>
#include <utility>
#include <vector>

#include "core/layer/parameters.h"

namespace hippodrome {

// The same values for every channel: a parameter [D, …] becomes values() [...] in each of its rows. They are computed
// when the parameter is drawn.
inline Initialiser for_every_channel(std::function<Tensor()> values) {
  return [values = std::move(values)](Tensor& value, RandomStream) { value.copy_(values().expand_as(value)); };
}
inline Initialiser for_every_channel(std::function<std::vector<double>()> values) {
  return for_every_channel([values = std::move(values)] { return at::tensor(values(), at::kDouble); });
}

}  // namespace hippodrome

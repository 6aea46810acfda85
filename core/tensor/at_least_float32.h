#pragma once

#include <ATen/core/Tensor.h>

namespace hippodrome {

// What states, sums and other delicate values are kept in where x is of `dtype`: float64 for float64, float32 for all
// others.
inline at::ScalarType at_least_float32(at::ScalarType dtype) { return dtype == at::kDouble ? at::kDouble : at::kFloat; }

}  // namespace hippodrome

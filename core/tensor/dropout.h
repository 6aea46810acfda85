#pragma once

#include <cstdint>
#include <string_view>

#include "core/tensor/tensor.h"

namespace hippodrome {

// Dropout (Srivastava et al. 2014): each element of x is zero with the given probability, and divided by 1 − probability
// otherwise. Which ones is a function of (draw, site, index) alone, so that a repeated call drops the same, on any device,
// and a resumed run repeats bit for bit. x of any shape and floating dtype; differentiable.
Tensor dropout(const Tensor& x, double probability, uint64_t draw, std::string_view site);

}  // namespace hippodrome

#pragma once

#include <vector>

#include "core/layer/layer.h"

namespace hippodrome {

struct TokenShift {
  std::vector<Tensor> mixed;  // one [B, L, D] per mix, in x's dtype
  Tensor last;                // [B, D], the input of the last token that is no padding; float32 or wider
};

// RWKV-4's token shift (Peng et al. 2023, equations 11-13 and 17-18): µ ∘ x_t + (1 - µ) ∘ x_{t-1} for each µ of `mixes`
// [D], where x_{-1} is `previous` [B, D] (zeros when undefined). Before position 0 there are zeros, padding is skipped.
// x [B, L, D]. Differentiable once, in x, previous and the mixes.
TokenShift token_shift(const Tensor& x, const Context& context, const Tensor& previous,
                       const std::vector<Tensor>& mixes);

}  // namespace hippodrome

#pragma once

#include <cstdint>

namespace hippodrome {

// y_o = Σ_i weight[o, i] x_i + bias_o for the outputs o in [begin, end): a matrix times a vector, as decoding one row asks for
// with every weight of a model. It reads the weight once, front to back, which is all that its time is made of. weight
// [out, in] and x [in] are contiguous, bias [out] or null. An output's value depends neither on the range nor on the machine's
// other outputs, so any division among threads gives the same bits.
void row_product(const float* weight, const float* x, const float* bias, int64_t in, int64_t begin, int64_t end, float* y);

}  // namespace hippodrome

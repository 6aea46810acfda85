#pragma once

#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/tensor/tensor.h"

namespace hippodrome {

// LibTorch holds two matrix libraries for the CPU; on some machines one is more than twice as fast as the other in float32.
enum class MatrixLibrary { kMkl, kOneDnn };
std::string matrix_library_name(MatrixLibrary library);  // "mkl", "onednn"
absl::StatusOr<MatrixLibrary> parse_matrix_library(const std::string& name);

// Times both on a product of the shape a layer of this project meets and returns the faster. Some 20 ms.
MatrixLibrary measure_matrix_library();

// The library of this process, as LibTorch's thread count is: set once at start, recorded in every result row.
void set_matrix_library(MatrixLibrary library);
MatrixLibrary matrix_library();

// x [..., in], weight [out, in], bias [out] or undefined -> x weightᵀ + bias, [..., out]. Differentiable once.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias);

// A weight for each group of rows: x [T, in] holds counts[0] rows of group 0, then counts[1] of group 1, …; weight
// [G, out, in] -> [T, out], every row times its own group's weightᵀ. One product per group that has rows. Differentiable once.
Tensor grouped_linear(const Tensor& x, const Tensor& weight, const std::vector<int64_t>& counts);

}  // namespace hippodrome

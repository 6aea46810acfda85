#pragma once

#include <string>

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

}  // namespace hippodrome

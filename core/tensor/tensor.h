#pragma once

#include <ATen/core/Tensor.h>

// The door to LibTorch: the narrow header (1.4 s a file, against 12 s for torch/torch.h) and the names the project uses.
namespace hippodrome {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

}  // namespace hippodrome

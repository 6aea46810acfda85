// The arguments of diagonal_scan. Shared by the CPU and the CUDA operators.
#pragma once

#include <c10/util/Exception.h>

#include "architectures/ssm/mode_scan_binding.h"

namespace hippodrome::diagonal_scan_op {

inline constexpr const char* kName = "diagonal_scan";
inline constexpr size_t kParameters = 6;  // a, b, c, real before imaginary, each [D, N]
using Arguments = mode_scan::Arguments<kParameters>;
using Gradients = mode_scan::Gradients<kParameters>;
using mode_scan::Outputs;

inline void check_parameters(const Tensor& u, const std::array<Tensor, kParameters>& parameters) {
  for (const Tensor& t : parameters) {
    TORCH_CHECK(t.dim() == 2 && t.sym_size(0) == u.sym_size(1) && t.sym_size(1) == parameters[0].sym_size(1),
                "diagonal_scan: a, b and c must all be [D, N] with D = ", u.sym_size(1), ", got ", t.sym_sizes());
  }
}

}  // namespace hippodrome::diagonal_scan_op

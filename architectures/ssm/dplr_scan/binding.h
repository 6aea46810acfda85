// The arguments of dplr_scan. Shared by the CPU and the CUDA operators.
#pragma once

#include <c10/util/Exception.h>

#include "architectures/ssm/dplr_scan/op.h"
#include "architectures/ssm/mode_scan_binding.h"

namespace hippodrome::dplr_scan_op {

inline constexpr const char* kName = "dplr_scan";
inline constexpr size_t kParameters = 5;  // a, b, c [D, N, 2], q, w [D, R, N, 2]
using Arguments = mode_scan::Arguments<kParameters>;
using Gradients = mode_scan::Gradients<kParameters>;
using mode_scan::Outputs;

inline void check_parameters(const Tensor& u, const std::array<Tensor, kParameters>& parameters) {
  for (size_t i = 0; i < kParameters; ++i) {
    const Tensor& t = parameters[i];
    const int64_t axes = i < 3 ? 3 : 4;  // q and w have their rank behind the channel
    TORCH_CHECK(t.dim() == axes && t.sym_size(0) == u.sym_size(1) && t.sym_size(-1) == 2 &&
                    t.sym_size(-2) == parameters[0].sym_size(-2) &&
                    t.sym_size(1) == parameters[i < 3 ? 0 : 3].sym_size(1),
                "dplr_scan: a, b and c must be [D, N, 2], q and w [D, R, N, 2] with D = ", u.sym_size(1), ", got ",
                t.sym_sizes());
  }
  TORCH_CHECK(parameters[3].sym_size(1) >= 1 && parameters[3].sym_size(1) <= kDplrScanMaxRank,
              "dplr_scan: q and w [D, R, N, 2] may have rank R = 1 or 2, not ", parameters[3].sym_size(1));
}

}  // namespace hippodrome::dplr_scan_op

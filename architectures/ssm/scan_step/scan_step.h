// One token of a scan, its state updated in place; the equations are in op.h.
#pragma once

#include <ATen/core/Tensor.h>

#include "architectures/ssm/selective_scan/selective_scan.h"
#include "architectures/ssm/ssd/ssd.h"

namespace hippodrome {

// Whether the arguments are a step's: one token on a GPU; of the selective scan only with real numbers and Euler's
// rule. On the CPU the scans' own updates in place do the same faster.
bool steps_on_gpu(const SelectiveScanArguments& arguments);
bool steps_on_gpu(const SsdArguments& arguments);

// As selective_scan_in_place and ssd_in_place for L = 1: `state` [B, D, N] or [B, H, P, N], contiguous and in the
// working dtype, takes the place of the initial state and becomes the last one, at the same address. Returns y in the
// dtype of u or x. On any device; no gradients. Throws c10::Error on shapes or dtypes that do not fit.
at::Tensor selective_scan_step(const SelectiveScanArguments& arguments, const at::Tensor& state);
at::Tensor ssd_step(const SsdArguments& arguments, const at::Tensor& state);

}  // namespace hippodrome

#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "core/tensor/accelerator.h"

namespace hippodrome {

// Where a number comes from: {"commit", "dirty", "hardware": {"cpu", "cores", "memory_bytes", "gpu",
// "gpu_memory_bytes"}, "versions": {"hippodrome", "torch", "compiler"}, "threads", "matmul", "device", "tf32",
// "started"}. The GPU's are those of the accelerator, where it is one; "tf32" says whether its float32 products may
// round their factors to 10 bits. Callers add seed, dtype and shape.
nlohmann::json provenance(const Accelerator& accelerator = cpu_accelerator());

// "2026-01-31T12:00:00Z", now.
std::string utc_time();

}  // namespace hippodrome

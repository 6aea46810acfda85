#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace hippodrome {

// Where a number comes from: {"commit", "dirty", "hardware": {"cpu", "cores", "memory_bytes", "gpu"}, "versions":
// {"hippodrome", "torch", "compiler"}, "threads", "matmul", "vector", "started"}. Callers add seed, dtype and shape.
nlohmann::json provenance();

// "2026-01-31T12:00:00Z", now.
std::string utc_time();

}  // namespace hippodrome

#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "core/model/language_model.h"
#include "core/tensor/accelerator.h"

namespace hippodrome {

// One (model, length) of a scale measurement, measured in a process of its own. Kept as `point.json` in its folder.
struct PointSpec {
  std::string model_name;
  ModelConfig model;
  int64_t vocabulary = 256;
  int64_t length = 256;
  std::vector<std::string> phases;
  int64_t tokens_per_step = 4096;
  int64_t decode_tokens = 32;
  int64_t repeats = 5;
  double seconds = 20.0;       // cap per phase
  std::string dtype = "float32";

  void bind(Fields& fields);
};

absl::Status write_point_spec(const std::filesystem::path& folder, const PointSpec& spec);
absl::StatusOr<PointSpec> read_point_spec(const std::filesystem::path& folder);

// Measures every phase and returns a row each (experiments/report/rows.h); running out of memory is a row.
absl::StatusOr<std::vector<nlohmann::json>> run_point(const PointSpec& spec, const Registry& registry,
                                                      Accelerator& accelerator);

// The row of a phase without a result.
nlohmann::json unfinished_point_row(const PointSpec& spec, const Accelerator& accelerator, const std::string& phase,
                                    const std::string& status, const std::string& message);

}  // namespace hippodrome

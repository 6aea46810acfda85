#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/model/language_model.h"

namespace hippodrome {

// A folder of our own that holds a model without its training: model.json (the config, and the config.json it was imported
// from) and model.safetensors (parameters by our names).
struct ModelFolder {
  ModelConfig config;
  nlohmann::json source;  // null where it is not an import
};

bool is_model_folder(const std::filesystem::path& folder);
absl::StatusOr<ModelFolder> read_model_folder(const std::filesystem::path& folder);

// Weights are stored as `dtype`. AlreadyExists where there is a model in it.
absl::Status write_model_folder(const std::filesystem::path& folder, const ModelFolder& described, LanguageModel& model,
                                at::ScalarType dtype);

}  // namespace hippodrome

#pragma once

#include <filesystem>
#include <memory>

#include "architectures/huggingface/family.h"

// Folders as Hugging Face's transformers writes and reads them, to models and back. Families, names, dialects:
// README.md.
namespace hippodrome::huggingface {

// config.json, understood.
struct Description {
  const Family* family = nullptr;
  ModelConfig config;
  Json json;  // config.json itself
};
// InvalidArgument or Unimplemented, naming the file and the key, for what is wrong or is not computed here.
absl::StatusOr<Description> describe(std::string_view config_json, const std::string& file);
absl::StatusOr<Description> describe_folder(const std::filesystem::path& folder);
// Its model on the meta device.
absl::StatusOr<std::unique_ptr<LanguageModel>> make_model(const Description& description, const Registry& registry);

struct Import {
  Description description;
  std::unique_ptr<LanguageModel> model;
  std::string stored;  // types of the tensors on disk: "bfloat16", "float32, float16"
};
// Reads config and weights; parameters and computation get `dtype`, float32 or float64.
absl::StatusOr<Import> import_folder(const std::filesystem::path& folder, const Registry& registry,
                                     at::ScalarType dtype);

struct ExportOptions {
  at::ScalarType dtype = at::kFloat;  // of the tensors on disk
  int64_t shard_bytes = int64_t{5} << 30;
  Json source = {};  // config.json that the model came from, for what does not change the computation (token ids); or null
};
// Writes config.json and the weights of a materialised model. Unimplemented, listing why, when no family computes the
// same. Returns the family.
absl::StatusOr<const Family*> export_folder(const std::filesystem::path& folder, const ModelConfig& config,
                                            LanguageModel& model, const Registry& registry,
                                            const ExportOptions& options);

}  // namespace hippodrome::huggingface

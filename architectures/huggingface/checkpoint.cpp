#include "architectures/huggingface/checkpoint.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <set>

#include "architectures/huggingface/comparison.h"
#include "architectures/huggingface/folder.h"
#include "core/base/text.h"
#include "core/io/atomic_file.h"

namespace hippodrome::huggingface {

namespace fs = std::filesystem;

namespace checkpoint_detail {
namespace {

// A config.json of more is none.
constexpr size_t kLargestConfig = 16 << 20;
// Differences told of a model that cannot be exported; a wrong family has hundreds.
constexpr size_t kMostTold = 8;

std::string type_name(at::ScalarType type) {
  switch (type) {
    case at::kDouble:
      return "float64";
    case at::kFloat:
      return "float32";
    case at::kHalf:
      return "float16";
    case at::kBFloat16:
      return "bfloat16";
    default:
      return c10::toString(type);
  }
}

std::string types_of(const std::map<std::string, Tensor>& tensors) {
  std::set<std::string> types;
  for (const auto& [name, tensor] : tensors) types.insert(type_name(tensor.scalar_type()));
  return join({types.begin(), types.end()}, ", ");
}

// Keys that say nothing of the computation and that people miss when they are gone.
void keep_from(const Json& source, Json& json) {
  for (const char* key :
       {"bos_token_id", "eos_token_id", "pad_token_id", "max_position_embeddings", "context_length"}) {
    if (source.is_object() && source.contains(key)) json[key] = source[key];
  }
}

}  // namespace
}  // namespace checkpoint_detail

absl::StatusOr<Description> describe(std::string_view config_json, const std::string& file) {
  Description description;
  ASSIGN_OR_RETURN(description.json, parse_json(config_json, file));
  ASSIGN_OR_RETURN(description.family, family_named(description.json, file));
  if (const auto quantised = description.json.find("quantization_config");
      quantised != description.json.end() && !quantised->is_null()) {
    return unsupported(file, "\"quantization_config\": quantised weights are not read");
  }
  ASSIGN_OR_RETURN(description.config, description.family->read(description.json, file));
  return description;
}

absl::StatusOr<Description> describe_folder(const fs::path& folder) {
  const fs::path file = folder / "config.json";
  ASSIGN_OR_RETURN(const std::string text, read_file(file, checkpoint_detail::kLargestConfig));
  return describe(text, file.string());
}

absl::StatusOr<std::unique_ptr<LanguageModel>> make_model(const Description& description, const Registry& registry) {
  try {
    return LanguageModel::make(description.config, description.config.vocabulary, "model", registry);
  } catch (const c10::Error& error) {
    // Sizes that are each in range and together beyond 64 bits.
    const std::string reason = error.what_without_backtrace();
    return absl::InvalidArgumentError("a model of this config cannot be made: " + reason.substr(0, reason.find('\n')));
  }
}

absl::StatusOr<Import> import_folder(const fs::path& folder, const Registry& registry, at::ScalarType dtype) {
  Import result;
  ASSIGN_OR_RETURN(result.description, describe_folder(folder));
  ASSIGN_OR_RETURN(result.model, make_model(result.description, registry));
  ASSIGN_OR_RETURN(const Weights weights, read_weights(folder));
  result.stored = checkpoint_detail::types_of(weights.tensors);
  RETURN_IF_ERROR(fill(*result.description.family, *result.model, weights.tensors, weights.where, dtype));
  result.model->set_compute_dtype(dtype);
  return result;
}

absl::StatusOr<const Family*> export_folder(const fs::path& folder, const ModelConfig& config, LanguageModel& model,
                                            const Registry& registry, const ExportOptions& options) {
  ModelConfig sized = config;
  sized.vocabulary = model.vocabulary();
  ASSIGN_OR_RETURN(const ResolvedModel resolved, resolve(sized, model, registry));
  // Mistral without its window is Llama: what came from a family goes back to it.
  const absl::StatusOr<const Family*> chosen = options.source.is_object()
                                                   ? family_named(options.source, "the config it came from")
                                                   : family_resembling(resolved);
  ASSIGN_OR_RETURN(const Family* family, chosen);
  ASSIGN_OR_RETURN(Json json, family->write(resolved));
  // Whatever the family cannot say shows when its config is read back.
  const std::string file = "the config of a " + family->name + " model";
  Description back{family, {}, json};
  ASSIGN_OR_RETURN(back.config, family->read(json, file));
  ASSIGN_OR_RETURN(const auto twin, make_model(back, registry));
  ASSIGN_OR_RETURN(const ResolvedModel resolved_twin, resolve(back.config, *twin, registry));
  std::vector<std::string> found = differences(resolved, resolved_twin);
  if (!found.empty()) {
    const size_t all = found.size();
    found.resize(std::min(all, checkpoint_detail::kMostTold));
    return absl::UnimplementedError("this model is like " + family->name + " models but cannot be written as one: " +
                                    join(found, "; ") + (all > found.size() ? "; and more" : ""));
  }
  ASSIGN_OR_RETURN(const std::vector<Placement> placements, place(*family, model));
  std::error_code error;
  if (fs::exists(folder / "config.json", error)) {
    return absl::AlreadyExistsError(folder.string() + " holds a model already: name another folder");
  }
  fs::create_directories(folder, error);
  if (error) return absl::PermissionDeniedError("cannot make the folder " + folder.string() + ": " + error.message());
  checkpoint_detail::keep_from(options.source, json);
  json["model_type"] = family->name;
  json["architectures"] = Json::array({family->architecture});
  json["torch_dtype"] = checkpoint_detail::type_name(options.dtype);
  // The weights first: a folder with a config is a whole one.
  RETURN_IF_ERROR(write_weights(folder, placements, options.dtype, options.shard_bytes));
  RETURN_IF_ERROR(write_file(folder / "config.json", json.dump(2) + "\n"));
  return family;
}

}  // namespace hippodrome::huggingface

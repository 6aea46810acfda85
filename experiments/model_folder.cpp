#include "experiments/model_folder.h"

#include "core/io/atomic_file.h"
#include "core/io/json_config.h"
#include "core/io/safetensors.h"

namespace hippodrome {

namespace fs = std::filesystem;

bool is_model_folder(const fs::path& folder) { return fs::exists(folder / "model.json"); }

absl::StatusOr<ModelFolder> read_model_folder(const fs::path& folder) {
  const fs::path file = folder / "model.json";
  ModelFolder described;
  ASSIGN_OR_RETURN(const ConfigValue table, read_json_config(file));
  const ConfigValue* config = table.find("config");
  if (!config) return absl::DataLossError(file.string() + ": \"config\" is missing");
  ASSIGN_OR_RETURN(described.config, read_config<ModelConfig>(*config, "config"));
  ASSIGN_OR_RETURN(const std::string text, read_file(file));
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.contains("source")) described.source = json["source"];
  return described;
}

absl::Status write_model_folder(const fs::path& folder, const ModelFolder& described, LanguageModel& model,
                                at::ScalarType dtype) {
  if (is_model_folder(folder)) {
    return absl::AlreadyExistsError(folder.string() + " holds a model already: name another folder");
  }
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return absl::PermissionDeniedError("cannot make the folder " + folder.string() + ": " + error.message());
  std::map<std::string, Tensor> weights;
  for (const ParameterPtr& parameter : model.parameters().list()) {
    weights.emplace(parameter->name, parameter->value.detach().to(dtype));
  }
  RETURN_IF_ERROR(write_safetensors(folder / "model.safetensors", weights, {}));
  const nlohmann::json json = {{"config", nlohmann::json::parse(write_config(described.config).json())},
                               {"source", described.source}};
  // Last: a folder with it is whole.
  return write_file(folder / "model.json", json.dump(2) + "\n");
}

}  // namespace hippodrome

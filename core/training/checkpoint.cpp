#include <ATen/core/grad_mode.h>

#include <map>
#include <nlohmann/json.hpp>

#include "core/io/atomic_file.h"
#include "core/io/safetensors.h"
#include "core/io/weight_mismatch.h"
#include "core/training/trainer.h"

namespace hippodrome {

namespace fs = std::filesystem;

absl::StatusOr<fs::path> latest_checkpoint(const fs::path& folder) {
  const fs::path pointer = folder / "latest";
  if (!fs::exists(pointer)) return absl::NotFoundError(folder.string() + " holds no checkpoint");
  ASSIGN_OR_RETURN(std::string name, read_file(pointer));
  while (!name.empty() && name.back() == '\n') name.pop_back();
  if (name.find('/') != std::string::npos || !fs::is_directory(folder / name)) {
    return absl::DataLossError(pointer.string() + " names \"" + name + "\", which is not a checkpoint beside it");
  }
  return folder / name;
}

absl::Status load_parameters(Parameters& parameters, const fs::path& file) {
  ASSIGN_OR_RETURN(auto tensors, read_safetensors(file));
  WeightMismatch mismatch;
  const at::NoGradGuard no_grad;
  for (const ParameterPtr& parameter : parameters.list()) {
    const auto found = tensors.find(parameter->name);
    if (found == tensors.end()) {
      mismatch.missing.push_back(parameter->name);
    } else {
      if (found->second.sizes() != parameter->value.sizes()) {
        mismatch.add_misshapen(parameter->name, found->second.sizes(), parameter->value.sizes());
      } else {
        parameter->value.copy_(found->second);
      }
      tensors.erase(found);
    }
  }
  for (const auto& [name, tensor] : tensors) mismatch.extra.push_back(name);
  return mismatch.status(file.string());
}

absl::Status Trainer::save(const fs::path& folder) const {
  const std::string name = "step-" + std::to_string(steps_done_);
  const fs::path target = folder / name;
  std::error_code error;
  fs::create_directories(target, error);
  if (error) return absl::PermissionDeniedError("cannot make the folder " + target.string() + ": " + error.message());
  std::map<std::string, Tensor> weights;
  for (const ParameterPtr& parameter : model_.parameters().list()) {
    weights.emplace(parameter->name, parameter->value.detach());
  }
  RETURN_IF_ERROR(write_safetensors(target / "model.safetensors", weights, {}));
  RETURN_IF_ERROR(write_safetensors(target / "optimizer.safetensors", optimiser_.tensors(), {}));
  const nlohmann::json facts = {{"step", steps_done_}, {"seed", seed_}, {"length", length_}};
  RETURN_IF_ERROR(write_file(target / "trainer.json", facts.dump(2) + "\n"));
  RETURN_IF_ERROR(write_file(folder / "latest", name + "\n"));
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.is_directory() && entry.path().filename() != name) fs::remove_all(entry.path(), error);
  }
  return absl::OkStatus();
}

absl::Status Trainer::restore(const fs::path& folder) {
  ASSIGN_OR_RETURN(const fs::path source, latest_checkpoint(folder));
  ASSIGN_OR_RETURN(const std::string text, read_file(source / "trainer.json"));
  const nlohmann::json facts = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!facts.is_object() || !facts.contains("step") || !facts["step"].is_number_integer() || !facts.contains("seed") ||
      facts["seed"] != seed_) {
    return absl::DataLossError((source / "trainer.json").string() + " is not the state of this trial");
  }
  RETURN_IF_ERROR(load_parameters(model_.parameters(), source / "model.safetensors"));
  ASSIGN_OR_RETURN(const auto moments, read_safetensors(source / "optimizer.safetensors"));
  RETURN_IF_ERROR(optimiser_.restore(moments));
  steps_done_ = facts["step"].get<int64_t>();
  return absl::OkStatus();
}

}  // namespace hippodrome

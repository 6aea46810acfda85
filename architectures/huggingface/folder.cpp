#include "architectures/huggingface/folder.h"

#include <cstdio>
#include <set>

#include "core/io/atomic_file.h"
#include "core/io/safetensors.h"
#include "core/io/weight_mismatch.h"

namespace hippodrome::huggingface {

namespace fs = std::filesystem;

namespace folder_detail {
namespace {

constexpr char kSingle[] = "model.safetensors";
constexpr char kIndex[] = "model.safetensors.index.json";
// A config or index of more is none.
constexpr size_t kLargestText = 64 << 20;

absl::Status no_weights(const fs::path& folder) {
  for (const char* pickle : {"pytorch_model.bin", "pytorch_model.bin.index.json"}) {
    if (fs::exists(folder / pickle)) {
      return absl::UnimplementedError(folder.string() + " holds its weights in " + pickle +
                                      ", a pickle: convert them to model.safetensors");
    }
  }
  return absl::NotFoundError(folder.string() + " holds neither " + kSingle + " nor " + kIndex);
}

int64_t bytes_of(const Placement& placement, at::ScalarType dtype) {
  return placement.parameter->value.numel() * static_cast<int64_t>(c10::elementSize(dtype));
}

// Which file each placement goes to, filling one after another.
std::vector<int64_t> shards(const std::vector<Placement>& placements, at::ScalarType dtype, int64_t shard_bytes) {
  std::vector<int64_t> result;
  int64_t shard = 0, filled = 0;
  for (const Placement& placement : placements) {
    const int64_t bytes = bytes_of(placement, dtype);
    if (filled > 0 && filled + bytes > shard_bytes) {
      ++shard;
      filled = 0;
    }
    filled += bytes;
    result.push_back(shard);
  }
  return result;
}

std::string shard_name(int64_t shard, int64_t count) {
  if (count == 1) return kSingle;
  char name[64];
  std::snprintf(name, sizeof(name), "model-%05d-of-%05d.safetensors", static_cast<int>(shard + 1),
                static_cast<int>(count));
  return name;
}

}  // namespace
}  // namespace folder_detail

absl::StatusOr<std::map<std::string, std::string>> read_index(std::string_view text, const std::string& file) {
  ASSIGN_OR_RETURN(const Json json, parse_json(text, file));
  const auto map = json.find("weight_map");
  if (map == json.end() || !map->is_object()) {
    return absl::DataLossError(file + ": \"weight_map\" is missing, or is not an object");
  }
  std::map<std::string, std::string> result;
  for (const auto& [name, shard] : map->items()) {
    // A file beside the index, not anywhere on the machine.
    if (!shard.is_string() || shard == "" || shard == "." || shard == ".." ||
        shard.get_ref<const std::string&>().find_first_of(std::string_view("/\\\0", 3)) != std::string::npos) {
      return absl::DataLossError(file + ": \"weight_map\" must name files beside it, not " +
                                 shard.dump(-1, ' ', /*ensure_ascii=*/true).substr(0, 80));
    }
    result.emplace(name, shard.get<std::string>());
  }
  return result;
}

absl::StatusOr<Weights> read_weights(const fs::path& folder) {
  using namespace folder_detail;
  if (fs::exists(folder / kSingle)) {
    Weights weights{{}, (folder / kSingle).string()};
    ASSIGN_OR_RETURN(weights.tensors, read_safetensors(folder / kSingle));
    return weights;
  }
  if (!fs::exists(folder / kIndex)) return no_weights(folder);
  Weights weights{{}, (folder / kIndex).string()};
  ASSIGN_OR_RETURN(const std::string text, read_file(folder / kIndex, kLargestText));
  ASSIGN_OR_RETURN(const auto index, read_index(text, weights.where));
  std::set<std::string> files;
  for (const auto& [name, file] : index) files.insert(file);
  WeightMismatch mismatch;
  for (const std::string& file : files) {
    ASSIGN_OR_RETURN(auto tensors, read_safetensors(folder / file));
    for (auto& [name, tensor] : tensors) {
      const auto indexed = index.find(name);
      if (indexed == index.end() || indexed->second != file) {
        mismatch.extra.push_back(name + " in " + file);
      } else {
        weights.tensors.emplace(name, std::move(tensor));
      }
    }
  }
  for (const auto& [name, file] : index) {
    if (weights.tensors.count(name) == 0) mismatch.missing.push_back(name + " in " + file);
  }
  RETURN_IF_ERROR(mismatch.status("the index " + weights.where));
  return weights;
}

absl::Status write_weights(const fs::path& folder, const std::vector<Placement>& placements, at::ScalarType dtype,
                           int64_t shard_bytes) {
  using namespace folder_detail;
  const std::vector<int64_t> shard_of = shards(placements, dtype, shard_bytes);
  const int64_t count = shard_of.empty() ? 1 : shard_of.back() + 1;
  Json map = Json::object();
  int64_t total = 0;
  for (int64_t shard = 0; shard < count; ++shard) {
    std::map<std::string, Tensor> tensors;
    for (size_t i = 0; i < placements.size(); ++i) {
      if (shard_of[i] != shard) continue;
      const std::vector<Tensor> parts = take_apart(placements[i]);
      for (size_t part = 0; part < parts.size(); ++part) {
        const std::string& name = placements[i].parts[part].name;
        tensors.emplace(name, parts[part].to(dtype));
        map[name] = shard_name(shard, count);
      }
      total += bytes_of(placements[i], dtype);
    }
    // transformers refuses files that do not say whose layout theirs is.
    RETURN_IF_ERROR(write_safetensors(folder / shard_name(shard, count), tensors, {{"format", "pt"}}));
  }
  if (count == 1) return absl::OkStatus();
  const Json index = {{"metadata", {{"total_size", total}}}, {"weight_map", map}};
  return write_file(folder / kIndex, index.dump(2) + "\n");
}

absl::Status copy_companions(const fs::path& from, const fs::path& to) {
  for (const char* name : {"tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
                           "vocab.json", "merges.txt", "generation_config.json"}) {
    std::error_code error;
    if (!fs::is_regular_file(from / name, error)) continue;
    fs::copy_file(from / name, to / name, fs::copy_options::overwrite_existing, error);
    if (error)
      return absl::PermissionDeniedError("cannot copy " + (from / name).string() + " to " + to.string() + ": " +
                                         error.message());
  }
  return absl::OkStatus();
}

}  // namespace hippodrome::huggingface

#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "architectures/huggingface/placement.h"

// A model's folder on disk: config.json, and weights in one model.safetensors or in several with an index.
namespace hippodrome::huggingface {

struct Weights {
  std::map<std::string, Tensor> tensors;  // mapped from the files
  std::string where;                      // the file or index, for messages
};
// DataLoss lists tensors that the index has and its files lack, or the other way.
absl::StatusOr<Weights> read_weights(const std::filesystem::path& folder);

// An index: tensor name -> file beside it.
absl::StatusOr<std::map<std::string, std::string>> read_index(std::string_view text, const std::string& file);

// Writes the tensors in `dtype`; in several files with an index when there are more than `shard_bytes`.
absl::Status write_weights(const std::filesystem::path& folder, const std::vector<Placement>& placements,
                           at::ScalarType dtype, int64_t shard_bytes);

// Copies what tokenizers and generation need, where it is there.
absl::Status copy_companions(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace hippodrome::huggingface

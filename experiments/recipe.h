#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/base/config.h"
#include "core/data/task.h"
#include "core/layer/registry.h"
#include "core/model/language_model.h"
#include "core/training/trainer.h"

namespace hippodrome {

struct RecipeModel {
  std::string name;
  ModelConfig config;
  std::string path;         // "models.mamba", for error sentences
  ConfigValue training;     // keys that override the recipe's and the task's
};

struct RecipeTask {
  std::string name;         // of this entry; two entries may vary one task
  std::string task;         // registered
  ConfigValue keys;         // the task's own
  std::string path;
  ConfigValue training;
};

struct MatchConfig {
  double parameters = 0.0;  // 0: widths are taken as written
  double tolerance = 0.02;
  void bind(Fields& fields);
};

struct ScaleConfig {
  std::vector<int64_t> lengths = {256, 512, 1024, 2048, 4096, 8192, 16384};
  std::vector<std::string> phases = {"train", "prefill", "decode"};
  int64_t vocabulary = 256;
  int64_t tokens_per_step = 0;   // of a training step, held constant as the length grows; 0: the longest length
  int64_t decode_tokens = 32;    // per sample
  int64_t repeats = 5;
  double seconds = 20.0;         // time cap per model, length and phase
  std::string dtype = "float32";
  void bind(Fields& fields);
};

// A recipe, read and checked: models × tasks × seeds, and what to measure over sequence lengths.
struct Recipe {
  std::string name;
  std::string description;
  std::vector<int64_t> seeds = {1};
  int64_t threads = 0;           // 0: all cores
  std::string memory;            // cap per trial or point, e.g. "8GiB"; empty: none
  std::string matmul = "auto";   // auto | mkl | onednn
  MatchConfig match;
  ConfigValue training;
  std::vector<RecipeModel> models;
  std::vector<RecipeTask> tasks;
  bool has_scale = false;
  ScaleConfig scale;

  ConfigValue source;            // the tree it was read from, presets expanded and overrides applied
};

// Reads a recipe file with `--set` overrides. All names are resolved and all keys checked, so that a mistake is found before
// the first step of training.
absl::StatusOr<Recipe> read_recipe(const std::filesystem::path& file, const std::vector<std::string>& overrides,
                                   const Registry& registry);
absl::StatusOr<Recipe> recipe_from(ConfigValue root, const std::vector<std::string>& overrides, const Registry& registry);

// The training config of one cell: the recipe's keys, then the task's, then the model's.
absl::StatusOr<TrainingConfig> training_for(const Recipe& recipe, const RecipeModel& model, const RecipeTask& task);

// "8GiB", "500 MB", "1e9" -> bytes.
absl::StatusOr<int64_t> parse_bytes(const std::string& text);

}  // namespace hippodrome

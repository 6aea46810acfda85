#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "architectures/registry.h"
#include "core/io/toml.h"
#include "core/model/language_model.h"

// Small models for pairs, of the project's own layers, for tests of everything that reads a source.
namespace hippodrome::small_translators {

inline const Registry& registry() {
  static const Registry all = [] {
    Registry filled;
    register_all(filled);
    return filled;
  }();
  return all;
}

inline absl::StatusOr<std::unique_ptr<LanguageModel>> make(const std::string& toml, int64_t vocabulary = 7) {
  ASSIGN_OR_RETURN(const ConfigValue table, parse_toml(toml, "model.toml"));
  ASSIGN_OR_RETURN(const ModelConfig config, read_config<ModelConfig>(table, "models.m"));
  return LanguageModel::make(config, vocabulary, "models.m", registry());
}

// With values that are far from the initial ones, so that outputs differ from token to token.
inline std::unique_ptr<LanguageModel> drawn(const std::string& toml, at::ScalarType dtype = at::kDouble) {
  auto model = make(toml);
  EXPECT_TRUE(model.ok()) << model.status();
  (*model)->parameters().materialise(3, at::TensorOptions().dtype(dtype));
  (*model)->set_compute_dtype(dtype);
  for (const ParameterPtr& parameter : (*model)->parameters().list()) {
    Tensor noise = parameter->value.clone();
    initialise::normal(0.4)(noise, RandomStream(5, parameter->name));
    parameter->value.add_(noise);
  }
  return std::move(*model);
}

// One of each kind: what is attended to, handed over, mixed; and one that reads source and target as one row.
inline const std::vector<std::pair<std::string, std::string>>& all() {
  static const std::vector<std::pair<std::string, std::string>> models = {
      {"sutskever",
       "pattern = [\"lstm\"]\nrepeats = 2\nwidth = 6\nnorm_position = \"none\"\nresidual = false\nhandover = true\n"
       "[encoder]\npattern = [\"lstm\"]\nreverse = true\nfinal_norm = false"},
      {"rnnencdec",
       "pattern = [\"attentive_gru\"]\nrepeats = 1\nwidth = 6\nnorm_position = \"none\"\nresidual = false\n"
       "[blocks.attentive_gru]\ncontext = \"last\"\nstart = \"last\"\n"
       "[encoder]\npattern = [\"gru\"]\nrepeats = 1\n[encoder.blocks.gru]\nreset = \"before\""},
      {"rnnsearch",
       "pattern = [\"attentive_gru\"]\nrepeats = 1\nwidth = 6\nnorm_position = \"none\"\nresidual = false\n"
       "[encoder]\npattern = [\"gru\"]\nrepeats = 1\n[encoder.blocks.gru]\nreset = \"before\"\ndirection = \"both\""},
      {"gnmt",
       "pattern = [\"gnmt_decoder\"]\nrepeats = 1\nwidth = 6\nnorm_position = \"none\"\nresidual = false\n"
       "[blocks.gnmt_decoder]\nlayers = 3\n"
       "[encoder]\npattern = [\"bottom\", \"top\"]\nrepeats = 1\n[encoder.blocks.bottom]\nlayer = \"lstm\"\n"
       "direction = \"both\"\n[encoder.blocks.top]\nlayer = \"lstm\""},
      {"vaswani",
       "pattern = [\"attention\", \"cross_attention\", \"mlp\"]\nwidth = 8\nnorm_position = \"post\"\nfinal_norm = "
       "false\n"
       "positions = \"sinusoidal\"\n[blocks.attention]\nheads = 2\n[blocks.cross_attention]\nheads = 2\n"
       "[encoder]\npattern = [\"attention\", \"mlp\"]\nshared_embedding = true\n[encoder.blocks.attention]\n"
       "heads = 2\ncausal = false"},
      {"mixture",
       "pattern = [\"mamba\", \"additive\"]\nwidth = 8\n[blocks.additive]\nlayer = \"cross_attention\"\n"
       "scoring = \"additive\"\n[encoder]\npattern = [\"rwkv_time_mix\"]\nrepeats = 1"},
      {"decoder-only", "pattern = [\"attention\", \"mlp\"]\nwidth = 8"},
      {"decoder-only recurrence", "pattern = [\"gru\", \"mlp\"]\nwidth = 8"},
  };
  return models;
}

}  // namespace hippodrome::small_translators

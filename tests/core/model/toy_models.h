#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "core/io/toml.h"
#include "core/model/language_model.h"
#include "tests/core/layer/toys.h"

// Models of toy layers, from the keys that recipes write.
namespace hippodrome::toys {

inline const Registry& shared_toys() {
  static const Registry registry = toy_registry();
  return registry;
}

// The config that these lines of TOML give.
inline ModelConfig model_config(const std::string& toml) {
  const auto table = parse_toml(toml, "model.toml");
  EXPECT_TRUE(table.ok()) << table.status();
  const auto config = read_config<ModelConfig>(*table, "models.toy");
  EXPECT_TRUE(config.ok()) << config.status();
  return *config;
}

inline std::unique_ptr<LanguageModel> model_of(const std::string& toml, int64_t vocabulary = 7) {
  auto model = LanguageModel::make(model_config(toml), vocabulary, "models.toy", shared_toys());
  EXPECT_TRUE(model.ok()) << model.status();
  return std::move(*model);
}

inline std::unique_ptr<LanguageModel> drawn_model(const std::string& toml, int64_t vocabulary = 7, uint64_t seed = 1,
                                                  at::ScalarType dtype = at::kFloat) {
  auto model = model_of(toml, vocabulary);
  model->parameters().materialise(seed, dtype);
  model->set_compute_dtype(dtype);
  return model;
}

inline const char kToyModel[] = R"(
pattern = ["gated", "mlp"]
repeats = 1
width = 16
)";

}  // namespace hippodrome::toys

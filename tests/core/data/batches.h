#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/data/task.h"

// Short ways for the tests of tasks to say what they mean.
namespace hippodrome::testing_data {

inline std::unique_ptr<Task> made(const std::string& name, const ConfigValue& config = ConfigValue()) {
  absl::StatusOr<std::unique_ptr<Task>> task = make_task(name, config, "tasks." + name);
  EXPECT_TRUE(task.ok()) << task.status();
  return task.ok() ? *std::move(task) : nullptr;
}

inline std::string error_of(const std::string& name, const ConfigValue& config) {
  return std::string(make_task(name, config, "tasks." + name).status().message());
}

template <class T>
ConfigValue table(const std::string& key, T value) {
  ConfigValue config;
  config.set(key, ConfigValue(std::move(value)));
  return config;
}

inline ConfigValue with(ConfigValue config, const std::string& key, int64_t value) {
  config.set(key, ConfigValue(value));
  return config;
}
inline ConfigValue with(ConfigValue config, const std::string& key, const std::string& value) {
  config.set(key, ConfigValue(value));
  return config;
}

inline Batch batch_of(const Task& task, const BatchRequest& request) {
  absl::StatusOr<Batch> batch = task.batch(request);
  EXPECT_TRUE(batch.ok()) << batch.status();
  return *std::move(batch);
}

inline std::vector<int64_t> ids(const Tensor& tensor) {
  const int64_t* data = tensor.const_data_ptr<int64_t>();
  return {data, data + tensor.numel()};
}

// One row of tokens and labels.
struct Row {
  std::vector<int64_t> tokens;
  std::vector<int64_t> labels;
};

inline std::vector<Row> rows_of(const Task& task, const BatchRequest& request) {
  const Batch batch = batch_of(task, request);
  const std::vector<int64_t> tokens = ids(batch.tokens);
  const std::vector<int64_t> labels = ids(batch.labels);
  std::vector<Row> rows(static_cast<size_t>(request.rows));
  for (int64_t row = 0; row < request.rows; ++row) {
    const int64_t begin = row * request.length;
    rows[row].tokens.assign(tokens.begin() + begin, tokens.begin() + begin + request.length);
    rows[row].labels.assign(labels.begin() + begin, labels.begin() + begin + request.length);
  }
  return rows;
}

// Four standard deviations of an accuracy over `count` answers at `level`.
inline double tolerance(double level, double count) { return 4.0 * std::sqrt(level * (1.0 - level) / count); }

}  // namespace hippodrome::testing_data

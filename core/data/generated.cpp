#include "core/data/generated.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace hippodrome {
namespace {

// Evaluation rows must not change with the training seed, so their streams start from a number of their own.
constexpr uint64_t kEvaluationSeed = 0x48697070;

}  // namespace

RandomStream split_stream(std::string_view task, const BatchRequest& request) {
  const uint64_t seed = request.split == Split::kTrain ? request.seed : kEvaluationSeed;
  return RandomStream(seed, task).fork(split_name(request.split)).fork(static_cast<uint64_t>(request.length));
}

GeneratedTask::GeneratedTask(std::string name, int64_t length, std::vector<int64_t> test_lengths)
    : name_(std::move(name)), length_(length), test_lengths_(sorted_lengths(std::move(test_lengths), length)) {}

absl::StatusOr<Batch> GeneratedTask::batch(const BatchRequest& request) const {
  ASSIGN_OR_RETURN(Batch batch, blank_batch(request));
  RETURN_IF_ERROR(accepts(request.length));
  fill({request.rows, request.length, batch.tokens.mutable_data_ptr<int64_t>(),
        batch.labels.mutable_data_ptr<int64_t>(), split_stream(name_, request), first_row(request)});
  return batch;
}

absl::Status GeneratedTask::check_lengths(const ConfigValue& config, const std::string& path) const {
  for (const int64_t length : test_lengths_) {
    if (const absl::Status status = accepts(length); !status.ok()) {
      return config_error(config, path, std::string(status.message()));
    }
  }
  return absl::OkStatus();
}

absl::Status check_request(const BatchRequest& request) {
  if (request.rows >= 1 && request.length >= 1 && request.step >= 0) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("a batch needs at least one row, a length of at least 1 and a step of at least 0, not ",
                   request.rows, " rows, length ", request.length, ", step ", request.step));
}

absl::StatusOr<Batch> blank_batch(const BatchRequest& request) {
  RETURN_IF_ERROR(check_request(request));
  const int64_t shape[] = {request.rows, request.length};
  // Filled by hand: LibTorch's fill wakes the thread pool, which costs more than the fill where cores are shared.
  Batch batch;
  batch.tokens = at::empty(shape, at::kLong);
  std::fill_n(batch.tokens.mutable_data_ptr<int64_t>(), batch.tokens.numel(), 0);
  batch.labels = at::empty(shape, at::kLong);
  std::fill_n(batch.labels.mutable_data_ptr<int64_t>(), batch.labels.numel(), kNoLabel);
  batch.positions = at::empty(shape, at::kLong);
  int64_t* positions = batch.positions.mutable_data_ptr<int64_t>();
  for (int64_t row = 0; row < request.rows; ++row) {
    for (int64_t t = 0; t < request.length; ++t) {
      positions[row * request.length + t] = t;
    }
  }
  return batch;
}

std::vector<int64_t> sorted_lengths(std::vector<int64_t> lengths, int64_t trained) {
  lengths.push_back(trained);
  std::sort(lengths.begin(), lengths.end());
  lengths.erase(std::unique(lengths.begin(), lengths.end()), lengths.end());
  return lengths;
}

std::vector<int64_t> multiples(int64_t length, const std::vector<int64_t>& factors) {
  std::vector<int64_t> lengths;
  for (const int64_t factor : factors) {
    lengths.push_back(factor * length);
  }
  return lengths;
}

absl::Status config_error(const ConfigValue& config, const std::string& path, std::string_view sentence) {
  std::string message;
  if (!config.where().file.empty()) {
    absl::StrAppend(&message, config.where().text(), ": ");
  }
  if (!path.empty()) {
    absl::StrAppend(&message, "[", path, "]: ");
  }
  return absl::InvalidArgumentError(message.append(sentence));
}

std::string split_name(Split split) {
  switch (split) {
    case Split::kTrain:
      return "train";
    case Split::kValidation:
      return "validation";
    case Split::kTest:
      return "test";
  }
  return "";
}

ConfigValue provenance_of(std::string_view name, int version) {
  ConfigValue value;
  value.set("task", ConfigValue(std::string(name)));
  value.set("version", ConfigValue(int64_t{version}));
  return value;
}

}  // namespace hippodrome

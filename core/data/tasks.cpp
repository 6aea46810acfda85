#include "absl/strings/str_cat.h"
#include "core/base/text.h"
#include "core/data/induction.h"
#include "core/data/parity.h"
#include "core/data/recall.h"
#include "core/data/selective_copying.h"
#include "core/data/sequence_pairs.h"
#include "core/data/task.h"
#include "core/data/text.h"
#include "core/data/translation.h"

namespace hippodrome {

std::string_view metric_name(Metric metric) { return metric == Metric::kAccuracy ? "accuracy" : "bits_per_byte"; }

Batch Batch::part(int64_t first, int64_t count) const {
  Batch result = *this;
  for (Tensor* tensor : {&result.tokens, &result.labels, &result.positions, &result.source, &result.source_positions}) {
    if (tensor->defined()) *tensor = tensor->narrow(0, first, count);
  }
  return result;
}

int64_t Task::available_steps(Split, int64_t, int64_t) const { return 0; }

const std::vector<TaskEntry>& tasks() {
  static const std::vector<TaskEntry> list = {text_task(),      parity_task(), selective_copying_task(),
                                              induction_task(), recall_task(), reverse_task(),
                                              copy_task(),      sort_task(),   translate_task()};
  return list;
}

absl::StatusOr<std::unique_ptr<Task>> make_task(const std::string& name, const ConfigValue& config,
                                                const std::string& path) {
  std::vector<std::string> names;
  for (const TaskEntry& entry : tasks()) {
    if (entry.name == name) {
      return entry.make(config, path);
    }
    names.push_back(entry.name);
  }
  return absl::NotFoundError(absl::StrCat("there is no task \"", name, "\"", suggestion(name, names)));
}

}  // namespace hippodrome

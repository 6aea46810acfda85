#include "core/training/trainer.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

namespace hippodrome {

void TrainingConfig::bind(Fields& fields) {
  constexpr int64_t kMany = int64_t{1} << 40;
  fields.integer("steps", steps, {1, kMany}, "updates");
  fields.integer("batch", batch, {1, 1 << 20}, "rows per step");
  fields.integer("accumulate", accumulate, {1, 1 << 20}, "parts the rows are run in; the update stays the same");
  fields.integer("length", length, {0, kMany}, "tokens per row; 0: the task's");
  fields.number("learning_rate", learning_rate, {0.0, 100.0}, "peak rate");
  fields.number("warmup", warmup, {0.0, 1.0}, "share of the steps with a rising rate");
  fields.number("final_fraction", final_fraction, {0.0, 1.0}, "rate at the end, as a share of the peak");
  fields.number("weight_decay", weight_decay, {0.0, 10.0}, "AdamW's decoupled decay");
  fields.number("beta1", beta1, {0.0, 0.999999}, "AdamW's decay of the first moment");
  fields.number("beta2", beta2, {0.0, 0.999999}, "AdamW's decay of the second moment");
  fields.number("epsilon", epsilon, {0.0, 1.0}, "added to the root of the second moment");
  fields.number("clip", clip, {0.0, 1e9}, "largest global gradient norm; 0: no clipping");
  fields.choice("dtype", dtype, {"float32", "bfloat16"}, "compute dtype; masters and states stay float32");
  fields.integer("evaluate_every", evaluate_every, {1, kMany}, "steps between points of the learning curve");
  fields.integer("evaluate_batches", evaluate_batches, {1, kMany}, "validation batches per point");
  fields.integer("test_batches", test_batches, {1, kMany}, "test batches per length at the end");
  fields.number("stop_at", stop_at, {0.0, 1e9}, "stop when the validation metric reaches it; 0: never");
  fields.number("time_limit", time_limit, {0.0, 1e9}, "seconds of training after which it stops; 0: none");
  fields.integer("checkpoint_every", checkpoint_every, {1, kMany}, "steps between checkpoints");
}

Trainer::Trainer(LanguageModel& model, const Task& task, const TrainingConfig& config, uint64_t seed)
    : model_(model),
      task_(task),
      config_(config),
      seed_(seed),
      length_(config.length > 0 ? config.length : task.default_length()),
      schedule_{config.learning_rate, static_cast<int64_t>(std::llround(config.warmup * static_cast<double>(config.steps))),
                config.steps, config.final_fraction},
      optimiser_(model.parameters(), {config.beta1, config.beta2, config.epsilon, config.weight_decay}) {
  model_.set_compute_dtype(config.dtype == "bfloat16" ? at::kBFloat16 : at::kFloat);
  model_.parameters().set_requires_grad(true);
}

absl::StatusOr<Trainer::Step> Trainer::step() {
  ASSIGN_OR_RETURN(const Batch batch, task_.batch({Split::kTrain, seed_, steps_done_, config_.batch, length_}));
  const auto labels = static_cast<double>(batch.labels.ge(0).sum().item().toLong());
  const int64_t part_rows = (config_.batch + config_.accumulate - 1) / config_.accumulate;
  double loss = 0.0, auxiliary = 0.0;
  for (int64_t row = 0; row < config_.batch; row += part_rows) {
    const int64_t rows = std::min(part_rows, config_.batch - row);
    const Batch part{batch.tokens.narrow(0, row, rows), batch.labels.narrow(0, row, rows),
                     batch.positions.narrow(0, row, rows), batch.ragged, {}, {}};
    const BatchLoss part_loss = batch_loss(model_, part, /*training=*/true, /*count_correct=*/false);
    if (part_loss.labels == 0) continue;
    const double share = static_cast<double>(rows) / static_cast<double>(config_.batch);
    part_loss.objective(labels, share).backward();
    loss += part_loss.sum.item().toDouble() / labels;
    if (part_loss.auxiliary.defined()) auxiliary += share * part_loss.auxiliary.item().toDouble();
  }
  if (!std::isfinite(loss + auxiliary)) {
    return absl::InternalError("the loss is not finite at step " + std::to_string(steps_done_ + 1) +
                               ": lower learning_rate, or use dtype = \"float32\"");
  }
  const double norm = optimiser_.step(learning_rate(schedule_, steps_done_), config_.clip);
  ++steps_done_;
  return Step{steps_done_, loss, norm, auxiliary};
}

}  // namespace hippodrome

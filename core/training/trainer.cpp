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
  fields.choice(
      "schedule", schedule, {"cosine", "inverse_sqrt"},
      "after the warm-up: down half a cosine, or with the inverse square root of the step (Vaswani et al. 2017)");
  fields.number("label_smoothing", label_smoothing, {0.0, 0.999},
                "share of a label's probability spread over all tokens");
  fields.number("weight_decay", weight_decay, {0.0, 10.0}, "AdamW's decoupled decay");
  fields.number("beta1", beta1, {0.0, 0.999999}, "AdamW's decay of the first moment");
  fields.number("beta2", beta2, {0.0, 0.999999}, "AdamW's decay of the second moment");
  fields.number("epsilon", epsilon, {0.0, 1.0}, "added to the root of the second moment");
  fields.number("clip", clip, {0.0, 1e9}, "largest global gradient norm; 0: no clipping");
  fields.choice("dtype", dtype, {"float32", "bfloat16"}, "compute dtype; masters and states stay float32");
  fields.integer("evaluate_every", evaluate_every, {1, kMany}, "steps between points of the learning curve");
  fields.integer("evaluate_batches", evaluate_batches, {1, kMany}, "validation batches per point");
  fields.integer("test_batches", test_batches, {1, kMany}, "test batches per length at the end");
  fields.integer("search_pairs", search_pairs, {0, kMany},
                 "pairs per length whose target the model is let say at the end; 0: none");
  fields.number("stop_at", stop_at, {0.0, 1e9}, "stop when the validation metric reaches it; 0: never");
  fields.number("time_limit", time_limit, {0.0, 1e9}, "seconds of training after which it stops; 0: none");
  fields.integer("checkpoint_every", checkpoint_every, {1, kMany}, "steps between checkpoints");
}

Trainer::Trainer(LanguageModel& model, const Task& task, const TrainingConfig& config, uint64_t seed,
                 Accelerator& accelerator)
    : model_(model),
      task_(task),
      config_(config),
      seed_(seed),
      length_(config.length > 0 ? config.length : task.default_length()),
      schedule_{config.learning_rate,
                static_cast<int64_t>(std::llround(config.warmup * static_cast<double>(config.steps))), config.steps,
                config.final_fraction, config.schedule == "inverse_sqrt"},
      optimiser_(model.parameters(), {config.beta1, config.beta2, config.epsilon, config.weight_decay}),
      accelerator_(accelerator) {
  model_.set_compute_dtype(config.dtype == "bfloat16" ? at::kBFloat16 : at::kFloat);
  model_.parameters().set_requires_grad(true);
}

namespace {

absl::Status check_finite(double loss, int64_t step) {
  if (std::isfinite(loss)) return absl::OkStatus();
  return absl::InternalError("the loss is not finite at step " + std::to_string(step) +
                             ": lower learning_rate, or use dtype = \"float32\"");
}

}  // namespace

absl::StatusOr<Trainer::Step> Trainer::step() {
  ASSIGN_OR_RETURN(const Batch batch, task_.batch({Split::kTrain, seed_, steps_done_, config_.batch, length_,
                                                   /*apart=*/model_.encoder() != nullptr}));
  RETURN_IF_ERROR(check_source(model_, batch));
  const auto labels = static_cast<double>(batch.labels.ge(0).sum().item().toLong());
  const int64_t part_rows = (config_.batch + config_.accumulate - 1) / config_.accumulate;
  const RandomStream draws = RandomStream(seed_, "training draws").fork(static_cast<uint64_t>(steps_done_));
  const double rate = learning_rate(schedule_, steps_done_);
  if (!tried_to_record_ && config_.accumulate == 1) {
    recorded_ =
        RecordedTraining::make(model_, optimiser_, batch, {config_.label_smoothing, config_.clip}, accelerator_);
  }
  tried_to_record_ = true;
  if (recorded_ && labels > 0.0 && recorded_->fits(batch)) {
    const RecordedTraining::Result result = recorded_->run(batch, labels, rate);
    const double loss = result.sum / labels;
    RETURN_IF_ERROR(check_finite(loss + result.auxiliary, steps_done_ + 1));
    return Step{++steps_done_, loss, result.gradient_norm, result.auxiliary};
  }
  double loss = 0.0, auxiliary = 0.0;
  for (int64_t row = 0; row < config_.batch; row += part_rows) {
    const int64_t rows = std::min(part_rows, config_.batch - row);
    const TrainingPass pass{config_.label_smoothing, draws.fork(static_cast<uint64_t>(row)).key()};
    const BatchLoss part_loss = batch_loss(model_, batch.part(row, rows), &pass, /*count_correct=*/false);
    if (part_loss.labels == 0) continue;
    const double share = static_cast<double>(rows) / static_cast<double>(config_.batch);
    part_loss.objective(labels, share).backward();
    loss += part_loss.sum.item().toDouble() / labels;
    if (part_loss.auxiliary.defined()) auxiliary += share * part_loss.auxiliary.item().toDouble();
  }
  RETURN_IF_ERROR(check_finite(loss + auxiliary, steps_done_ + 1));
  const double norm = optimiser_.step(rate, config_.clip);
  ++steps_done_;
  return Step{steps_done_, loss, norm, auxiliary};
}

}  // namespace hippodrome

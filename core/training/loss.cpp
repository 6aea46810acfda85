#include "core/training/loss.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/nonzero.h>

#include <algorithm>
#include <numbers>

namespace hippodrome {
namespace {

// Adds up what layers want trained beside the model's own loss.
class AuxiliaryLosses final : public Observer {
 public:
  void report(std::string_view, std::string_view, const Tensor&) override {}
  void auxiliary_loss(std::string_view, std::string_view, const Tensor& value, double weight) override {
    if (weight > 0.0) sum_ = sum_.defined() ? sum_.add(value, weight) : value.mul(weight);
  }
  const Tensor& sum() const { return sum_; }

 private:
  Tensor sum_;
};

}  // namespace

Tensor BatchLoss::objective(double all_labels, double share) const {
  const Tensor own = (smoothed.defined() ? smoothed : sum).div(all_labels);
  return auxiliary.defined() ? own.add(auxiliary, share) : own;
}

absl::Status check_source(const LanguageModel& model, const Batch& batch) {
  if (!model.encoder() || batch.source.defined()) return absl::OkStatus();
  return absl::FailedPreconditionError("the model has an encoder, and the task no source for it to read: take a task of pairs, "
                                       "or a decoder-only model");
}

BatchLoss batch_loss(LanguageModel& model, const Batch& batch, const TrainingPass* pass, bool count_correct) {
  const at::Device device = model.device();
  Context context;
  AuxiliaryLosses auxiliary;
  context.training = pass != nullptr;
  if (pass) {
    context.observer = &auxiliary;
    context.draw = pass->draw;
  }
  EncodedSource source;
  ModelState handed_over;
  if (model.encoder()) {
    TORCH_CHECK(batch.source.defined(), "a model with an encoder needs a batch whose source stands apart");
    Context reading = context;
    reading.positions = batch.source_positions.to(device);
    reading.ragged = batch.source_ragged;
    source = model.encode(batch.source.to(device), reading);
    context.memory = &source.memory;
    if (model.config().handover) handed_over = model.initial_state(batch.source.size(0), 0, &source);
  }
  context.positions = batch.positions.to(device);
  context.ragged = batch.ragged;
  Tensor labels = batch.labels.flatten();
  Tensor hidden =
      model.hidden(batch.tokens.to(device), context, model.config().handover ? &handed_over : nullptr).flatten(0, 1);
  BatchLoss loss;
  loss.labels = labels.numel();
  loss.auxiliary = auxiliary.sum();
  if (!pass || !pass->all_positions) {
    const Tensor labelled = at::nonzero(labels.ge(0)).flatten();
    loss.labels = labelled.numel();
    if (loss.labels < labels.numel()) {
      hidden = hidden.index_select(0, labelled.to(device));
      labels = labels.index_select(0, labelled);
    }
  }
  labels = labels.to(device);
  Tensor logits = model.logits(hidden);
  if (logits.scalar_type() != at::kDouble) logits = logits.to(at::kFloat);
  loss.sum = at::cross_entropy_loss(logits, labels, /*weight=*/{}, at::Reduction::Sum, /*ignore_index=*/kNoLabel);
  if (pass && pass->label_smoothing > 0.0) {
    loss.smoothed = at::cross_entropy_loss(logits, labels, /*weight=*/{}, at::Reduction::Sum, /*ignore_index=*/kNoLabel,
                                           pass->label_smoothing);
  }
  if (count_correct) loss.correct = logits.argmax(-1).eq(labels).sum().item().toLong();
  return loss;
}

absl::StatusOr<Evaluation> evaluate(LanguageModel& model, const Task& task, Split split, int64_t length, int64_t rows,
                                    int64_t max_batches) {
  const at::NoGradGuard no_grad;
  const int64_t available = task.available_steps(split, rows, length);
  const int64_t batches = available > 0 ? std::min(available, max_batches) : max_batches;
  double sum = 0.0;
  int64_t labels = 0, correct = 0, bytes = 0;
  for (int64_t step = 0; step < batches; ++step) {
    ASSIGN_OR_RETURN(const Batch batch, task.batch({split, /*seed=*/0, step, rows, length, /*apart=*/model.encoder() != nullptr}));
    RETURN_IF_ERROR(check_source(model, batch));
    const BatchLoss loss = batch_loss(model, batch, /*pass=*/nullptr, task.metric() == Metric::kAccuracy);
    sum += loss.sum.item().toDouble();
    labels += loss.labels;
    correct += loss.correct;
    bytes += batch.target_bytes > 0 ? batch.target_bytes : loss.labels;
  }
  if (labels == 0) {
    return absl::FailedPreconditionError("the evaluation split has no labelled position at length " +
                                         std::to_string(length));
  }
  Evaluation result;
  result.labels = labels;
  result.loss = sum / static_cast<double>(labels);
  result.metric = task.metric() == Metric::kAccuracy ? static_cast<double>(correct) / static_cast<double>(labels)
                                                     : sum / static_cast<double>(bytes) / std::numbers::ln2;
  return result;
}

}  // namespace hippodrome

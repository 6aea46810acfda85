#include "core/training/recorded_training.h"

#include <ATen/ops/zeros.h>

#include "core/model/recordable.h"

namespace hippodrome {
namespace {

// Steps that are executed before one is recorded.
constexpr int kWarmups = 3;

bool draws(const LanguageModel& model) {
  if (model.config().block.dropout > 0.0) return true;
  for (const auto& block : model.blocks()) {
    if (block->dropout_rate() > 0.0) return true;
  }
  return false;
}

}  // namespace

std::unique_ptr<RecordedTraining> RecordedTraining::make(LanguageModel& model, AdamW& optimiser, const Batch& like,
                                                         const Settings& settings, Accelerator& accelerator) {
  if (!accelerator.records() || !recordable(model) || model.encoder() || draws(model)) return nullptr;
  if (like.ragged || like.source.defined()) return nullptr;
  return std::unique_ptr<RecordedTraining>(new RecordedTraining(model, optimiser, like, settings, accelerator));
}

RecordedTraining::RecordedTraining(LanguageModel& model, AdamW& optimiser, const Batch& like, const Settings& settings,
                                   Accelerator& accelerator)
    : model_(model), optimiser_(optimiser), settings_(settings), accelerator_(accelerator) {
  const at::Device device = accelerator.device();
  // Copies, even where the device is the CPU: they are written for every batch.
  batch_.tokens = like.tokens.clone().to(device);
  batch_.labels = like.labels.clone().to(device);
  batch_.positions = like.positions.clone().to(device);
  const auto scalar = at::TensorOptions(at::kFloat).device(device);
  labels_ = at::zeros({}, scalar);
  learning_rate_ = at::zeros({}, scalar);
  auxiliary_ = at::zeros({}, scalar);
}

bool RecordedTraining::fits(const Batch& batch) const {
  return !batch.ragged && !batch.source.defined() && batch.tokens.sizes() == batch_.tokens.sizes();
}

void RecordedTraining::work() {
  const TrainingPass pass{.label_smoothing = settings_.label_smoothing, .all_positions = true};
  const int64_t before = accelerator_.current_bytes();
  const BatchLoss loss = batch_loss(model_, batch_, &pass, /*count_correct=*/false);
  activation_bytes_ = accelerator_.current_bytes() - before;
  Tensor objective = (loss.smoothed.defined() ? loss.smoothed : loss.sum).div(labels_);
  if (loss.auxiliary.defined()) {
    auxiliary_ = loss.auxiliary.detach();
    objective = objective.add(loss.auxiliary);
  }
  objective.backward();
  sum_ = loss.sum.detach();
  gradient_norm_ = optimiser_.step_on_device(learning_rate_, settings_.clip);
}

RecordedTraining::Result RecordedTraining::run(const Batch& batch, double labels, double learning_rate) {
  batch_.tokens.copy_(batch.tokens);
  batch_.labels.copy_(batch.labels);
  batch_.positions.copy_(batch.positions);
  labels_.fill_(labels);
  learning_rate_.fill_(learning_rate);
  if (executed_ == kWarmups && !tried_to_record_) {
    tried_to_record_ = true;
    recorded_ = accelerator_.record([this] { work(); });
    if (!recorded_) optimiser_.clear_gradients();  // what a recording that broke off left
  }
  if (recorded_) {
    recorded_->replay();
  } else {
    work();
    if (!settled()) ++executed_;
  }
  optimiser_.count_writes();
  return {sum_.item().toDouble(), auxiliary_.item().toDouble(), gradient_norm_.item().toDouble()};
}

}  // namespace hippodrome

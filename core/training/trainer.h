#pragma once

#include <filesystem>
#include <string>

#include "core/base/config.h"
#include "core/base/random.h"
#include "core/training/adamw.h"
#include "core/training/loss.h"
#include "core/training/recorded_training.h"
#include "core/training/schedule.h"

namespace hippodrome {

// A recipe's [training] table.
struct TrainingConfig {
  int64_t steps = 1000;
  int64_t batch = 32;      // rows per step
  int64_t accumulate = 1;  // parts the rows are run in, to fit memory; the update is the same
  int64_t length = 0;      // tokens per row; 0: the task's
  double learning_rate = 1e-3;
  double warmup = 0.05;             // share of the steps
  double final_fraction = 0.1;      // of the peak rate, at the end
  std::string schedule = "cosine";  // cosine | inverse_sqrt
  double label_smoothing = 0.0;
  double weight_decay = 0.1;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double clip = 1.0;  // global gradient norm; 0: no clipping
  std::string dtype =
      "float32";  // compute dtype: float32 | bfloat16 (masters, states and sensitive parameters stay float32)
  int64_t evaluate_every = 100;  // steps between points of the learning curve
  int64_t evaluate_batches = 8;
  int64_t test_batches = 16;
  int64_t search_pairs = 64;  // of tasks of pairs: tested per length by what the model says itself
  double stop_at = 0.0;       // stop early when the validation metric reaches it; 0: never
  double time_limit = 0.0;    // seconds of training after which it stops; 0: none
  int64_t checkpoint_every = 200;

  void bind(Fields& fields);
};

// Trains a model on a task, step by step, and checkpoints so that a resumed run repeats bit for bit: data and initial
// values depend on (seed, step) alone, so parameters, moments and the step count are all there is to keep.
class Trainer {
 public:
  // The model must be materialised, on the accelerator's device. All must outlive the trainer.
  Trainer(LanguageModel& model, const Task& task, const TrainingConfig& config, uint64_t seed,
          Accelerator& accelerator = cpu_accelerator());

  struct Step {
    int64_t step;  // this was step number `step`, from 1
    double loss;   // nats per label, before the update
    double gradient_norm;
    double auxiliary_loss;  // what layers added to the objective, weighted; not part of `loss`
  };
  // One update. Fails when the loss is not finite.
  absl::StatusOr<Step> step();
  int64_t steps_done() const { return steps_done_; }
  int64_t length() const { return length_; }
  int64_t tokens_per_step() const { return config_.batch * length_; }

  // Writes model.safetensors (weights), optimizer.safetensors and trainer.json into `folder`/step-N, then points
  // `folder`/latest at it by rename, then removes the one before: a kill at any moment leaves a whole checkpoint.
  absl::Status save(const std::filesystem::path& folder) const;
  // Continues from the checkpoint in `folder`; NotFound when there is none.
  absl::Status restore(const std::filesystem::path& folder);

 private:
  LanguageModel& model_;
  const Task& task_;
  TrainingConfig config_;
  uint64_t seed_;
  int64_t length_;
  LearningRateSchedule schedule_;
  AdamW optimiser_;
  int64_t steps_done_ = 0;
  Accelerator& accelerator_;
  std::unique_ptr<RecordedTraining> recorded_;
  bool tried_to_record_ = false;
};

// The newest whole checkpoint's folder; NotFound when there is none.
absl::StatusOr<std::filesystem::path> latest_checkpoint(const std::filesystem::path& folder);
// Reads model.safetensors of a checkpoint into materialised parameters; DataLoss lists missing, extra and misshapen
// tensors.
absl::Status load_parameters(Parameters& parameters, const std::filesystem::path& file);

}  // namespace hippodrome

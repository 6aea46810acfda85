#pragma once

#include "core/data/task.h"
#include "core/model/language_model.h"

namespace hippodrome {

// Cross entropy of a batch at its labelled positions.
struct BatchLoss {
  Tensor sum;           // scalar float32 or float64, nats, with autograd history when grad mode is on
  int64_t labels = 0;   // labelled positions
  int64_t correct = 0;  // of them, where the largest logit is the label's; only when asked for
  // Sum of weight · loss over what layers add to training (experts' balance); undefined when they add nothing.
  Tensor auxiliary;

  // What training descends on: nats per label, of `all_labels` in the whole step, of whose rows this batch is a `share`.
  Tensor objective(double all_labels, double share = 1.0) const;
};

// Runs the model from a fresh state; only in training do layers add losses of their own. Logits are computed at labelled positions only.
BatchLoss batch_loss(LanguageModel& model, const Batch& batch, bool training, bool count_correct);

// The mean metric over up to `max_batches` batches of a split.
struct Evaluation {
  double metric = 0.0;  // accuracy, or bits per byte
  double loss = 0.0;    // nats per label
  int64_t labels = 0;
};
absl::StatusOr<Evaluation> evaluate(LanguageModel& model, const Task& task, Split split, int64_t length, int64_t rows,
                                    int64_t max_batches);

}  // namespace hippodrome

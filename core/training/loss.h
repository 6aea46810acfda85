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
  Tensor smoothed;  // what training descends on in place of `sum`, where labels are smoothed

  // What training descends on: nats per label, of `all_labels` in the whole step, of whose rows this batch is a `share`.
  Tensor objective(double all_labels, double share = 1.0) const;
};

// What a training pass has beside its batch.
struct TrainingPass {
  double label_smoothing = 0.0;  // share of a label's probability that is spread over all tokens (Szegedy et al. 2016)
  uint64_t draw = 0;             // names the pass's random draws
  // Logits at every position, so that no shape depends on which are labelled and labels may lie on the device unread;
  // BatchLoss::labels then counts all positions.
  bool all_positions = false;
};

// One sentence when the model reads a source and the batch has none.
absl::Status check_source(const LanguageModel& model, const Batch& batch);

// Runs the model from a fresh state, with an encoder behind the batch's source; only in training (`pass` given) do layers add
// losses of their own. Logits are computed at labelled positions only.
BatchLoss batch_loss(LanguageModel& model, const Batch& batch, const TrainingPass* pass, bool count_correct);

// The mean metric over up to `max_batches` batches of a split.
struct Evaluation {
  double metric = 0.0;  // accuracy, or bits per byte
  double loss = 0.0;    // nats per label
  int64_t labels = 0;
};
absl::StatusOr<Evaluation> evaluate(LanguageModel& model, const Task& task, Split split, int64_t length, int64_t rows,
                                    int64_t max_batches);

}  // namespace hippodrome

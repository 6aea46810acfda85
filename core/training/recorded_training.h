#pragma once

#include <memory>

#include "core/tensor/accelerator.h"
#include "core/training/adamw.h"
#include "core/training/loss.h"

namespace hippodrome {

// A whole training step, forward, backward and update, that a device records once and replays for every batch of the
// same shape: small models are otherwise limited by the host, which starts thousands of kernels a step.
class RecordedTraining {
 public:
  struct Settings {
    double label_smoothing = 0.0;
    double clip = 1.0;
  };
  // Null where the device records nothing or the model does not allow it: an encoder, dropout (whose draws differ from
  // step to step), learned positions, or a layer that looks at values on the host. Batches must have the shape of
  // `like`. All must outlive the recording.
  static std::unique_ptr<RecordedTraining> make(LanguageModel& model, AdamW& optimiser, const Batch& like,
                                                const Settings& settings, Accelerator& accelerator);

  // Whether a batch can be run: of the shape recorded, plain positions.
  bool fits(const Batch& batch) const;

  struct Result {
    double sum;            // nats of all labels, before the update
    double auxiliary;      // what layers added, weighted
    double gradient_norm;  // before clipping
  };
  // One update on `batch`, of which `labels` positions are labelled. The first calls execute the step as it is, for
  // libraries choose and allocate then; later ones replay, or go on executing where the device could not record it.
  Result run(const Batch& batch, double labels, double learning_rate);
  // Whether the calls that execute and record are done, so that the next take the same time each; and whether they
  // replay.
  bool settled() const { return tried_to_record_; }
  bool replays() const { return recorded_ != nullptr; }

  // Memory that the forward pass leaves for the backward pass, of the last step that was executed rather than replayed.
  int64_t activation_bytes() const { return activation_bytes_; }

 private:
  RecordedTraining(LanguageModel& model, AdamW& optimiser, const Batch& like, const Settings& settings,
                   Accelerator& accelerator);
  void work();

  LanguageModel& model_;
  AdamW& optimiser_;
  Settings settings_;
  Accelerator& accelerator_;
  Batch batch_;                             // on the device; what a recording reads
  Tensor labels_, learning_rate_;           // scalars there
  Tensor sum_, auxiliary_, gradient_norm_;  // what it writes
  int64_t activation_bytes_ = 0;
  int executed_ = 0;
  bool tried_to_record_ = false;
  std::unique_ptr<RecordedWork> recorded_;
};

}  // namespace hippodrome

#pragma once

#include <memory>

#include "core/model/language_model.h"
#include "core/tensor/accelerator.h"

namespace hippodrome {

// One decoding step, recorded by the device once and replayed for every token. A small batch is otherwise limited by
// the host, which starts some dozens of kernels per layer. For models whose states stay at fixed addresses and do not
// grow.
class RecordedStep {
 public:
  // Null where the device records nothing or the model does not allow it: a state with per-token entries, or a layer
  // that looks at values on the host (Traits::reads_on_host). `state` is left as it was; it and the model must outlive
  // the recording. No autograd.
  static std::unique_ptr<RecordedStep> make(LanguageModel& model, ModelState& state, int64_t rows,
                                            Accelerator& accelerator);

  // tokens [B, 1] int64 at this position -> logits [B, V] for the next, which the next call overwrites. Advances the
  // state.
  Tensor run(const Tensor& tokens, int64_t position);

 private:
  RecordedStep() = default;

  Tensor tokens_, positions_, logits_;  // where the recording reads and writes
  std::unique_ptr<RecordedWork> work_;
};

}  // namespace hippodrome

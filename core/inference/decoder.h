#pragma once

#include <memory>

#include "core/inference/recorded_step.h"
#include "core/model/language_model.h"
#include "core/tensor/accelerator.h"

namespace hippodrome {

// Reads tokens and gives logits for the next, keeping the state and the positions. No autograd.
class Decoder {
 public:
  // `rows` sequences side by side; room for `capacity` tokens is reserved and grows beyond it. The model is on the
  // accelerator's device.
  Decoder(LanguageModel& model, int64_t rows, int64_t capacity, Accelerator& accelerator = cpu_accelerator());

  // tokens [B, L], L ≥ 1, on any device -> logits [B, V] for the token after the last, on the model's. Prefill and
  // decoding are the same call; long prompts are read in pieces, so that memory does not grow with them beyond the
  // state. Single tokens are read by a recorded step where there is one, whose logits the next call overwrites.
  Tensor read(const Tensor& tokens);

  int64_t position() const { return position_; }  // tokens read
  const ModelState& state() const { return state_; }

 private:
  LanguageModel& model_;
  ModelState state_;
  int64_t position_ = 0;
  Accelerator& accelerator_;
  std::unique_ptr<RecordedStep> step_;
  bool tried_to_record_ = false;
};

}  // namespace hippodrome

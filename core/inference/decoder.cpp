#include "core/inference/decoder.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

namespace hippodrome {
namespace {

// Tokens of a prompt that are read at once: long enough that matrix products run at full rate, short enough that
// activations stay in the tens of megabytes.
constexpr int64_t kPiece = 2048;

}  // namespace

Decoder::Decoder(LanguageModel& model, int64_t rows, int64_t capacity, Accelerator& accelerator)
    : model_(model), state_(model.initial_state(rows, capacity)), accelerator_(accelerator) {}

Tensor Decoder::read(const Tensor& given) {
  const at::NoGradGuard no_grad;
  TORCH_CHECK(given.dim() == 2 && given.size(1) > 0, "a decoder reads tokens [B, L] with L ≥ 1, not ", given.sizes());
  const Tensor tokens = given.to(model_.device());
  if (tokens.size(1) == 1 && position_ > 0) {
    if (!tried_to_record_) step_ = RecordedStep::make(model_, state_, tokens.size(0), accelerator_);
    tried_to_record_ = true;
    if (step_) return step_->run(tokens, position_++);
  }
  Tensor last;
  for (int64_t done = 0; done < tokens.size(1); done += kPiece) {
    const int64_t length = std::min(kPiece, tokens.size(1) - done);
    const Context context = Context::plain(tokens.size(0), length, position_, tokens.device());
    last = model_.last_hidden(tokens.narrow(1, done, length), context, &state_).select(1, 0);
    position_ += length;
  }
  return model_.logits(last);
}

}  // namespace hippodrome

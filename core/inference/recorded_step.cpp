#include "core/inference/recorded_step.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/ones_like.h>

#include <map>
#include <string>
#include <vector>

#include "core/model/recordable.h"

namespace hippodrome {
namespace {

bool grows(const ModelState& state) {
  for (const State& block : state.blocks) {
    for (const auto& [name, value] : block.tensors()) {
      if (block.kind(name) == StateKind::kPerToken) return true;
    }
  }
  return false;
}

// The entries that a step writes, copied, and the way back.
class Snapshot {
 public:
  explicit Snapshot(const ModelState& state) {
    for (const State& block : state.blocks) {
      auto& kept = blocks_.emplace_back();
      for (const auto& [name, value] : block.tensors()) {
        if (block.kind(name) == StateKind::kPerRow) kept.emplace(name, Kept{value.clone(), value.const_data_ptr()});
      }
    }
  }

  // Writes the copies back in place. False when an entry has moved since: then nothing may be recorded.
  bool restore(ModelState& state) const {
    bool in_place = true;
    for (size_t i = 0; i < blocks_.size(); ++i) {
      for (const auto& [name, kept] : blocks_[i]) {
        state.blocks[i].put(name, kept.value);
        in_place = in_place && state.blocks[i].get(name).const_data_ptr() == kept.address;
      }
    }
    return in_place;
  }

 private:
  struct Kept {
    Tensor value;
    const void* address;
  };
  std::vector<std::map<std::string, Kept>> blocks_;
};

}  // namespace

std::unique_ptr<RecordedStep> RecordedStep::make(LanguageModel& model, ModelState& state, int64_t rows,
                                                 Accelerator& accelerator) {
  if (!accelerator.records() || !recordable(model) || grows(state)) return nullptr;
  const at::NoGradGuard no_grad;
  std::unique_ptr<RecordedStep> step(new RecordedStep);
  // Ones: a position of zero would start a sequence anew.
  step->tokens_ = at::ones({rows, 1}, at::TensorOptions(at::kLong).device(accelerator.device()));
  step->positions_ = at::ones_like(step->tokens_);
  const auto work = [&model, &state, raw = step.get()] {
    Context context;
    context.positions = raw->positions_;
    raw->logits_ = model.logits(model.hidden(raw->tokens_, context, &state).select(1, 0));
  };
  // Libraries allocate and choose at their first calls, which a recording must not contain.
  const Snapshot before(state);
  for (int warmup = 0; warmup < 2; ++warmup) work();
  if (!before.restore(state)) return nullptr;
  step->work_ = accelerator.record(work);
  return step->work_ ? std::move(step) : nullptr;
}

Tensor RecordedStep::run(const Tensor& tokens, int64_t position) {
  const at::NoGradGuard no_grad;
  tokens_.copy_(tokens);
  positions_.fill_(position);
  work_->replay();
  return logits_;
}

}  // namespace hippodrome

#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>

#include "core/laws/specimen.h"

// Laws about states as things: kept, copied, reordered.
namespace hippodrome::law_checks {

// A state that is saved and restored continues bit for bit.
LawResult save_and_load(const LawSubject& subject) {
  const at::NoGradGuard no_grad;
  const auto layer = make_layer(subject, at::kFloat);
  if (layer->traits().state_growth == StateGrowth::kNone) return not_applicable("save and load", "the layer carries nothing");
  const Tensor x = random_tensor(subject, {2, 9, subject.width}, at::kFloat, "x");
  State state = fresh_state(subject, *layer, 2, at::kFloat);
  run_plain(*layer, x.narrow(1, 0, 5), &state);
  std::map<std::string, Tensor> saved;
  for (const auto& [name, tensor] : state.tensors()) saved.emplace(name, tensor.clone());
  const Tensor expected = run_plain(*layer, x.narrow(1, 5, 4), &state, 5);
  State restored = fresh_state(subject, *layer, 2, at::kFloat);
  restored.restore(saved);
  const Tensor actual = run_plain(*layer, x.narrow(1, 5, 4), &restored, 5);
  Worst worst;
  worst.add(same_bits(actual, expected) ? 0.0 : 1.0, "the continuation of a restored state");
  return worst.result("save and load", 0.0, "tensors that differ");
}

// A clone is independent, and selected rows continue as those rows do, in any order and number.
LawResult clone_and_select(const LawSubject& subject) {
  const at::NoGradGuard no_grad;
  const auto layer = make_layer(subject, at::kFloat);
  if (layer->traits().state_growth == StateGrowth::kNone) return not_applicable("clone and select", "the layer carries nothing");
  const Tensor x = random_tensor(subject, {3, 9, subject.width}, at::kFloat, "x");
  State state = fresh_state(subject, *layer, 3, at::kFloat);
  run_plain(*layer, x.narrow(1, 0, 5), &state);
  State copy = state.clone();
  const Tensor rows = at::tensor(std::vector<int64_t>{2, 0, 2, 1}, at::kLong).to(subject.device);
  State chosen = state.select(rows);
  const Tensor more = x.narrow(1, 5, 4);
  const Tensor expected = run_plain(*layer, more, &state, 5);
  Worst worst;
  worst.add(same_bits(run_plain(*layer, more, &copy, 5), expected) ? 0.0 : 1.0, "a clone, after the original went on");
  // Batches of another size may be summed in another order.
  worst.add(relative_error(run_plain(*layer, more.index_select(0, rows), &chosen, 5), expected.index_select(0, rows)),
            "selected rows 2, 0, 2, 1");
  return worst.result("clone and select", 1e-5, "relative error");
}

}  // namespace hippodrome::law_checks

#include "experiments/plan/plan.h"

#include <algorithm>

namespace hippodrome {
namespace make_plan_detail {
namespace {

InferenceFit inference_fit(const WeightBytes& weights, const SequenceBytes& sequence, const PlanOptions& options,
                           int64_t most_positions) {
  const int64_t left = options.memory - weights.bytes;
  InferenceFit fit;
  fit.weights = weights;
  fit.fits = sequence.cache + sequence.state <= left;
  fit.largest_context = largest_that_fits(
      [&](int64_t tokens) { return sequence.state + tokens * sequence.cache_per_token; }, left, most_positions);
  fit.largest_batch =
      largest_that_fits([&](int64_t rows) { return rows * (sequence.state + sequence.cache); }, left, kAnyNumber);
  return fit;
}

TrainingFit training_fit(LanguageModel& model, const PlanOptions& options, at::ScalarType dtype, int64_t most_positions) {
  TrainingFit fit;
  fit.bytes = training_bytes(model, options.batch, options.length, dtype);
  fit.fits = fit.bytes.total() <= options.memory;
  fit.fits_recomputed = fit.bytes.total_recomputed() <= options.memory;
  const auto largest = [&](bool by_row, bool recomputed) {
    const auto bytes = [&](int64_t n) {
      const TrainingBytes step = by_row ? training_bytes(model, n, options.length, dtype) : training_bytes(model, 1, n, dtype);
      return recomputed ? step.total_recomputed() : step.total();
    };
    return largest_that_fits(bytes, options.memory, by_row ? kAnyNumber : most_positions);
  };
  fit.largest_batch = largest(true, false);
  fit.largest_batch_recomputed = largest(true, true);
  fit.largest_length = largest(false, false);
  fit.largest_length_recomputed = largest(false, true);
  return fit;
}

BreakEven break_even(const LanguageModel& model, const SequenceBytes& sequence, at::ScalarType dtype) {
  BreakEven result;
  if (sequence.state == 0) return result;
  result.twin = transformer_twin(model, dtype);
  const auto element = static_cast<int64_t>(at::elementSize(dtype));
  const auto tokens = [&](int64_t state) { return break_even_tokens(state, sequence.cache_per_token, result.twin); };
  result.tokens = tokens(sequence.state);
  result.tokens_in_dtype = tokens(sequence.state_elements * element);
  result.tokens_published = tokens(sequence.published_state_elements * element);
  return result;
}

}  // namespace
}  // namespace make_plan_detail

Plan make_plan(const PlanSubject& subject, const PlanOptions& options) {
  LanguageModel& model = *subject.model;
  const at::ScalarType dtype = options.dtype == "float32" ? at::kFloat : at::kBFloat16;
  Plan plan;
  plan.name = subject.name;
  plan.warnings = subject.warnings;
  plan.options = options;
  plan.width = model.config().width;
  plan.vocabulary = model.vocabulary();
  if (model.config().positions == "learned") {
    plan.most_positions = model.config().max_positions;
    if (options.context > plan.most_positions) {
      plan.warnings.push_back("the model has learned positions for " + std::to_string(plan.most_positions) +
                              " tokens only: it cannot read a context of " + std::to_string(options.context));
    }
  }
  plan.tied = model.config().tied;
  plan.parameters = model.parameters().count();
  plan.active_parameters = model.active_parameters();
  plan.kinds = sizes_by_kind(model, options.context);
  plan.flops = flops_per_token(model, options.context, options.length);
  plan.sequence = sequence_bytes(model, options.context, dtype);
  const int64_t longest = plan.most_positions > 0 ? plan.most_positions : kAnyNumber;
  for (const WeightBytes& weights : weight_bytes(model)) {
    plan.inference.push_back(make_plan_detail::inference_fit(weights, plan.sequence, options, longest));
  }
  plan.training = make_plan_detail::training_fit(model, options, dtype, longest);
  plan.break_even = make_plan_detail::break_even(model, plan.sequence, dtype);
  return plan;
}

}  // namespace hippodrome

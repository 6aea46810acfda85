#include <nlohmann/json.hpp>

#include "experiments/plan/plan.h"

namespace hippodrome {
namespace plan_json_detail {
namespace {

using nlohmann::json;

json bounded(int64_t number) { return number < kAnyNumber ? json(number) : json(); }

json inference_json(const Plan& plan) {
  json formats = json::object();
  for (const InferenceFit& fit : plan.inference) {
    formats[fit.weights.format] = {{"weight_bytes", fit.weights.bytes},
                                   {"total_bytes", fit.weights.bytes + plan.sequence.cache + plan.sequence.state},
                                   {"fits", fit.fits},
                                   {"largest_context", bounded(fit.largest_context)},
                                   {"largest_batch", bounded(fit.largest_batch)}};
  }
  return formats;
}

json training_json(const Plan& plan) {
  const TrainingFit& fit = plan.training;
  const auto variant = [&](int64_t activations, int64_t total, bool fits, int64_t batch, int64_t length) {
    return json{{"activation_bytes", activations},
                {"total_bytes", total},
                {"fits", fits},
                {"largest_batch", bounded(batch)},
                {"largest_length", bounded(length)}};
  };
  return {{"batch", plan.options.batch},
          {"length", plan.options.length},
          {"weight_bytes", fit.bytes.weights},
          {"gradient_bytes", fit.bytes.gradients},
          {"optimizer_bytes", fit.bytes.optimizer},
          {"kept", variant(fit.bytes.activations, fit.bytes.total(), fit.fits, fit.largest_batch, fit.largest_length)},
          {"recomputed", variant(fit.bytes.activations_recomputed, fit.bytes.total_recomputed(), fit.fits_recomputed,
                                 fit.largest_batch_recomputed, fit.largest_length_recomputed)}};
}

}  // namespace
}  // namespace plan_json_detail

nlohmann::json plan_json(const Plan& plan) {
  using nlohmann::json;
  const SequenceBytes& sequence = plan.sequence;
  json kinds = json::array();
  for (const KindSize& kind : plan.kinds) {
    kinds.push_back({{"kind", kind.kind},
                     {"layers", kind.layers},
                     {"parameters", kind.parameters},
                     {"active_parameters", kind.active_parameters},
                     {"flops_per_token", kind.flops}});
  }
  json result = {{"model", plan.name},
                 {"warnings", plan.warnings},
                 {"width", plan.width},
                 {"vocabulary", plan.vocabulary},
                 {"parameters", plan.parameters},
                 {"active_parameters", plan.active_parameters},
                 {"kinds", kinds},
                 {"flops_per_token",
                  {{"decode", plan.flops.decode},
                   {"train", plan.flops.train},
                   {"matrices", plan.flops.matrices},
                   {"matrices_with_embedding", plan.flops.matrices_with_embedding}}},
                 {"context", plan.options.context},
                 {"dtype", plan.options.dtype},
                 {"kv_cache_bytes_per_token", sequence.cache_per_token},
                 {"kv_cache_bytes", sequence.cache},
                 {"windowed_kv_cache_bytes", sequence.windowed_cache},
                 {"state_bytes", sequence.state},
                 {"state_elements", sequence.state_elements},
                 {"published_state_elements", sequence.published_state_elements},
                 {"memory_bytes", plan.options.memory},
                 {"inference", plan_json_detail::inference_json(plan)},
                 {"training", plan_json_detail::training_json(plan)},
                 {"break_even", nullptr}};
  if (const BreakEven& even = plan.break_even; even.tokens > 0) {
    result["break_even"] = {{"transformer_layers", even.twin.layers},
                            {"transformer_width", even.twin.width},
                            {"transformer_cache_bytes_per_token", even.twin.cache_per_token},
                            {"tokens", even.tokens},
                            {"tokens_with_state_in_dtype", even.tokens_in_dtype},
                            {"tokens_as_published", even.tokens_published}};
  }
  return result;
}

}  // namespace hippodrome

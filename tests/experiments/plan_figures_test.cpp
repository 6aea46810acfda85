#include "experiments/plan/figures.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/core/model/toy_models.h"

namespace hippodrome::plan_figures_test {
namespace {

using toys::drawn_model;
using toys::model_of;

// Four matrices, of which a token meets one.
class FourExperts final : public Layer {
 public:
  struct Config {
    void bind(Fields&) {}
  };
  FourExperts(const Config&, const Site& site) : width_(site.width) {
    parameters_.add("experts", {4, width_, width_}, initialise::constant(0.0));
  }
  Tensor forward(const Tensor& x, const Context&, State*) override { return x; }
  Traits traits() const override { return {.packs = true}; }
  int64_t active_parameters() const override { return width_ * width_; }
  Cost cost(const Workload& workload) const override {
    return {.flops = 2.0 * static_cast<double>(workload.rows * workload.length * width_ * width_),
            .saved_bytes = workload.rows * workload.length * width_ * workload.element_size};
  }

 private:
  int64_t width_;
};

std::unique_ptr<LanguageModel> experts_model() {
  Registry registry = toys::toy_registry();
  registry.add(layer_entry<FourExperts>("experts", "toys", "four matrices"));
  return *LanguageModel::make(toys::model_config("pattern = [\"gated\", \"experts\"]\nrepeats = 3\nwidth = 4\ntied = false"), 7,
                              "models.toy", registry);
}

// D = 4, V = 7. Per layer: gated 2·16 + 16 + 4, experts 4·16, of which 16 are active; norms of 2·4.
TEST(PlanFigures, PartsParametersByKindOfLayer) {
  const auto model = experts_model();
  std::map<std::string, KindSize> kinds;
  int64_t total = 0, active = 0;
  double flops = 0.0;
  for (const KindSize& kind : sizes_by_kind(*model, 5)) {
    kinds[kind.kind] = kind;
    total += kind.parameters;
    active += kind.active_parameters;
    flops += kind.flops;
  }
  EXPECT_EQ(kinds.size(), 5u);
  EXPECT_EQ(kinds["embedding"].parameters, 28);
  EXPECT_EQ(kinds["gated"].layers, 3);
  EXPECT_EQ(kinds["gated"].parameters, 3 * 52);
  EXPECT_EQ(kinds["gated"].flops, 3 * 2 * 48);
  EXPECT_EQ(kinds["experts"].parameters, 3 * 64);
  EXPECT_EQ(kinds["experts"].active_parameters, 3 * 16);
  EXPECT_EQ(kinds["norms"].layers, 7);
  EXPECT_EQ(kinds["norms"].parameters, 7 * 8);
  EXPECT_EQ(kinds["head"].parameters, 28);
  EXPECT_EQ(kinds["head"].flops, 2 * 28);
  EXPECT_EQ(total, model->parameters().count());
  EXPECT_EQ(active, model->active_parameters());
  EXPECT_EQ(flops, model->cost({.rows = 1, .length = 1, .context = 5}).flops);
}

TEST(PlanFigures, CountsFlopsByBothConventionsOfTheEmbedding) {
  const auto untied = experts_model();
  const TokenFlops flops = flops_per_token(*untied, 5, 10);
  EXPECT_EQ(flops.matrices, 2 * (3 * (48 + 16) + 28)) << "every matrix that a token meets, the head among them";
  EXPECT_EQ(flops.matrices_with_embedding, flops.matrices + 2 * 28);
  EXPECT_EQ(flops.decode, flops.matrices) << "these layers are nothing but matrices";
  EXPECT_EQ(flops.train, 3 * flops.decode);
  const auto tied = model_of("pattern = [\"mlp\"]\nrepeats = 1\nwidth = 4");
  EXPECT_EQ(flops_per_token(*tied, 1, 1).matrices, 2 * (64 + 28)) << "a tied head multiplies by the embedding";
  const auto growing = model_of("pattern = [\"sum\"]\nrepeats = 1\nwidth = 4");
  EXPECT_EQ(flops_per_token(*growing, 9, 1).decode - flops_per_token(*growing, 4, 1).decode, 2 * 5 * 4);
}

// What the plan says a sequence holds is what a state holds after as many tokens.
TEST(PlanFigures, ForeseesTheBytesOfASequence) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const std::string toml = "pattern = [\"gated\", \"sum\", \"mlp\"]\nrepeats = 2\nwidth = 4";
    const SequenceBytes planned = sequence_bytes(*model_of(toml), 6, dtype);
    const auto model = drawn_model(toml);
    model->set_compute_dtype(dtype);
    const at::NoGradGuard no_grad;
    ModelState state = model->initial_state(1, 6);
    model->hidden(at::zeros({1, 6}, at::kLong), Context::plain(1, 6, 0, at::kCPU), &state);
    EXPECT_EQ(planned.cache + planned.state, state.bytes());
    EXPECT_EQ(planned.windowed_cache, planned.cache);
    EXPECT_EQ(planned.state, 2 * 4 * 4) << "recurrent states are float32";
    EXPECT_EQ(planned.state_elements, 2 * 4);
    EXPECT_EQ(planned.cache_per_token * 6, planned.cache);
    EXPECT_EQ(model->compute_dtype(), dtype) << "the model is left as it was";
  }
}

// A matrix [64, 40] is quantised: 40 bytes and a scale per row, or two groups of 16 bytes and scale and zero.
TEST(PlanFigures, CountsWeightsByFormat) {
  Registry registry = toys::toy_registry();
  const auto model = *LanguageModel::make(toys::model_config("pattern = [\"mlp\"]\nrepeats = 1\nwidth = 40\nnorm = \"rms_norm\""),
                                          7, "models.toy", registry);
  std::map<std::string, int64_t> bytes;
  for (const WeightBytes& format : weight_bytes(*model)) bytes[format.format] = format.bytes;
  const int64_t embedding = 7 * 40, norms = 2 * 40, matrices = 2 * 80 * 40;
  EXPECT_EQ(bytes["float32"], 4 * (embedding + norms + matrices));
  EXPECT_EQ(bytes["bfloat16"], 2 * (embedding + matrices) + 4 * norms) << "norms stay float32";
  EXPECT_EQ(bytes["int8"], 2 * embedding + 4 * norms + matrices + 2 * (80 + 40)) << "in [80, 40], out [40, 80]";
  EXPECT_EQ(bytes["int4"], 2 * embedding + 4 * norms + 80 * 2 * 20 + 40 * 3 * 20) << "rows of 40 and 80 in groups of 32";
}

TEST(PlanFigures, AddsUpATrainingStep) {
  const auto model = experts_model();
  const int64_t parameters = model->parameters().count(), tokens = 2 * 10;
  const TrainingBytes bytes = training_bytes(*model, 2, 10, at::kFloat);
  EXPECT_EQ(bytes.weights, 4 * parameters);
  EXPECT_EQ(bytes.gradients, 4 * parameters);
  EXPECT_EQ(bytes.optimizer, 8 * parameters);
  const int64_t around = tokens * (4 * 4 + 4 * 4 + 7 * 8), inputs = 6 * tokens * 4 * 4, experts = tokens * 4 * 4;
  EXPECT_EQ(bytes.activations, inputs + 3 * experts + around);
  EXPECT_EQ(bytes.activations_recomputed, inputs + experts + around);
  EXPECT_EQ(bytes.total() - bytes.total_recomputed(), 2 * experts);
}

TEST(PlanFigures, FindsTheLargestThatFits) {
  const auto linear = [](int64_t n) { return 100 + 7 * n; };
  EXPECT_EQ(largest_that_fits(linear, 106, 1000), 0);
  EXPECT_EQ(largest_that_fits(linear, 107, 1000), 1);
  EXPECT_EQ(largest_that_fits(linear, 1000, 1000), 128);
  EXPECT_EQ(largest_that_fits(linear, 1000, 100), 100);
  for (int64_t budget = 100; budget < 900; ++budget) {
    EXPECT_EQ(largest_that_fits(linear, budget, 1 << 30), (budget - 100) / 7) << budget;
  }
  EXPECT_EQ(largest_that_fits([](int64_t) { return 5; }, 5, int64_t{1} << 40), int64_t{1} << 40);
}

TEST(PlanFigures, ComparesStateWithATransformersCache) {
  const auto model = model_of("pattern = [\"gated\"]\nrepeats = 24\nwidth = 8");
  const TransformerTwin twin = transformer_twin(*model, at::kBFloat16);
  EXPECT_EQ(twin.layers, 12);
  EXPECT_EQ(twin.cache_per_token, 12 * 2 * 8 * 2);
  EXPECT_EQ(break_even_tokens(384, 0, twin), 1);
  EXPECT_EQ(break_even_tokens(385, 0, twin), 2);
  EXPECT_EQ(break_even_tokens(3840, 192, twin), 20) << "a hybrid gains what its own cache leaves";
  EXPECT_EQ(break_even_tokens(1, 384, twin), 0) << "never";
}

}  // namespace
}  // namespace hippodrome::plan_figures_test

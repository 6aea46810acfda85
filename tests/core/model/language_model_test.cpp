#include "core/model/language_model.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>

#include <cmath>

#include "core/tensor/memory_meter.h"
#include "tests/core/model/toy_models.h"

namespace hippodrome::language_model_test {
namespace {

using testing::HasSubstr;
using toys::drawn_model;
using toys::model_config;
using toys::model_of;

Tensor tokens_of(int64_t rows, int64_t length, int64_t vocabulary = 7) {
  Tensor tokens = at::zeros({rows, length}, at::kLong);
  RandomStream stream(1, "tokens");
  for (int64_t i = 0; i < tokens.numel(); ++i) tokens.mutable_data_ptr<int64_t>()[i] = stream.below(vocabulary);
  return tokens;
}

Tensor logits_of(LanguageModel& model, const Tensor& tokens, int64_t start = 0, ModelState* state = nullptr) {
  const at::NoGradGuard no_grad;
  return model.logits(model.hidden(tokens, Context::plain(tokens.size(0), tokens.size(1), start, at::kCPU), state));
}

std::string error_of(const std::string& toml) {
  const auto table = parse_toml(toml, "model.toml");
  const auto config = read_config<ModelConfig>(*table, "models.toy");
  if (!config.ok()) return std::string(config.status().message());
  return std::string(LanguageModel::make(*config, 7, "models.toy", toys::shared_toys()).status().message());
}

std::vector<std::string> names_of(LanguageModel& model) {
  std::vector<std::string> names;
  for (const ParameterPtr& parameter : model.parameters().list()) names.push_back(parameter->name);
  return names;
}

// D = 4, V = 7: embedding 28; a layer norm 8; the toy MLP 2·4·8 = 64.
TEST(LanguageModel, CountsItsParameters) {
  const std::string body = "pattern = [\"mlp\"]\nrepeats = 2\nwidth = 4\n";
  EXPECT_EQ(model_of(body)->parameters().count(), 28 + 2 * (8 + 64) + 8);
  EXPECT_EQ(model_of(body + "tied = false")->parameters().count(), 28 + 2 * (8 + 64) + 8 + 28);
  EXPECT_EQ(model_of(body + "norm = \"rms_norm\"")->parameters().count(), 28 + 2 * (4 + 64) + 4);
  EXPECT_EQ(model_of(body + "norm_position = \"none\"\nfinal_norm = false")->parameters().count(), 28 + 2 * 64);
  EXPECT_EQ(model_of(body + "embedding_norm = true")->parameters().count(), 28 + 8 + 2 * (8 + 64) + 8);
  EXPECT_EQ(model_of(body + "positions = \"learned\"\nmax_positions = 10")->parameters().count(), 28 + 40 + 2 * (8 + 64) + 8);
}

TEST(LanguageModel, NamesItsParametersByTheirPlace) {
  EXPECT_THAT(names_of(*model_of("pattern = [\"mlp\"]\nrepeats = 2\nwidth = 4\ntied = false\nnorm = \"rms_norm\"")),
              testing::ElementsAre("embedding.weight", "blocks.0.norm.weight", "blocks.0.mixer.in.weight",
                                   "blocks.0.mixer.out.weight", "blocks.1.norm.weight", "blocks.1.mixer.in.weight",
                                   "blocks.1.mixer.out.weight", "final_norm.weight", "head.weight"));
}

TEST(LanguageModel, ATiedHeadIsTheEmbedding) {
  auto tied = drawn_model("pattern = [\"mlp\"]\nrepeats = 1\nwidth = 4");
  tied->parameters().set_requires_grad(true);
  const Tensor tokens = at::zeros({1, 1}, at::kLong);
  tied->logits(tied->hidden(tokens, Context::plain(1, 1, 0, at::kCPU), nullptr)).square().sum().backward();
  const Tensor gradient = tied->parameters().find("embedding.weight")->value.grad();
  EXPECT_GT(gradient[0].abs().sum().item().toDouble(), 0.0);
  EXPECT_GT(gradient[3].abs().sum().item().toDouble(), 0.0) << "a token that was not read has a gradient through the head";
}

TEST(LanguageModel, IsBuiltWithoutMemory) {
  memory_meter::install();
  const int64_t before = memory_meter::current_bytes();
  memory_meter::reset_peak();
  const auto model = model_of("pattern = [\"gated\", \"mlp\"]\nrepeats = 100\nwidth = 16384", 100000);
  EXPECT_GT(model->parameters().count(), int64_t{100} * 1000 * 1000 * 1000);
  EXPECT_EQ(memory_meter::current_bytes(), before);
  EXPECT_LT(memory_meter::peak_bytes() - before, 1 << 20);
  EXPECT_GT(model->cost({1, 8, 0, 4}).flops, 1e12);
}

TEST(LanguageModel, DecodesWhatItTrains) {
  for (const char* positions : {"none", "learned", "sinusoidal"}) {
    for (const char* layer : {"gated", "sum"}) {
      auto model = drawn_model(std::string("repeats = 2\nwidth = 8\npositions = \"") + positions + "\"\npattern = [\"" + layer + "\", \"mlp\"]");
      const Tensor tokens = tokens_of(3, 12);
      const Tensor whole = logits_of(*model, tokens);
      ModelState state = model->initial_state(3, 4);
      std::vector<Tensor> parts = {logits_of(*model, tokens.narrow(1, 0, 5), 0, &state)};
      ModelState copy = state.clone();
      for (int64_t t = 5; t < 12; ++t) parts.push_back(logits_of(*model, tokens.narrow(1, t, 1), t, &state));
      EXPECT_LT(at::cat(parts, 1).sub(whole).abs().max().item().toDouble(), 1e-5) << positions << ", " << layer;
      EXPECT_GT(state.bytes(), 0);
      const Tensor again = logits_of(*model, tokens.narrow(1, 5, 1), 5, &copy);
      EXPECT_TRUE(at::equal(again, parts[1])) << "a clone is where the original was";
      const Tensor rows = at::arange(2, -1, -1, at::kLong);
      ModelState reversed = copy.select(rows);
      const Tensor next = tokens.narrow(1, 6, 1);
      EXPECT_LT(logits_of(*model, next.index_select(0, rows), 6, &reversed).sub(logits_of(*model, next, 6, &copy).index_select(0, rows)).abs().max().item().toDouble(), 1e-5);
    }
  }
}

TEST(LanguageModel, PositionsReachTheModel) {
  const Tensor same = at::zeros({1, 6}, at::kLong);
  const auto spread = [&](const std::string& positions) {
    auto model = drawn_model("pattern = [\"mlp\"]\nrepeats = 1\nwidth = 8\npositions = \"" + positions + "\"");
    const Tensor logits = logits_of(*model, same);
    return logits.sub(logits.select(1, 0).unsqueeze(1)).abs().max().item().toDouble();
  };
  EXPECT_EQ(spread("none"), 0.0);
  EXPECT_GT(spread("learned"), 1e-3);
  EXPECT_GT(spread("sinusoidal"), 1e-3);
}

// Vaswani et al. 2017, section 3.5: position 3, width 4, and an odd width.
TEST(LanguageModel, SinusoidsFollowTheirFormula) {
  for (const int64_t width : {4, 5}) {
    auto model = drawn_model("pattern = [\"mlp\"]\nrepeats = 1\nwidth = " + std::to_string(width) +
                             "\npositions = \"sinusoidal\"\nnorm_position = \"none\"\nfinal_norm = false\ntied = false", 7, 1, at::kDouble);
    model->parameters().find("embedding.weight")->value.zero_();
    model->parameters().find("blocks.0.mixer.out.weight")->value.zero_();
    const at::NoGradGuard no_grad;
    const Tensor hidden = model->hidden(at::zeros({1, 4}, at::kLong), Context::plain(1, 4, 0, at::kCPU), nullptr)[0][3];
    for (int64_t i = 0; i < width; ++i) {
      const double angle = 3.0 / std::pow(10000.0, static_cast<double>(i / 2 * 2) / static_cast<double>(width));
      EXPECT_NEAR(hidden[i].item().toDouble(), i % 2 == 0 ? std::sin(angle) : std::cos(angle), 1e-12) << i << " of " << width;
    }
  }
}

TEST(LanguageModel, LearnedPositionsEndWithASentence) {
  auto model = drawn_model("pattern = [\"mlp\"]\nrepeats = 1\nwidth = 4\npositions = \"learned\"\nmax_positions = 5");
  logits_of(*model, tokens_of(1, 5));
  try {
    logits_of(*model, tokens_of(1, 6));
    FAIL();
  } catch (const c10::Error& error) {
    EXPECT_THAT(error.what_without_backtrace(), HasSubstr("a sequence of 6 tokens is longer than the model's 5 learned positions: raise max_positions"));
  }
}

// Each position of the norm, against the formula written with the block's own parts.
TEST(Blocks, NormaliseBeforeAfterOrNot) {
  const Tensor tokens = tokens_of(2, 3);
  const Context context = Context::plain(2, 3, 0, at::kCPU);
  for (const char* position : {"pre", "post", "none"}) {
    for (const bool residual : {true, false}) {
      auto model = drawn_model(std::string("pattern = [\"mlp\"]\nrepeats = 1\nwidth = 4\nfinal_norm = false\nnorm_position = \"") + position +
                                   "\"\n[blocks.mlp]\nresidual = " + (residual ? "true" : "false"), 7, 1, at::kDouble);
      const at::NoGradGuard no_grad;
      const Tensor x = model->parameters().find("embedding.weight")->value.index({tokens});
      const auto normed = [](const Tensor& v) {
        const Tensor centred = v.sub(v.mean({-1}, true));
        return centred.div(centred.square().mean({-1}, true).add(1e-5).sqrt());
      };
      Layer& layer = model->blocks()[0]->layer();
      const bool pre = std::string(position) == "pre", post = std::string(position) == "post";
      Tensor expected = layer.forward(pre ? normed(x) : x, context, nullptr);
      if (residual) expected = x.add(expected);
      if (post) expected = normed(expected);
      EXPECT_LT(model->hidden(tokens, context, nullptr).sub(expected).abs().max().item().toDouble(), 1e-12) << position << residual;
    }
  }
}

TEST(Blocks, TakeAnotherLayerThanTheirName) {
  auto model = model_of("pattern = [\"memory\", \"mlp\"]\nrepeats = 1\nwidth = 4\n[blocks.memory]\nlayer = \"gated\"\nnorm = \"rms_norm\"");
  EXPECT_EQ(model->blocks()[0]->layer_name(), "gated");
  EXPECT_EQ(model->blocks()[1]->layer_name(), "mlp");
  EXPECT_NE(model->parameters().find("blocks.0.mixer.gate.weight"), nullptr);
  EXPECT_EQ(model->parameters().find("blocks.0.norm.bias"), nullptr);
  EXPECT_NE(model->parameters().find("blocks.1.norm.bias"), nullptr);
}

TEST(Blocks, KeepTheResidualStreamWide) {
  auto model = drawn_model("pattern = [\"gated\", \"mlp\"]\nrepeats = 4\nwidth = 32");
  const Tensor tokens = tokens_of(2, 20);
  const Tensor exact = logits_of(*model, tokens);
  model->set_compute_dtype(at::kBFloat16);
  const Tensor narrow = logits_of(*model, tokens);
  EXPECT_EQ(narrow.scalar_type(), at::kBFloat16);
  EXPECT_LT(narrow.to(at::kFloat).sub(exact).norm().item().toDouble(), 0.02 * exact.norm().item().toDouble());
}

TEST(LanguageModel, CostIsThatOfItsBlocksAndHead) {
  auto model = model_of("pattern = [\"gated\", \"mlp\"]\nrepeats = 3\nwidth = 8");
  const Workload workload{2, 5, 0, 4};
  const Cost cost = model->cost(workload);
  // Gated: 3 products of D²; MLP: 2 of 2D²; head D·V: FLOPs are twice that, per token.
  EXPECT_EQ(cost.flops, 2.0 * 10 * (3 * (3 * 64 + 2 * 128) + 8 * 7));
  EXPECT_EQ(cost.state_bytes, 3 * 2 * 8 * 4);
  EXPECT_EQ(model->kernel_class(), KernelClass::kLibrary);
}

struct WrongConfig {
  std::string toml, sentence;
};

TEST(LanguageModel, WrongConfigsAreSentences) {
  const std::vector<WrongConfig> table = {
      {"width = 4", "[models.toy] has no blocks: give a preset, or a pattern such as pattern = [\"attention\", \"mlp\"]"},
      {"pattern = [\"gate\"]", ": [models.toy.blocks.gate]: no layer is called \"gate\"; did you mean \"gated\"?"},
      {"pattern = [\"mlp\"]\n[blocks.mlp]\nlayer = \"nothing_like_it\"",
       "model.toml:3: [models.toy.blocks.mlp]: no layer is called \"nothing_like_it\"; valid: gated, plain, sum, mlp"},
      {"pattern = [\"mlp\"]\n[blocks.mpl]\nexpansion = 3",
       "model.toml:2: [models.toy.blocks.mpl] describes a block that the pattern does not hold; did you mean \"mlp\"?"},
      {"pattern = [\"mlp\"]\nblocks.mlp = 3", "model.toml:2: [models.toy.blocks] \"mlp\" must be a table"},
      {"pattern = [\"mlp\"]\n[blocks.mlp]\nexpansions = 3",
       "model.toml:3: unknown key \"expansions\" in [models.toy.blocks.mlp]; did you mean \"expansion\"?"},
      {"pattern = [\"mlp\"]\n[blocks.mlp]\nnorm = \"batch\"", "model.toml:3: \"norm\" in [models.toy.blocks.mlp]"},
      {"pattern = [\"mlp\"]\nwidht = 3", "model.toml:2: unknown key \"widht\" in [models.toy]; did you mean \"width\"?"},
      {"pattern = [\"mlp\"]\nwidth = \"wide\"", "model.toml:2: \"width\" in [models.toy]"},
  };
  for (const WrongConfig& wrong : table) EXPECT_THAT(error_of(wrong.toml), HasSubstr(wrong.sentence)) << wrong.toml;
}

TEST(MatchWidth, LandsWithinTheTolerance) {
  for (const double target : {2e5, 3e5, 1e6, 4.56e6}) {
    for (const char* pattern : {"[\"gated\", \"mlp\"]", "[\"mlp\"]"}) {
      ModelConfig config = model_config(std::string("pattern = ") + pattern + "\nrepeats = 3");
      const auto width = match_width(config, 50, "models.toy", toys::shared_toys(), target, 0.02);
      ASSERT_TRUE(width.ok()) << width.status();
      config.width = *width;
      const auto count = static_cast<double>((*LanguageModel::make(config, 50, "models.toy", toys::shared_toys()))->parameters().count());
      EXPECT_NEAR(count / target, 1.0, 0.02) << "width " << *width;
    }
  }
}

TEST(LanguageModel, MayHaveMoreTokensThanTheTaskButNotFewer) {
  const ModelConfig config = model_config("pattern = [\"mlp\"]\nwidth = 8\nvocabulary = 12");
  const auto padded = LanguageModel::make(config, 10, "models.toy", toys::shared_toys());
  ASSERT_TRUE(padded.ok()) << padded.status();
  EXPECT_EQ((*padded)->vocabulary(), 12);
  EXPECT_EQ((*padded)->parameters().find("embedding.weight")->value.size(0), 12);
  EXPECT_EQ(LanguageModel::make(config, 13, "models.toy", toys::shared_toys()).status().message(),
            "[models.toy] vocabulary = 12 is less than the 13 tokens to be read");
}

TEST(MatchWidth, PrefersWideMultiples) {
  const ModelConfig config = model_config("pattern = [\"gated\", \"mlp\"]\nrepeats = 3");
  const auto wide = match_width(config, 50, "models.toy", toys::shared_toys(), 4e6, 0.05);
  ASSERT_TRUE(wide.ok());
  EXPECT_EQ(*wide % 16, 0);
}

TEST(MatchWidth, SaysWhenItCannot) {
  const ModelConfig config = model_config("pattern = [\"mlp\"]\nrepeats = 1");
  const auto width = match_width(config, 10, "models.toy", toys::shared_toys(), 150, 0.02);
  ASSERT_FALSE(width.ok());
  EXPECT_THAT(std::string(width.status().message()),
              testing::MatchesRegex(".models.toy. no width gives 150 parameters to within 2 %; the nearest count is [0-9]+: change "
                                    "`match`, `repeats`, or the vocabulary"));
  ModelConfig wrong = config;
  wrong.pattern = {"nobody"};
  EXPECT_THAT(std::string(match_width(wrong, 10, "models.toy", toys::shared_toys(), 1e5, 0.02).status().message()), HasSubstr("no layer is called"));
}

// A layer that takes some widths only.
struct Heads final : toys::GatedRecurrence {
  struct Config {
    int64_t heads = 4;
    void bind(Fields& fields) { fields.integer("heads", heads, {1, 64}, "heads"); }
  };
  static absl::Status check(const Config& config, const Site& site) {
    return site.width % config.heads == 0 ? absl::OkStatus() : absl::InvalidArgumentError("the width is no multiple of heads");
  }
  Heads(const Config&, const Site& site) : GatedRecurrence({}, site) {}
};

TEST(MatchWidth, PassesOverWidthsThatALayerRefuses) {
  Registry registry = toys::toy_registry();
  registry.add(layer_entry<Heads>("heads", "toys", ""));
  for (const int64_t heads : {4, 3, 6}) {
    const ModelConfig config = model_config("pattern = [\"heads\", \"mlp\"]\nrepeats = 2\n[blocks.heads]\nheads = " + std::to_string(heads));
    const auto width = match_width(config, 50, "models.toy", registry, 1e6, 0.02);
    ASSERT_TRUE(width.ok()) << heads << " heads: " << width.status();
    EXPECT_EQ(*width % heads, 0);
  }
  // Where no width will do, it is the count that is the matter.
  const ModelConfig config = model_config("pattern = [\"heads\"]\nrepeats = 1");
  EXPECT_THAT(std::string(match_width(config, 10, "models.toy", registry, 150, 0.02).status().message()), HasSubstr("no width gives 150"));
}

}  // namespace
}  // namespace hippodrome::language_model_test

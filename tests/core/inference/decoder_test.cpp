#include "core/inference/decoder.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "tests/core/model/toy_models.h"

namespace hippodrome {
namespace {

Tensor tokens_for_decoding(int64_t rows, int64_t length) {
  Tensor tokens = at::zeros({rows, length}, at::kLong);
  RandomStream stream(2, "tokens");
  for (int64_t i = 0; i < tokens.numel(); ++i) tokens.mutable_data_ptr<int64_t>()[i] = stream.below(7);
  return tokens;
}

Tensor last_logits(LanguageModel& model, const Tensor& tokens) {
  const at::NoGradGuard no_grad;
  const Context context = Context::plain(tokens.size(0), tokens.size(1), 0, at::kCPU);
  return model.logits(model.hidden(tokens, context, nullptr).select(1, tokens.size(1) - 1));
}

TEST(Decoder, ReadsAPromptAndThenTokens) {
  for (const char* layer : {"gated", "sum"}) {
    auto model = toys::drawn_model(std::string("pattern = [\"mlp\", \"") + layer + "\"]\nrepeats = 2\nwidth = 8\npositions = \"sinusoidal\"");
    model->parameters().set_requires_grad(true);
    const Tensor tokens = tokens_for_decoding(2, 12);
    Decoder decoder(*model, 2, 4);
    const Tensor first = decoder.read(tokens.narrow(1, 0, 9));
    EXPECT_EQ(first.sizes(), (std::vector<int64_t>{2, 7}));
    EXPECT_FALSE(first.requires_grad());
    EXPECT_LT(first.sub(last_logits(*model, tokens.narrow(1, 0, 9))).abs().max().item().toDouble(), 1e-5);
    for (int64_t t = 9; t < 12; ++t) {
      EXPECT_EQ(decoder.position(), t);
      const Tensor logits = decoder.read(tokens.narrow(1, t, 1));
      EXPECT_LT(logits.sub(last_logits(*model, tokens.narrow(1, 0, t + 1))).abs().max().item().toDouble(), 1e-5) << layer << t;
    }
    EXPECT_GT(decoder.state().bytes(), 0);
  }
}

// Of the last layers only the last token's part is computed, which must not show either.
TEST(Decoder, ComputesPositionWiseLayersForTheLastTokenAlone) {
  for (const char* pattern : {"[\"gated\", \"mlp\", \"mlp\"]", "[\"mlp\"]", "[\"gated\"]"}) {
    for (const char* norm : {"pre", "post"}) {
      auto model = toys::drawn_model(std::string("pattern = ") + pattern + "\nwidth = 8\nnorm_position = \"" + norm + "\"");
      const Tensor tokens = tokens_for_decoding(3, 6);
      const at::NoGradGuard no_grad;
      const Context context = Context::plain(3, 6, 0, at::kCPU);
      const Tensor last = model->last_hidden(tokens, context, nullptr);
      EXPECT_EQ(last.sizes(), (std::vector<int64_t>{3, 1, 8}));
      const Tensor all = model->hidden(tokens, context, nullptr);
      EXPECT_LT(last.sub(all.narrow(1, 5, 1)).abs().max().item().toDouble(), 1e-6) << pattern << norm;
    }
  }
}

// A prompt is read in pieces of 2,048 tokens, which must not show.
TEST(Decoder, ReadsLongPromptsInPieces) {
  auto model = toys::drawn_model("pattern = [\"gated\"]\nrepeats = 1\nwidth = 4");
  const Tensor tokens = tokens_for_decoding(1, 2048 + 5);
  Decoder decoder(*model, 1, 0);
  EXPECT_LT(decoder.read(tokens).sub(last_logits(*model, tokens)).abs().max().item().toDouble(), 1e-5);
  EXPECT_EQ(decoder.position(), 2053);
}

TEST(Decoder, RefusesWhatIsNoPrompt) {
  auto model = toys::drawn_model("pattern = [\"gated\"]\nrepeats = 1\nwidth = 4");
  Decoder decoder(*model, 1, 0);
  EXPECT_THROW(decoder.read(at::zeros({1, 0}, at::kLong)), c10::Error);
  EXPECT_THROW(decoder.read(at::zeros({3}, at::kLong)), c10::Error);
}

}  // namespace
}  // namespace hippodrome

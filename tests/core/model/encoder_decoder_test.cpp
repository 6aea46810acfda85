#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>

#include "core/training/loss.h"
#include "tests/core/model/small_translators.h"

namespace hippodrome::encoder_decoder_test {
namespace {

using small_translators::drawn;
using small_translators::make;
using testing::HasSubstr;

Tensor ids(std::vector<int64_t> values, int64_t rows) { return at::tensor(values, at::kLong).view({rows, -1}); }

// Two sources of 4 and 2 tokens, side by side, and two targets of 3 and 2.
Batch padded_batch() {
  Batch batch;
  batch.source = ids({2, 3, 4, 0, 5, 0, 0, 0}, 2);
  batch.source_positions = ids({0, 1, 2, 3, 0, 1, -1, -1}, 2);
  batch.source_ragged = true;
  batch.tokens = ids({1, 4, 3, 1, 6, 0}, 2);
  batch.positions = ids({0, 1, 2, 0, 1, -1}, 2);
  batch.labels = ids({4, 3, 0, 6, 0, kNoLabel}, 2);
  batch.ragged = true;
  return batch;
}

Batch alone(const Batch& both, int64_t row, int64_t source, int64_t target) {
  Batch one = both.part(row, 1);
  for (Tensor* tensor : {&one.source, &one.source_positions}) *tensor = tensor->narrow(1, 0, source);
  for (Tensor* tensor : {&one.tokens, &one.positions, &one.labels}) *tensor = tensor->narrow(1, 0, target);
  one.ragged = one.source_ragged = false;
  return one;
}

class Translators : public testing::TestWithParam<std::pair<std::string, std::string>> {};

TEST_P(Translators, PaddingOfSourceAndTargetChangesNoLossAndNoGradient) {
  const auto model = drawn(GetParam().second);
  if (!model->encoder()) return;
  model->parameters().set_requires_grad(true);
  const auto gradients = [&](const std::vector<Batch>& batches) {
    Tensor sum = at::zeros({}, at::kDouble);
    for (const Batch& batch : batches) sum = sum.add(batch_loss(*model, batch, nullptr, false).sum);
    sum.backward();
    std::vector<Tensor> result = {sum.detach()};
    for (const ParameterPtr& parameter : model->parameters().list()) {
      EXPECT_TRUE(parameter->value.grad().defined()) << parameter->name << " has no part in the loss";
      if (parameter->value.grad().defined()) result.push_back(parameter->value.grad().clone());
      parameter->value.mutable_grad() = Tensor();
    }
    return result;
  };
  const Batch both = padded_batch();
  const auto together = gradients({both}), apart = gradients({alone(both, 0, 4, 3), alone(both, 1, 2, 2)});
  ASSERT_EQ(together.size(), apart.size());
  for (size_t i = 0; i < apart.size(); ++i) {
    EXPECT_LT(together[i].sub(apart[i]).abs().max().item().toDouble(), 1e-10) << i;
  }
}

TEST_P(Translators, DecodeTokenByTokenWhatTheyReadAtOnce) {
  const at::NoGradGuard no_grad;
  const auto model = drawn(GetParam().second);
  if (!model->encoder()) return;
  const Batch batch = padded_batch();
  Context reading;
  reading.positions = batch.source_positions;
  reading.ragged = true;
  const EncodedSource source = model->encode(batch.source, reading);
  const Tensor tokens = ids({1, 4, 3, 1, 6, 2}, 2);
  ModelState whole = model->initial_state(2, 3, &source), steps = model->initial_state(2, 0, &source);
  const Tensor expected = model->hidden(tokens, Context::plain(2, 3, 0, at::kCPU), &whole);
  std::vector<Tensor> outputs;
  for (int64_t t = 0; t < 3; ++t) {
    outputs.push_back(model->hidden(tokens.narrow(1, t, 1), Context::plain(2, 1, t, at::kCPU), &steps));
  }
  EXPECT_LT(at::cat(outputs, 1).sub(expected).abs().max().item().toDouble(), 1e-10);
  EXPECT_EQ(whole.bytes(), steps.bytes());
}

// Hypotheses share what belongs to their source: three rows on the second source and one on the first, out of order.
TEST_P(Translators, SelectedRowsContinueAsTheirSourcesDo) {
  const at::NoGradGuard no_grad;
  const auto model = drawn(GetParam().second);
  if (!model->encoder()) return;
  const Batch batch = padded_batch();
  Context reading;
  reading.positions = batch.source_positions;
  reading.ragged = true;
  const EncodedSource source = model->encode(batch.source, reading);
  for (const std::vector<int64_t>& chosen : {std::vector<int64_t>{1, 0, 1, 1}, {0, 0, 1, 1}, {1, 1}, {0, 1}}) {
    const Tensor rows = at::tensor(chosen, at::kLong);
    const auto count = static_cast<int64_t>(chosen.size());
    ModelState state = model->initial_state(2, 4, &source);
    model->hidden(ids({1, 1}, 2), Context::plain(2, 1, 0, at::kCPU), &state);
    ModelState selected = state.select(rows);
    const Tensor tokens = ids({4, 6}, 2);
    const Tensor expected = model->hidden(tokens, Context::plain(2, 1, 1, at::kCPU), &state).index_select(0, rows);
    const Tensor actual = model->hidden(tokens.index_select(0, rows), Context::plain(count, 1, 1, at::kCPU), &selected);
    EXPECT_LT(actual.sub(expected).abs().max().item().toDouble(), 1e-10) << testing::PrintToString(chosen);
  }
}

INSTANTIATE_TEST_SUITE_P(EncoderDecoder, Translators, testing::ValuesIn(small_translators::all()),
                         [](const auto& info) {
                           std::string name = info.param.first;
                           for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
                           return name;
                         });

TEST(EncoderDecoder, ReadsTheSourceBackwardsWhereAsked) {
  const std::string rest =
      "pattern = [\"lstm\"]\nrepeats = 1\nwidth = 6\nhandover = true\n[encoder]\npattern = [\"lstm\"]\nrepeats = 1\n";
  const auto forward = drawn(rest), backward = drawn(rest + "reverse = true");
  const Tensor source = ids({2, 3, 4}, 1);
  const Context plain = Context::plain(1, 3, 0, at::kCPU);
  const Tensor a = forward->encode(source.flip(1), plain).memory.values,
               b = backward->encode(source, plain).memory.values;
  EXPECT_EQ(a.sub(b).abs().max().item().toDouble(), 0.0);
  // Padding stays behind the tokens.
  Context ragged;
  ragged.positions = ids({0, 1, 2, -1}, 1);
  ragged.ragged = true;
  const Tensor padded = backward->encode(ids({2, 3, 4, 0}, 1), ragged).memory.values;
  EXPECT_LT(padded.narrow(1, 0, 3).sub(b).abs().max().item().toDouble(), 1e-12);
  EXPECT_EQ(padded[0][3].abs().max().item().toDouble(), 0.0);
}

TEST(EncoderDecoder, BothDirectionsStandBesideEachOther) {
  const auto model = drawn(
      "pattern = [\"cross_attention\"]\nrepeats = 1\nwidth = 6\n[encoder]\npattern = [\"gru\"]\nrepeats = 1\n"
      "norm_position = \"none\"\nresidual = false\nfinal_norm = false\n[encoder.blocks.gru]\ndirection = \"both\"");
  EXPECT_EQ(model->encoder()->output_width(), 12);
  // The backward half of the first token has seen everything, that of the last token itself alone.
  const auto half = [&](std::vector<int64_t> tokens, int64_t t) {
    const auto length = static_cast<int64_t>(tokens.size());
    return model->encode(ids(tokens, 1), Context::plain(1, length, 0, at::kCPU)).memory.values[0][t].narrow(0, 6, 6);
  };
  EXPECT_GT(half({2, 3, 4}, 0).sub(half({2, 3, 5}, 0)).abs().max().item().toDouble(), 1e-4);
  EXPECT_EQ(half({2, 3, 4}, 2).sub(half({6, 5, 4}, 2)).abs().max().item().toDouble(), 0.0);
}

TEST(EncoderDecoder, SaysWhatDoesNotFit) {
  const auto error = [](const std::string& toml) { return std::string(make(toml).status().message()); };
  EXPECT_THAT(error("pattern = [\"cross_attention\"]\nwidth = 8"), HasSubstr("give the model an encoder"));
  EXPECT_THAT(error("pattern = [\"lstm\"]\nwidth = 8\nhandover = true"), HasSubstr("handover = true needs an encoder"));
  EXPECT_THAT(error("pattern = [\"lstm\"]\nwidth = 8\nhandover = true\n[encoder]\npattern = [\"gru\"]"),
              HasSubstr("the encoder has gru, gru, the decoder lstm, lstm"));
  EXPECT_THAT(
      error("pattern = [\"lstm\"]\nwidth = 8\n[encoder]\npattern = [\"lstm\"]\nshared_embedding = true\nwidth = 6"),
      HasSubstr("[models.m.encoder] shared_embedding = true needs the decoder's width"));
  EXPECT_THAT(error("pattern = [\"lstm\"]\nwidth = 8\n[encoder]\npattern = [\"lstm\"]\nheads = 3"),
              HasSubstr("model.toml:5"));
  EXPECT_THAT(error("pattern = [\"lstm\"]\nwidth = 8\nresidual = true\n[blocks.lstm]\noutput_width = 6"),
              HasSubstr("which cannot be added: set residual = false"));
  EXPECT_THAT(error("pattern = [\"lstm\"]\nwidth = 8\nresidual = false\n[blocks.lstm]\noutput_width = 6"),
              HasSubstr("set tied = false"));
  EXPECT_THAT(
      error("pattern = [\"lstm\"]\nwidth = 8\n[encoder]\npattern = [\"attention\"]\n[encoder.blocks.attention]\n"
            "causal = false\ndirection = \"backward\""),
      HasSubstr("sees both sides as it is"));
}

TEST(EncoderDecoder, NeedsASource) {
  const auto model = drawn(small_translators::all()[0].second);
  const at::NoGradGuard no_grad;
  EXPECT_THROW(model->hidden(ids({1}, 1), Context::plain(1, 1, 0, at::kCPU), nullptr), c10::Error);
  EXPECT_THROW(model->initial_state(1, 0), c10::Error);
  Batch batch = padded_batch();
  batch.source = Tensor();
  EXPECT_THAT(std::string(check_source(*model, batch).message()), HasSubstr("take a task of pairs"));
}

}  // namespace
}  // namespace hippodrome::encoder_decoder_test

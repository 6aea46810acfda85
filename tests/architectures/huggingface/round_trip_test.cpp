#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <gmock/gmock.h>

#include "architectures/huggingface/checkpoint.h"
#include "architectures/huggingface/folder.h"
#include "tests/architectures/huggingface/fixtures.h"

namespace hippodrome::huggingface {
namespace round_trip_test {
namespace {

using namespace huggingface_fixtures;
using testing::HasSubstr;

Import import_of(const fs::path& folder) {
  auto imported = import_folder(folder, registry(), at::kFloat);
  EXPECT_TRUE(imported.ok()) << imported.status();
  return imported.ok() ? *std::move(imported) : Import();
}

Tensor logits_of(LanguageModel& model) {
  const at::NoGradGuard no_grad;
  const Tensor tokens = at::arange(10, at::kLong).unsqueeze(0);
  return model.logits(model.hidden(tokens, Context::plain(1, 10, 0, at::kCPU), nullptr));
}

void expect_same(const std::map<std::string, Tensor>& found, const std::map<std::string, Tensor>& wanted) {
  for (const auto& [name, tensor] : wanted) {
    const auto same = found.find(name);
    ASSERT_NE(same, found.end()) << name;
    EXPECT_EQ(same->second.scalar_type(), tensor.scalar_type()) << name;
    EXPECT_TRUE(same->second.sizes() == tensor.sizes() && at::equal(same->second, tensor)) << name;
  }
  EXPECT_EQ(found.size(), wanted.size());
}

class RoundTrip : public FolderTest, public testing::WithParamInterface<std::string> {};

TEST_P(RoundTrip, FilesComeBackBitForBit) {
  const Checkpoint made = all().at(GetParam());
  const auto tensors = drawn(made.shapes);
  Import first = import_of(write("a", made.config, tensors));
  ASSERT_NE(first.model, nullptr);
  EXPECT_EQ(first.stored, "float32");
  const ExportOptions options{.source = first.description.json};
  const auto family = export_folder(folder_ / "b", first.description.config, *first.model, registry(), options);
  ASSERT_TRUE(family.ok()) << family.status();
  EXPECT_EQ((*family)->name, GetParam());
  expect_same(read_weights(folder_ / "b")->tensors, tensors);

  Import second = import_of(folder_ / "b");
  ASSERT_NE(second.model, nullptr);
  EXPECT_EQ(write_config(second.description.config).json(), write_config(first.description.config).json());
  EXPECT_TRUE(at::equal(logits_of(*first.model), logits_of(*second.model)));
}

TEST_P(RoundTrip, ShardsAndSixteenBitsAreReadAndWritten) {
  const Checkpoint made = all().at(GetParam());
  const auto tensors = drawn(made.shapes, at::kBFloat16);
  Import first = import_of(write("a", made.config, tensors));
  ASSERT_NE(first.model, nullptr);
  EXPECT_EQ(first.stored, "bfloat16");
  for (const ParameterPtr& parameter : first.model->parameters().list()) EXPECT_EQ(parameter->value.scalar_type(), at::kFloat);
  const ExportOptions options{.dtype = at::kBFloat16, .shard_bytes = 1000, .source = first.description.json};
  const auto family = export_folder(folder_ / "b", first.description.config, *first.model, registry(), options);
  ASSERT_TRUE(family.ok()) << family.status();
  EXPECT_FALSE(fs::exists(folder_ / "b/model.safetensors"));
  EXPECT_TRUE(fs::exists(folder_ / "b/model.safetensors.index.json"));
  expect_same(read_weights(folder_ / "b")->tensors, tensors);
  Import second = import_of(folder_ / "b");
  ASSERT_NE(second.model, nullptr);
  EXPECT_TRUE(at::equal(logits_of(*first.model), logits_of(*second.model)));
}

TEST_P(RoundTrip, OneErrorListsWhatDoesNotFit) {
  const Checkpoint made = all().at(GetParam());
  auto tensors = drawn(made.shapes);
  const std::string missing = tensors.begin()->first, misshapen = std::next(tensors.begin())->first,
                    integral = std::next(tensors.begin(), 2)->first;
  tensors.erase(missing);
  tensors[misshapen] = at::ones({3, 3});
  tensors[integral] = tensors[integral].to(at::kLong);
  tensors["of.something.else"] = at::ones({1});
  const auto imported = import_folder(write("a", made.config, tensors), registry(), at::kFloat);
  EXPECT_EQ(imported.status().code(), absl::StatusCode::kDataLoss);
  const std::string message(imported.status().message());
  EXPECT_THAT(message, HasSubstr("a/model.safetensors does not fit the model; missing: " + missing));
  EXPECT_THAT(message, HasSubstr(misshapen + " [3, 3] for ["));
  EXPECT_THAT(message, HasSubstr(integral + " of type Long"));
  EXPECT_THAT(message, HasSubstr("; not in the model: "));
  EXPECT_THAT(message, HasSubstr("of.something.else"));
}

INSTANTIATE_TEST_SUITE_P(HuggingFace, RoundTrip, testing::ValuesIn([] {
                           std::vector<std::string> names;
                           for (const auto& [name, made] : all()) names.push_back(name);
                           return names;
                         }()),
                         [](const auto& info) { return info.param; });

class HuggingFaceFolder : public FolderTest {};

TEST_F(HuggingFaceFolder, GPT2WithoutPrefixAndWithMasks) {
  const Checkpoint made = gpt2();
  const auto tensors = drawn(made.shapes);
  std::map<std::string, Tensor> bare;
  for (const auto& [name, tensor] : tensors) bare[name.substr(std::string("transformer.").size())] = tensor;
  bare["h.0.attn.bias"] = at::ones({1, 1, 16, 16});
  bare["h.1.attn.masked_bias"] = at::ones({});
  Import plain = import_of(write("plain", made.config, tensors)), published = import_of(write("bare", made.config, bare));
  EXPECT_TRUE(at::equal(logits_of(*plain.model), logits_of(*published.model)));
}

TEST_F(HuggingFaceFolder, ConvolutionalProjectionsAreTransposed) {
  const Checkpoint made = gpt2();
  const auto tensors = drawn(made.shapes);
  const Import imported = import_of(write("a", made.config, tensors));
  const Tensor ours = imported.model->parameters().find("blocks.2.mixer.qkv.weight")->value;
  EXPECT_TRUE(at::equal(ours, tensors.at("transformer.h.1.attn.c_attn.weight").t()));
}

TEST_F(HuggingFaceFolder, QueriesKeysAndValuesFollowEachOther) {
  const Checkpoint made = llama();
  const auto tensors = drawn(made.shapes);
  const Import imported = import_of(write("a", made.config, tensors));
  const Tensor ours = imported.model->parameters().find("blocks.0.mixer.qkv.weight")->value;
  EXPECT_TRUE(at::equal(ours.narrow(0, 0, 24), tensors.at("model.layers.0.self_attn.q_proj.weight")));
  EXPECT_TRUE(at::equal(ours.narrow(0, 24, 8), tensors.at("model.layers.0.self_attn.k_proj.weight")));
  EXPECT_TRUE(at::equal(ours.narrow(0, 32, 8), tensors.at("model.layers.0.self_attn.v_proj.weight")));
}

TEST_F(HuggingFaceFolder, ATiedHeadMayBeThereTwiceButNotDiffer) {
  const Checkpoint made = mamba();
  auto tensors = drawn(made.shapes);
  tensors["lm_head.weight"] = tensors.at("backbone.embeddings.weight").clone();
  EXPECT_TRUE(import_folder(write("same", made.config, tensors), registry(), at::kFloat).ok());
  tensors["lm_head.weight"] = tensors.at("lm_head.weight").add(1.0);
  const auto other = import_folder(write("other", made.config, tensors), registry(), at::kFloat);
  EXPECT_THAT(std::string(other.status().message()), HasSubstr("not in the model: lm_head.weight"));
}

TEST_F(HuggingFaceFolder, AnIndexIsHeldToItsFiles) {
  const fs::path folder = write("a", mistral().config, drawn(mistral().shapes));
  fs::rename(folder / "model.safetensors", folder / "part.safetensors");
  Json map = Json::object();
  for (const auto& [name, shape] : mistral().shapes) map[name] = "part.safetensors";
  const auto message_with = [&](const Json& weight_map) {
    EXPECT_TRUE(write_file(folder / "model.safetensors.index.json", Json{{"weight_map", weight_map}}.dump()).ok());
    return std::string(import_folder(folder, registry(), at::kFloat).status().message());
  };
  EXPECT_EQ(message_with(map), "");
  Json more = map;
  more["x"] = "part.safetensors";
  more.erase("lm_head.weight");
  const std::string message = message_with(more);
  EXPECT_THAT(message, HasSubstr("missing: x in part.safetensors"));
  EXPECT_THAT(message, HasSubstr("not in the model: lm_head.weight in part.safetensors"));
  more = map;
  more["x"] = "../../part.safetensors";
  EXPECT_THAT(message_with(more), HasSubstr("must name files beside it, not \"../../part.safetensors\""));
  more["x"] = "absent.safetensors";
  EXPECT_THAT(message_with(more), HasSubstr("absent.safetensors"));
}

TEST_F(HuggingFaceFolder, SaysWhatIsNotThere) {
  const fs::path folder = write("a", gpt2().config, {});
  fs::remove(folder / "model.safetensors");
  EXPECT_THAT(std::string(import_folder(folder, registry(), at::kFloat).status().message()),
              HasSubstr("holds neither model.safetensors nor model.safetensors.index.json"));
  ASSERT_TRUE(write_file(folder / "pytorch_model.bin", "pickle").ok());
  EXPECT_THAT(std::string(import_folder(folder, registry(), at::kFloat).status().message()), HasSubstr("a pickle"));
}

TEST_F(HuggingFaceFolder, ExportOverAModelIsRefused) {
  Import imported = import_of(write("a", gpt2().config, drawn(gpt2().shapes)));
  const auto again = export_folder(folder_ / "a", imported.description.config, *imported.model, registry(), {});
  EXPECT_EQ(again.status().code(), absl::StatusCode::kAlreadyExists);
}

}  // namespace
}  // namespace round_trip_test
}  // namespace hippodrome::huggingface

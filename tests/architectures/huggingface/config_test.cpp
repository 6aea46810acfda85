#include <gmock/gmock.h>

#include <cmath>

#include "architectures/huggingface/checkpoint.h"
#include "core/io/toml.h"
#include "tests/architectures/huggingface/fixtures.h"

namespace hippodrome::huggingface {
namespace config_test {
namespace {

using huggingface_fixtures::registry;
using testing::HasSubstr;

ModelConfig config_of(const std::string& json) {
  const auto description = describe(json, "config.json");
  EXPECT_TRUE(description.ok()) << description.status();
  return description.ok() ? description->config : ModelConfig();
}

std::string error_of(const std::string& json) { return std::string(describe(json, "m/config.json").status().message()); }

std::string block_of(const std::string& json, const std::string& block, const std::string& key) {
  const ModelConfig config = config_of(json);
  const ConfigValue* table = config.blocks.find(block);
  const ConfigValue* value = table ? table->find(key) : nullptr;
  return value ? value->json() : "absent";
}

TEST(HuggingFaceConfig, BothDialectsOfRotaryPositionsAreTheSame) {
  const std::string v4 = R"({"model_type": "llama", "rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
      "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}, "torch_dtype": "bfloat16"})";
  const std::string v5 = R"({"model_type": "llama", "rope_parameters": {"rope_theta": 500000.0, "rope_type": "llama3", "factor": 8.0,
      "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}, "dtype": "bfloat16"})";
  EXPECT_EQ(write_config(config_of(v4)).json(), write_config(config_of(v5)).json());
  EXPECT_EQ(block_of(v4, "attention", "rope_base"), "5e+05");
  EXPECT_EQ(block_of(v4, "attention", "rope_scaling"), "\"llama3\"");
  EXPECT_EQ(block_of(v4, "attention", "rope_original_length"), "8192");
  const std::string older = R"({"model_type": "llama", "rope_scaling": {"type": "linear", "factor": 2}})";
  EXPECT_EQ(block_of(older, "attention", "rope_scaling"), "\"linear\"");
  EXPECT_EQ(block_of(older, "attention", "rope_base"), "10000.0");
  EXPECT_EQ(block_of(R"({"model_type": "llama", "rope_scaling": null})", "attention", "rope_scaling"), "absent");
}

TEST(HuggingFaceConfig, HeadsAndTheirSizesMayBeMissing) {
  const std::string bare = R"({"model_type": "llama", "hidden_size": 24, "num_attention_heads": 3})";
  EXPECT_EQ(block_of(bare, "attention", "kv_heads"), "3");
  EXPECT_EQ(block_of(bare, "attention", "head_size"), "8");
  const std::string null = R"({"model_type": "llama", "hidden_size": 24, "num_attention_heads": 3, "head_dim": null,
                              "num_key_value_heads": null})";
  EXPECT_EQ(write_config(config_of(null)).json(), write_config(config_of(bare)).json());
  EXPECT_EQ(block_of(R"({"model_type": "llama", "head_dim": 5})", "attention", "head_size"), "5");
}

TEST(HuggingFaceConfig, AWindowIsNoneWhereItIsNull) {
  EXPECT_EQ(block_of(R"({"model_type": "mistral", "sliding_window": 7})", "attention", "window"), "7");
  EXPECT_EQ(block_of(R"({"model_type": "mistral", "sliding_window": null})", "attention", "window"), "absent");
  EXPECT_EQ(block_of(R"({"model_type": "mistral"})", "attention", "window"), "4096") << "the class's default";
  EXPECT_EQ(block_of(R"({"model_type": "mistral", "sliding_window": 7, "use_sliding_window": false})", "attention", "window"),
            "absent");
  EXPECT_EQ(block_of(R"({"model_type": "mixtral"})", "attention", "window"), "absent");
}

TEST(HuggingFaceConfig, HeadsAreTiedByFamilyWhereNothingIsSaid) {
  for (const char* family : {"gpt2", "mamba"}) EXPECT_TRUE(config_of(R"({"model_type": ")" + std::string(family) + "\"}").tied);
  for (const char* family : {"llama", "mistral", "mixtral", "mamba2", "rwkv", "jamba"}) {
    EXPECT_FALSE(config_of(R"({"model_type": ")" + std::string(family) + "\"}").tied) << family;
  }
}

TEST(HuggingFaceConfig, MambaTrustsItsInnerWidthOverExpand) {
  EXPECT_EQ(block_of(R"({"model_type": "mamba", "hidden_size": 32, "intermediate_size": 32, "expand": 2})", "mamba", "expand"), "1.0");
  EXPECT_EQ(block_of(R"({"model_type": "mamba", "hidden_size": 32, "expand": 2})", "mamba", "expand"), "2.0");
  EXPECT_EQ(block_of(R"({"model_type": "mamba", "time_step_rank": "auto"})", "mamba", "dt_rank"), "48");
}

TEST(HuggingFaceConfig, RwkvsLastNormHasItsOwnEpsilon) {
  const ModelConfig config = config_of(R"({"model_type": "rwkv", "layer_norm_epsilon": 0.001})");
  EXPECT_EQ(config.block.norm_epsilon, 1e-3);
  EXPECT_EQ(config.final_norm_epsilon, 1e-5);
  EXPECT_TRUE(config.embedding_norm);
}

TEST(HuggingFaceConfig, InfinityIsReadInBothDialects) {
  const std::string head = R"({"model_type": "mamba2", "note": "Infinity, \" NaN", "time_step_limit": )";
  for (const char* infinity : {"Infinity", R"({"__float__": "Infinity"})"}) {
    const std::string json = head + "[0.0, " + infinity + "]}";
    EXPECT_EQ(block_of(json, "mamba2", "dt_limit_high"), "absent") << "no limit";
    EXPECT_EQ(block_of(head + "[0.5, " + infinity + "]}", "mamba2", "dt_limit_low"), "0.5");
  }
  EXPECT_EQ(block_of(head + "[0.0, 2]}", "mamba2", "dt_limit_high"), "2.0");
  EXPECT_THAT(error_of(head + "[0.0, -Infinity]}"), HasSubstr("\"time_step_limit\" must be a list of two numbers"));
  EXPECT_EQ((*parse_json(head + "[-Infinity, NaN]}", "c"))["note"], "Infinity, \" NaN") << "strings are left alone";
}

TEST(HuggingFaceConfig, JambaLaysOutItsLayersByPeriodsAndOffsets) {
  const ModelConfig plain = config_of(R"({"model_type": "jamba"})");
  EXPECT_EQ(plain.repeats, 4);
  EXPECT_EQ(plain.pattern.size(), 16u);
  EXPECT_EQ(plain.pattern[8], "attention");
  const ModelConfig odd = config_of(R"({"model_type": "jamba", "num_hidden_layers": 5, "attn_layer_period": 3,
      "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 0})");
  EXPECT_EQ(odd.repeats, 1);
  EXPECT_THAT(odd.pattern, testing::ElementsAre("mamba", "moe", "attention", "mlp", "mamba", "moe", "mamba", "mlp", "attention", "moe"));
  const ModelConfig dense = config_of(R"({"model_type": "jamba", "num_hidden_layers": 4, "num_experts": 1, "attn_layer_period": 2,
      "attn_layer_offset": 1})");
  EXPECT_THAT(dense.pattern, testing::ElementsAre("mamba", "mlp", "attention", "mlp"));
  EXPECT_EQ(dense.blocks.find("moe"), nullptr) << "a table that no block uses is an error";
}

TEST(HuggingFaceConfig, ErrorsNameTheFileAndTheKey) {
  const std::string file = "m/config.json: ";
  EXPECT_EQ(error_of("[]"), file + "this is not a JSON object");
  EXPECT_EQ(error_of("{} x"), file + "this is not a JSON object");
  EXPECT_THAT(error_of("{}"), HasSubstr(file + "\"model_type\" is missing; it must be one of gpt2, llama"));
  EXPECT_THAT(error_of(R"({"model_type": "bert"})"), HasSubstr(file + "\"model_type\" is \"bert\", and models of that family"));
  EXPECT_THAT(error_of(R"({"model_type": "llama", "hidden_act": "relu"})"),
              HasSubstr(file + "\"hidden_act\" at the top level must be one of \"silu\", \"swish\", not the string \"relu\""));
  EXPECT_THAT(error_of(R"({"model_type": "llama", "rope_scaling": {"rope_type": "yarn", "factor": 4.0}})"),
              HasSubstr(file + "\"rope_type\" in [rope_scaling] must be one of \"default\", \"linear\", \"llama3\""));
  EXPECT_THAT(error_of(R"({"model_type": "llama", "rope_parameters": {"rope_type": "llama3", "factor": 4.0}})"),
              HasSubstr(file + "\"low_freq_factor\" is missing in [rope_parameters]"));
  EXPECT_THAT(error_of(R"({"model_type": "llama", "partial_rotary_factor": 0.5})"), HasSubstr(file + "\"partial_rotary_factor\""));
  EXPECT_THAT(error_of(R"({"model_type": "llama", "hidden_size": -4})"), HasSubstr(file + "\"hidden_size\" at the top level must be"));
  EXPECT_THAT(error_of(R"({"model_type": "llama", "hidden_size": "wide"})"), HasSubstr("must be an integer"));
  EXPECT_THAT(error_of(R"({"model_type": "llama", "hidden_size": 10, "num_attention_heads": 4})"), HasSubstr("\"num_attention_heads\" = 4"));
  EXPECT_THAT(error_of(R"({"model_type": "llama", "quantization_config": {"bits": 4}})"), HasSubstr(file + "\"quantization_config\""));
  EXPECT_THAT(error_of(R"({"model_type": "gpt2", "activation_function": "tanh"})"), HasSubstr(file + "\"activation_function\""));
  EXPECT_THAT(error_of(R"({"model_type": "gpt2", "scale_attn_weights": false})"), HasSubstr(file + "\"scale_attn_weights\""));
  EXPECT_THAT(error_of(R"({"model_type": "gpt2", "n_embd": 10, "n_head": 4})"), HasSubstr(file + "\"n_embd\" = 10"));
  EXPECT_THAT(error_of(R"({"model_type": "rwkv", "hidden_size": 8, "attention_hidden_size": 16})"),
              HasSubstr(file + "\"attention_hidden_size\" = 16"));
  EXPECT_THAT(error_of(R"({"model_type": "mamba2", "num_heads": 3})"), HasSubstr(file + "\"num_heads\" times \"head_dim\""));
}

// What a layer refuses is told of the same file.
TEST(HuggingFaceConfig, LayersNameTheFileToo) {
  const auto description = describe(R"({"model_type": "llama", "hidden_size": 12, "num_attention_heads": 4, "num_key_value_heads": 3})",
                                    "m/config.json");
  ASSERT_TRUE(description.ok()) << description.status();
  EXPECT_THAT(std::string(make_model(*description, registry()).status().message()), HasSubstr("m/config.json: "));
}

// Models of our own that a family computes, and those that none does.
std::string exported(const std::string& toml, const std::filesystem::path& folder) {
  const auto config = read_config<ModelConfig>(*parse_toml(toml, "model.toml"), "models.m");
  EXPECT_TRUE(config.ok()) << config.status();
  auto model = LanguageModel::make(*config, 13, "models.m", registry());
  EXPECT_TRUE(model.ok()) << model.status();
  (*model)->parameters().materialise(1, at::kFloat);
  const auto family = export_folder(folder, *config, **model, registry(), {});
  return family.ok() ? (*family)->name : std::string(family.status().message());
}

class HuggingFaceExport : public huggingface_fixtures::FolderTest {};

TEST_F(HuggingFaceExport, FindsTheFamilyOfAModel) {
  const std::string attention = "norm = \"rms_norm\"\nwidth = 16\npattern = [\"attention\", \"mlp\"]\n";
  EXPECT_EQ(exported(attention + "[blocks.mlp]\nactivation = \"swiglu\"\nbias = false\n", folder_ / "a"), "llama");
  EXPECT_EQ(exported("width = 16\npattern = [\"attention\", \"mlp\"]\npositions = \"learned\"\n[blocks.attention]\npositions = \"none\"\n"
                     "qkv_bias = true\noutput_bias = true\n[blocks.mlp]\nactivation = \"relu\"\n", folder_ / "b"), "gpt2");
  EXPECT_EQ(exported("norm = \"rms_norm\"\nwidth = 16\npattern = [\"mamba\"]\n", folder_ / "c"), "mamba");
  EXPECT_EQ(exported("width = 16\nembedding_norm = true\ntied = false\npattern = [\"rwkv_time_mix\", \"rwkv_channel_mix\"]\n", folder_ / "d"), "rwkv");
}

TEST_F(HuggingFaceExport, SaysWhyAModelHasNoFamily) {
  EXPECT_THAT(exported("width = 16\npattern = [\"lstm\"]\n", folder_ / "a"), HasSubstr("no family of Hugging Face's computes the layers lstm"));
  const std::string llama = "norm = \"rms_norm\"\nwidth = 16\npattern = [\"attention\", \"mlp\"]\n[blocks.mlp]\nactivation = \"swiglu\"\nbias = false\n";
  EXPECT_THAT(exported(llama + "[blocks.attention]\nrope_layout = \"interleaved\"\n", folder_ / "a"),
              HasSubstr("blocks.0: rope_layout is \"interleaved\", not \"half\""));
  EXPECT_THAT(exported(llama + "residual = false\n", folder_ / "a"), HasSubstr("blocks.1: residual is false, not true"));
  EXPECT_THAT(exported("norm = \"layer_norm\"\nwidth = 16\npattern = [\"mamba\"]\n", folder_ / "a"),
              HasSubstr("norm is \"layer_norm\", not \"rms_norm\""));
  EXPECT_THAT(exported("embedding_scale = 2.0\n" + llama, folder_ / "a"), HasSubstr("embedding_scale is 2.0, not 1.0"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "a")) << "nothing is written then";
}

}  // namespace
}  // namespace config_test
}  // namespace hippodrome::huggingface

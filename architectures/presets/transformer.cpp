#include <cstdint>
#include <string>

#include "architectures/presets/presets.h"

namespace hippodrome {
namespace transformer_presets {
namespace {

std::string text(int64_t value) { return std::to_string(value); }

// A Transformer as GPT-2 (Radford et al. 2019): LayerNorm before each layer, learned positions, tanh GELU, biases, tied head.
std::string gpt2(int64_t layers, int64_t width, int64_t heads, int64_t positions, int64_t vocabulary) {
  return "pattern = [\"attention\", \"mlp\"]\nrepeats = " + text(layers) + "\nwidth = " + text(width) +
         "\nvocabulary = " + text(vocabulary) + "\nmax_positions = " + text(positions) + R"(
norm = "layer_norm"
positions = "learned"
tied = true
[blocks.attention]
heads = )" + text(heads) +
         R"(
positions = "none"
qkv_bias = true
output_bias = true
init = "gpt2"
[blocks.mlp]
activation = "gelu_tanh"
init = "gpt2"
)";
}

// The shape of a model as Llama (Touvron et al. 2023): RMSNorm, rotary positions, SwiGLU, no biases.
struct Llama {
  int64_t layers, width, heads, kv_heads, hidden, vocabulary;
  std::string rope_base;
  bool tied = false;
  std::string attention = {};  // further keys of [blocks.attention]
};

std::string llama(const Llama& shape) {
  return "pattern = [\"attention\", \"mlp\"]\nrepeats = " + text(shape.layers) + "\nwidth = " + text(shape.width) +
         "\nvocabulary = " + text(shape.vocabulary) + "\ntied = " + (shape.tied ? "true" : "false") + R"(
norm = "rms_norm"
[blocks.attention]
heads = )" + text(shape.heads) +
         "\nkv_heads = " + text(shape.kv_heads) + "\nrope_base = " + shape.rope_base + "\ninit = \"gpt2\"\n" +
         shape.attention + R"(
[blocks.mlp]
activation = "swiglu"
bias = false
init = "gpt2"
hidden = )" + text(shape.hidden) +
         "\n";
}

// Llama 3.1's change of the frequencies, from contexts of 8,192 to 131,072 tokens; 3.2 1B's factor is 32.
std::string llama3_scaling(int64_t factor) {
  return "rope_scaling = \"llama3\"\nrope_original_length = 8192\nrope_factor = " + text(factor) + ".0\n";
}

}  // namespace
}  // namespace transformer_presets

void register_transformer_presets(Registry& registry) {
  using transformer_presets::gpt2;
  using transformer_presets::llama;
  using transformer_presets::llama3_scaling;
  const auto add = [&registry](std::string name, std::string doc, std::string toml) {
    registry.add(PresetEntry{std::move(name), std::move(doc), std::move(toml)});
  };
  add("transformer", "Transformer as Llama: RMSNorm, rotary positions, SwiGLU, no biases", R"(
pattern = ["attention", "mlp"]
repeats = 2
width = 128
norm = "rms_norm"
tied = true
[blocks.attention]
heads = 4
init = "gpt2"
[blocks.mlp]
activation = "swiglu"
bias = false
init = "gpt2"
)");
  add("gpt2-tiny", "Transformer as GPT-2, racing size: LayerNorm, learned positions, tanh GELU, biases",
      gpt2(2, 128, 4, 2048, 0));
  add("llama-tiny", "Transformer as Llama 3, racing size: grouped keys and values, head untied",
      llama({2, 128, 4, 2, 384, 0, "5e5"}));
  add("mistral-tiny", "Transformer as Mistral, racing size: grouped keys and values, a sliding window of 64 tokens",
      llama({2, 128, 4, 2, 384, 0, "1e4", false, "window = 64\n"}));

  constexpr int64_t kGpt2 = 50257, kLlama2 = 32000, kLlama3 = 128256;
  add("gpt2", "GPT-2, 124 M parameters", gpt2(12, 768, 12, 1024, kGpt2));
  add("gpt2-medium", "GPT-2, 355 M parameters", gpt2(24, 1024, 16, 1024, kGpt2));
  add("gpt2-large", "GPT-2, 774 M parameters", gpt2(36, 1280, 20, 1024, kGpt2));
  add("gpt2-xl", "GPT-2, 1.56 G parameters", gpt2(48, 1600, 25, 1024, kGpt2));
  add("llama-2-7b", "Llama 2 7B", llama({32, 4096, 32, 32, 11008, kLlama2, "1e4"}));
  add("llama-2-13b", "Llama 2 13B", llama({40, 5120, 40, 40, 13824, kLlama2, "1e4"}));
  // Some printed tables give a hidden width of 22,016, which is LLaMA-1 65B's.
  add("llama-2-70b", "Llama 2 70B", llama({80, 8192, 64, 8, 28672, kLlama2, "1e4"}));
  add("llama-3-8b", "Llama 3 8B", llama({32, 4096, 32, 8, 14336, kLlama3, "5e5"}));
  add("llama-3-70b", "Llama 3 70B", llama({80, 8192, 64, 8, 28672, kLlama3, "5e5"}));
  add("llama-3.1-8b", "Llama 3.1 8B", llama({32, 4096, 32, 8, 14336, kLlama3, "5e5", false, llama3_scaling(8)}));
  add("llama-3.1-70b", "Llama 3.1 70B", llama({80, 8192, 64, 8, 28672, kLlama3, "5e5", false, llama3_scaling(8)}));
  add("llama-3.1-405b", "Llama 3.1 405B",
      llama({126, 16384, 128, 8, 53248, kLlama3, "5e5", false, llama3_scaling(8)}));
  add("llama-3.1-405b-first-upload", "Llama 3.1 405B as first published, with 16 key-value heads",
      llama({126, 16384, 128, 16, 53248, kLlama3, "5e5", false, llama3_scaling(8)}));
  add("llama-3.2-1b", "Llama 3.2 1B, head tied", llama({16, 2048, 32, 8, 8192, kLlama3, "5e5", true, llama3_scaling(32)}));
  // Published sizes of its cache leave the window out.
  add("mistral-7b", "Mistral 7B (the first): a sliding window of 4,096 tokens",
      llama({32, 4096, 32, 8, 14336, kLlama2, "1e4", false, "window = 4096\n"}));
}

}  // namespace hippodrome

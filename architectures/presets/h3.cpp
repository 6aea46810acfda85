#include <algorithm>
#include <string>
#include <vector>

#include "architectures/presets/presets.h"

namespace hippodrome {
namespace h3_presets_detail {
namespace {

struct Size {
  const char* name;
  int64_t layers, width, heads;
  std::vector<int64_t> attention;  // layers, counted from 0, whose mixer is attention
};

// A GPT-2 block whose mixer is H3, or attention at the named layers; no position embedding anywhere. 50,257 tokens
// padded to a multiple of 8.
std::string published(const Size& size) {
  std::string pattern;
  for (int64_t layer = 0; layer < size.layers; ++layer) {
    const bool attends = std::find(size.attention.begin(), size.attention.end(), layer) != size.attention.end();
    pattern += std::string(layer > 0 ? ", " : "") + (attends ? "\"attention\"" : "\"h3\"") + ", \"mlp\"";
  }
  return "pattern = [" + pattern + "]\nrepeats = 1\nwidth = " + std::to_string(size.width) + R"(
vocabulary = 50264
norm = "layer_norm"
tied = true
[blocks.h3]
init = "gpt2"
[blocks.attention]
heads = )" +
         std::to_string(size.heads) + R"(
positions = "none"
qkv_bias = true
output_bias = true
init = "gpt2"
[blocks.mlp]
activation = "gelu_tanh"
init = "gpt2"
)";
}

}  // namespace
}  // namespace h3_presets_detail

void register_h3_presets(Registry& registry) {
  registry.add(PresetEntry{"h3", "H3 with an MLP after each mixer, no attention", R"(
pattern = ["h3", "mlp"]
repeats = 2
width = 128
norm = "layer_norm"
tied = true
[blocks.h3]
init = "gpt2"
[blocks.mlp]
activation = "gelu_tanh"
init = "gpt2"
)"});

  // Attention where the released checkpoints have it. Of 2.7B two were released: this one, and one with attention at
  // layers 10 and 21 that rotates half of each head.
  for (const h3_presets_detail::Size& size : {h3_presets_detail::Size{"h3-125m", 12, 768, 12, {6}},
                                              {"h3-355m", 24, 1024, 16, {8, 16}},
                                              {"h3-1.3b", 24, 2048, 16, {8, 16}},
                                              {"h3-2.7b", 32, 2560, 20, {8, 16, 24}}}) {
    const std::string name = size.name;
    registry.add(PresetEntry{name, "H3 " + name.substr(3) + ", hybrid with attention as released (Dao, Fu et al. 2022)",
                             h3_presets_detail::published(size)});
  }
}

}  // namespace hippodrome

#include <string>

#include "architectures/presets/presets.h"

namespace hippodrome {
namespace rwkv_presets {
namespace {

// All sizes differ in width and depth alone.
std::string rwkv4(int64_t repeats, int64_t width, int64_t vocabulary) {
  return (vocabulary > 0 ? "vocabulary = " + std::to_string(vocabulary) + "\n" : "") + R"(
pattern = ["rwkv_time_mix", "rwkv_channel_mix"]
repeats = )" + std::to_string(repeats) + R"(
width = )" + std::to_string(width) + R"(
norm = "layer_norm"
embedding_norm = true
embedding_init = "uniform"
tied = false
head_init = "orthogonal"
)";
}

// The sizes of "RWKV: Reinventing RNNs for the Transformer Era" (arXiv 2305.13048), table 2, on GPT-NeoX's tokens.
struct Size {
  const char* name;
  int64_t repeats, width;
};
constexpr Size kPublished[] = {{"169m", 12, 768},  {"430m", 24, 1024}, {"1.5b", 24, 2048},
                               {"3b", 32, 2560},   {"7b", 32, 4096},   {"14b", 40, 5120}};
constexpr int64_t kVocabulary = 50277;

}  // namespace
}  // namespace rwkv_presets

void register_rwkv_presets(Registry& registry) {
  using namespace rwkv_presets;
  registry.add(PresetEntry{"rwkv", "RWKV-4: time mixing and channel mixing, its small embedding and orthogonal head",
                           rwkv4(2, 128, 0)});
  for (const Size& size : kPublished) {
    registry.add(PresetEntry{"rwkv-4-" + std::string(size.name), "RWKV-4 as published: " + std::to_string(size.repeats) +
                                                                    " blocks of width " + std::to_string(size.width),
                             rwkv4(size.repeats, size.width, kVocabulary)});
  }
}

}  // namespace hippodrome

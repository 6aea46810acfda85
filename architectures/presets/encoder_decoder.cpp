#include "architectures/presets/presets.h"

namespace hippodrome {
namespace {

// Vaswani et al. 2017, table 3, post-norm, one table for source, target and head, of the paper's 37,000 byte pairs.
// What is left to say: width, √width, hidden width, heads, dropout.
std::string vaswani(const std::string& width, const std::string& root, const std::string& hidden,
                    const std::string& heads, const std::string& repeats, const std::string& further) {
  const std::string blocks = R"(
[encoder.blocks.attention]
positions = "none"
causal = false
heads = )" + heads + R"(

[encoder.blocks.mlp]
activation = "relu"
hidden = )" + hidden + R"(

[blocks.attention]
positions = "none"
heads = )" + heads + R"(

[blocks.cross_attention]
heads = )" + heads + R"(

[blocks.mlp]
activation = "relu"
hidden = )" + hidden + "\n";
  return R"(
pattern = ["attention", "cross_attention", "mlp"]
norm = "layer_norm"
norm_position = "post"
final_norm = false
positions = "sinusoidal"
tied = true
repeats = )" +
         repeats + "\nwidth = " + width + "\nembedding_scale = " + root + "\n" + further + R"(
[encoder]
pattern = ["attention", "mlp"]
shared_embedding = true
repeats = )" +
         repeats + "\n" + blocks;
}

// What the recurrent models have in common: neither norms nor residual connections around their blocks, and a head of
// its own.
std::string recurrent(const std::string& model) {
  return R"(
norm_position = "none"
residual = false
final_norm = false
tied = false
)" + model;
}

const std::string kUnitEmbedding = R"(
init_deviation = 1.0
head_init = "default"
)";

// GNMT's encoder (Wu et al. 2016, figure 1): LSTM layers of which the bottom one reads both ways and those from the
// third on are residual. `further` is said of every layer.
std::string gnmt_encoder(int layers, const std::string& further) {
  std::string pattern, blocks;
  for (int layer = 1; layer <= layers; ++layer) {
    const std::string name = "layer" + std::to_string(layer);
    pattern += (layer > 1 ? ", \"" : "\"") + name + "\"";
    blocks += "\n[encoder.blocks." + name + "]\nlayer = \"lstm\"\n" + further;
    if (layer == 1) blocks += "direction = \"both\"\n";
    if (layer >= 3) blocks += "residual = true\n";
  }
  return "\n[encoder]\nrepeats = 1\npattern = [" + pattern + "]\n" + blocks;
}

}  // namespace

void register_encoder_decoder_presets(Registry& registry) {
  registry.add(PresetEntry{"seq2seq-sutskever",
                           "LSTM encoder-decoder, source reversed, 384,000,000 parameters (Sutskever et al. 2014)",
                           recurrent(R"(
pattern = ["lstm"]
repeats = 4
width = 1000
vocabulary = 80000
embedding_init = "uniform"
head_init = "uniform"
init_range = 0.08
handover = true

[blocks.lstm]
bias = false
init_range = 0.08

[encoder]
pattern = ["lstm"]
repeats = 4
vocabulary = 160000
reverse = true

[encoder.blocks.lstm]
bias = false
init_range = 0.08
)")});

  registry.add(PresetEntry{"rnnencdec", "GRU encoder-decoder, the encoder's last state as context (Cho et al. 2014)",
                           recurrent(R"(
pattern = ["attentive_gru"]
repeats = 1
width = 620
vocabulary = 30000
init_deviation = 0.01

[blocks.attentive_gru]
context = "last"
start = "last"
hidden = 1000
output_width = 500
init = "bahdanau"

[encoder]
pattern = ["gru"]
repeats = 1

[encoder.blocks.gru]
output_width = 1000
reset = "before"
bias = false
init = "bahdanau"
)")});

  registry.add(PresetEntry{
      "rnnsearch", "bidirectional GRU encoder, attending GRU decoder, maxout (Bahdanau et al. 2015)", recurrent(R"(
pattern = ["attentive_gru"]
repeats = 1
width = 620
vocabulary = 30000
init_deviation = 0.01

[blocks.attentive_gru]
hidden = 1000
output_width = 500
init = "bahdanau"

[encoder]
pattern = ["gru"]
repeats = 1

[encoder.blocks.gru]
direction = "both"
output_width = 2000
reset = "before"
bias = false
init = "bahdanau"
)")});

  registry.add(PresetEntry{
      "gnmt", "8 + 8 residual LSTM layers, additive attention from the bottom decoder layer (Wu et al. 2016)",
      recurrent(R"(
pattern = ["gnmt_decoder"]
repeats = 1
width = 1024
vocabulary = 32000
embedding_init = "uniform"
head_init = "uniform"
init_range = 0.04

[blocks.gnmt_decoder]
layers = 8
init_range = 0.04

)" + gnmt_encoder(8, "init_range = 0.04\n"))});

  registry.add(
      PresetEntry{"vaswani-base", "the first Transformer, encoder-decoder, base (Vaswani et al. 2017)",
                  vaswani("512", "22.627416997969522", "2048", "8", "6", "vocabulary = 37000\ndropout = 0.1\n")});
  registry.add(PresetEntry{"vaswani-big", "the first Transformer, encoder-decoder, big (Vaswani et al. 2017)",
                           vaswani("1024", "32.0", "4096", "16", "6", "vocabulary = 37000\ndropout = 0.3\n")});

  // For races: the same models small, with initial values of their layers' own. The recurrent ones have no norm behind
  // the embedding, so it starts at unit size: from N(0, 0.02²) two LSTM layers take thousands of steps to tell symbols
  // apart.
  registry.add(PresetEntry{"sutskever-tiny", "LSTM encoder-decoder, states handed over, source reversed",
                           recurrent(kUnitEmbedding + R"(
pattern = ["lstm"]
repeats = 2
width = 112
handover = true

[encoder]
pattern = ["lstm"]
repeats = 2
reverse = true
)")});

  registry.add(
      PresetEntry{"rnnencdec-tiny", "GRU encoder-decoder through a vector of fixed size", recurrent(kUnitEmbedding + R"(
pattern = ["attentive_gru"]
repeats = 1
width = 128

[blocks.attentive_gru]
context = "last"
start = "last"

[encoder]
pattern = ["gru"]
repeats = 1

[encoder.blocks.gru]
reset = "before"
)")});

  registry.add(
      PresetEntry{"rnnsearch-tiny", "bidirectional GRU encoder, attending GRU decoder", recurrent(kUnitEmbedding + R"(
pattern = ["attentive_gru"]
repeats = 1
width = 112

[encoder]
pattern = ["gru"]
repeats = 1

[encoder.blocks.gru]
direction = "both"
reset = "before"
)")});

  registry.add(PresetEntry{"gnmt-tiny", "3 + 2 LSTM layers, additive attention from the bottom decoder layer",
                           recurrent(kUnitEmbedding + R"(
pattern = ["gnmt_decoder"]
repeats = 1
width = 80

)" + gnmt_encoder(3, ""))});

  registry.add(PresetEntry{"vaswani-tiny", "Transformer encoder-decoder, pre-norm", R"(
pattern = ["attention", "cross_attention", "mlp"]
repeats = 2
width = 80
norm = "layer_norm"
positions = "none"
tied = false

[blocks.mlp]
activation = "relu"

[encoder]
pattern = ["attention", "mlp"]
repeats = 2
final_norm = true

[encoder.blocks.attention]
causal = false

[encoder.blocks.mlp]
activation = "relu"
)"});
}

}  // namespace hippodrome

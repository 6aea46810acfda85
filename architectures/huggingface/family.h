#pragma once

#include <map>
#include <string>
#include <vector>

#include "architectures/huggingface/keys.h"
#include "core/model/language_model.h"

// The families of models that exist elsewhere, as data: how config.json becomes a ModelConfig and back, and where each
// of our parameters lies in files. Names and layouts: README.md.
namespace hippodrome::huggingface {

// How one parameter lies in files: as one tensor, or as several that hold its rows one after another.
struct TensorRule {
  enum class Form {
    kSame,           // parts of equal size
    kTransposed,     // [in, out] for our [out, in]: GPT-2's projections
    kMiddleAxis,     // [C, 1, K] for our [C, K]: weights of a depthwise convolution
    kLeadingAxes,    // [1, 1, D] for our [D]: RWKV's token-shift mixes
    kQueryKeyValue,  // H hd rows of queries, G hd of keys, G hd of values
  };
  std::string ours;                // "mixer.qkv.weight"
  std::vector<std::string> parts;  // "self_attn.q_proj.weight", …; '#' stands for the number of the expert, from 0
  Form form = Form::kSame;
};
using TensorRules = std::vector<TensorRule>;

// A model as `write` sees it: its blocks in order with every key filled in.
struct ResolvedBlock {
  BlockConfig block;
  ConfigValue keys;  // the layer's, defaults included
};
struct ResolvedModel {
  ModelConfig config;
  std::vector<ResolvedBlock> blocks;
  LanguageModel* model = nullptr;

  int64_t layers_of(int64_t blocks_per_layer) const { return static_cast<int64_t>(blocks.size()) / blocks_per_layer; }
  // The size of a parameter of ours along an axis; 0 where there is none.
  int64_t size(const std::string& parameter, int64_t axis) const;
  bool has(const std::string& parameter) const { return size(parameter, 0) > 0; }
  // The first block of that layer: its number, or -1.
  int64_t first(const std::string& layer) const;
  // A key of a block's layer; the type's zero where it is absent.
  int64_t integer(int64_t block, const std::string& key) const;
  double number(int64_t block, const std::string& key) const;
  std::string text(int64_t block, const std::string& key) const;
  bool flag(int64_t block, const std::string& key) const;
};

struct Family {
  std::string name = {};          // model_type
  std::string architecture = {};  // "LlamaForCausalLM"
  std::string prefix = {};        // of every tensor but the head's, "model."; files of a bare model lack it
  std::string layers = {};        // before a layer's number: "model.layers."
  int64_t blocks_per_layer = 2;
  TensorRules model_rules = {};  // of what stands outside the layers; the embedding first, the head last
  std::map<std::string, TensorRules> block_rules = {};  // by our registered layer; names within the block and their layer
  std::vector<std::string> ignored = {};                // endings of names that hold no weights: masks, tables of positions
  std::map<std::string, std::string> aliases = {};      // other names in circulation

  // config.json -> the recipe's form. Unimplemented for an option that is not computed here.
  absl::StatusOr<ModelConfig> (*read)(const Json& json, const std::string& file) = nullptr;
  // The way back; what has no counterpart is found afterwards, by reading the result (comparison.h).
  absl::StatusOr<Json> (*write)(const ResolvedModel& model) = nullptr;
};

// One file each.
Family gpt2_family();
Family llama_family();
Family mistral_family();
Family mixtral_family();
Family mamba_family();
Family mamba2_family();
Family rwkv_family();
Family jamba_family();

const std::vector<Family>& families();
// The family that `json`'s model_type names.
absl::StatusOr<const Family*> family_named(const Json& json, const std::string& file);
// The family that computes such blocks, if any does.
absl::StatusOr<const Family*> family_resembling(const ResolvedModel& model);

// Fills in defaults, block by block. `model` is the config's.
absl::StatusOr<ResolvedModel> resolve(const ModelConfig& config, LanguageModel& model, const Registry& registry);

// A block's table, for `read`: {"heads", int64_t} and so on, in order.
ConfigValue block_table(const std::string& file, std::vector<std::pair<std::string, ConfigValue>> keys);

}  // namespace hippodrome::huggingface

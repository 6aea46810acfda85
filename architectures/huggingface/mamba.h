#pragma once

#include "architectures/huggingface/family.h"

// What Mamba and Mamba-2 share: keys, the stack of blocks with RMSNorm, names of tensors.
namespace hippodrome::huggingface {

struct MambaKeys {
  int64_t vocab_size = 50280, hidden_size = 768, num_hidden_layers = 32, conv_kernel = 4;
  double expand = 2.0, layer_norm_epsilon = 1e-5;
  double time_step_min = 1e-3, time_step_max = 1e-1, time_step_floor = 1e-4;
  bool use_bias = false, use_conv_bias = true, tie_word_embeddings = true;
  std::string hidden_act = "silu";

  void bind(Fields& fields);
};

// The model of such keys, all but its blocks' table.
ModelConfig mamba_model(const MambaKeys& keys, const std::string& layer);
// The way back; `expand` is left.
MambaKeys mamba_keys(const ResolvedModel& model);

// A family with the layer and model_type `name`. `own_tensors` of a block stand beside those that both layers have;
// within blocks names are the same on both sides.
Family mamba_like_family(const std::string& name, const std::string& architecture,
                         const std::vector<std::string>& own_tensors);

}  // namespace hippodrome::huggingface

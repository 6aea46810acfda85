#include "architectures/registry.h"

#include "architectures/mixture/moe/moe.h"
#include "architectures/presets/presets.h"
#include "architectures/recurrent/attentive_gru/attentive_gru.h"
#include "architectures/recurrent/gnmt_decoder/gnmt_decoder.h"
#include "architectures/recurrent/gru/gru.h"
#include "architectures/recurrent/lstm/lstm.h"
#include "architectures/rwkv/channel_mix/channel_mix.h"
#include "architectures/rwkv/time_mix/time_mix.h"
#include "architectures/ssm/h3/h3.h"
#include "architectures/ssm/lssl/lssl.h"
#include "architectures/ssm/mamba/mamba.h"
#include "architectures/ssm/mamba2/mamba2.h"
#include "architectures/ssm/s4/s4.h"
#include "architectures/ssm/s4d/s4d.h"
#include "architectures/transformer/attention/attention.h"
#include "architectures/transformer/cross_attention/cross_attention.h"
#include "architectures/transformer/mlp/mlp.h"
// includes of new layers go above this line (`hippodrome new` writes there)

namespace hippodrome {

void register_all(Registry& registry) {
  registry.add(layer_entry<Lstm>("lstm", "recurrent", "long short-term memory"));
  registry.add(layer_entry<Gru>("gru", "recurrent", "gated recurrent unit"));
  registry.add(layer_entry<AttentiveGru>("attentive_gru", "recurrent",
                                         "decoder of RNNsearch and RNNencdec: GRU with additive attention, maxout"));
  registry.add(layer_entry<GnmtDecoder>("gnmt_decoder", "recurrent",
                                        "decoder of GNMT: LSTM layers, additive attention from the bottom one"));
  registry.add(
      layer_entry<Attention>("attention", "transformer", "attention, grouped queries, rotary positions, cache"));
  registry.add(layer_entry<CrossAttention>("cross_attention", "transformer",
                                           "attention to an encoder's output, by dot products or an additive score"));
  registry.add(layer_entry<Mlp>("mlp", "transformer", "position-wise feed-forward layer: ReLU, GELU, SwiGLU"));
  registry.add(layer_entry<RwkvTimeMix>("rwkv_time_mix", "rwkv", "RWKV-4's time mixing: token shift, WKV, receptance"));
  registry.add(
      layer_entry<RwkvChannelMix>("rwkv_channel_mix", "rwkv", "RWKV-4's channel mixing: token shift, squared ReLU"));
  registry.add(
      layer_entry<Lssl>("lssl", "ssm", "dense state-space model from HiPPO: FFT convolution by blocked powers"));
  registry.add(layer_entry<S4>("s4", "ssm", "diagonal-plus-low-rank state-space model: recurrence or Cauchy kernel"));
  registry.add(layer_entry<S4d>("s4d", "ssm", "diagonal state-space model: recurrence or FFT convolution"));
  registry.add(layer_entry<H3>("h3", "ssm", "H3: shift and diagonal state-space models between gates"));
  registry.add(layer_entry<Mamba>("mamba", "ssm", "Mamba-1: causal convolution, selective scan, gate"));
  registry.add(layer_entry<Mamba2>("mamba2", "ssm", "Mamba-2: causal convolution, SSD, gated norm"));
  registry.add(layer_entry<Moe>("moe", "mixture", "mixture of SwiGLU experts, each token sent to its best few"));
  // new layers go above this line
  register_presets(registry);
}

}  // namespace hippodrome

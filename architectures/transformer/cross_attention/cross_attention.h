#pragma once

#include <optional>
#include <string>

#include "architectures/recurrent/source_memory.h"
#include "core/base/config.h"
#include "core/layer/layer.h"
#include "core/layer/linear.h"

namespace hippodrome {

// Attention of a decoder to an encoder's output, by scaled dot products of several heads (Vaswani et al. 2017,
// section 3.2.3) or by an additive score of one (Bahdanau et al. 2015, appendix A.1.2, with the layer's own input as
// the query). What is projected of the memory is computed once a source and kept in the state. Equations, shapes, state
// and cost: README.md.
class CrossAttention final : public Layer {
 public:
  struct Config {
    std::string scoring = "dot";
    int64_t heads = 4;      // dot
    int64_t head_size = 0;  // hd of dot; 0: ceil(D / heads)
    int64_t alignment = 0;  // A of additive; 0: D
    std::string kernel = "fused";
    void bind(Fields& fields);
  };
  CrossAttention(const Config& config, const Site& site);

  // x [B, L, D] -> [B, L, E].
  Tensor forward(const Tensor& x, const Context& context, State* state) override;
  // Of the spec's memory [B, S, M], per source: keys and values [B, H, S, hd], or keys [B, S, A] and values [B, S, M];
  // positions [B, S] where there is padding.
  State initial_state(const StateSpec& spec) const override;
  Traits traits() const override;
  Cost cost(const Workload& workload) const override;

 private:
  SourceMemory project(const Memory& memory) const;
  // q [sources, K, H·hd] -> [sources, K, H·hd], K queries on each source.
  Tensor attend(const Tensor& q, const SourceMemory& source) const;
  // q [sources, K, …] -> the weights [sources, heads, K, S].
  Tensor weights(const Tensor& q, const SourceMemory& source) const;
  bool additive() const { return config_.scoring == "additive"; }

  Config config_;
  std::string name_;
  int64_t heads_, head_size_, memory_width_;
  Linear query_;        // [H·hd, D], or [A, D]
  Linear memory_;       // [2·H·hd, M]: keys, values; or [A, M]: keys
  ParameterPtr score_;  // [A], additive only
  Linear out_;          // [E, H·hd], or [E, M]
};

}  // namespace hippodrome

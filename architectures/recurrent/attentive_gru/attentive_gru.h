#pragma once

#include <optional>
#include <string>

#include "architectures/recurrent/source_memory.h"
#include "core/base/config.h"
#include "core/layer/layer.h"
#include "core/layer/linear.h"

namespace hippodrome {

// The decoder of RNNsearch (Bahdanau, Cho & Bengio 2015, appendix A.2.2): a GRU that at each token attends to the
// source from its last state, and a maxout readout; or, with context = "last", that of RNNencdec (Cho et al. 2014),
// whose context is the encoder's last state throughout. Equations, shapes, state and cost: README.md.
class AttentiveGru final : public Layer {
 public:
  struct Config {
    int64_t hidden = 0;     // n; 0: D
    int64_t alignment = 0;  // n', hidden width of the score; 0: n
    std::string context = "attention";
    std::string start = "backward";
    std::string init = "default";
    std::string kernel = "fused";
    void bind(Fields& fields);
  };
  static absl::Status check(const Config& config, const Site& site);

  AttentiveGru(const Config& config, const Site& site);

  // x [B, L, D], the target's tokens before those to be said -> [B, L, E], to be read by the head.
  Tensor forward(const Tensor& x, const Context& context, State* state) override;
  // s [B, n], float32 or wider; of the source: keys [B, S, n'] and values [B, S, M] (and positions [B, S] where there
  // is padding), or values [B, 1, M].
  State initial_state(const StateSpec& spec) const override;
  Traits traits() const override;
  Cost cost(const Workload& workload) const override;

 private:
  bool attends() const { return config_.context == "attention"; }
  SourceMemory read(const Memory& memory) const;
  Tensor start(const Memory& memory) const;  // s_0 [B, n]

  Config config_;
  std::string name_;
  int64_t hidden_, memory_width_;
  Linear input_;                       // [3n, D]: W, gates r, z, n
  ParameterPtr weight_hh_;             // [3n, n]: U
  Linear context_;                     // [3n, M]: C
  Linear initial_;                     // [n, M/2] or [n, M]: W_s
  std::optional<Linear> query_, key_;  // [n', n]: W_a; [n', M]: U_a
  ParameterPtr score_;                 // [n']: v_a
  Linear readout_state_;               // [2E, n]: U_o
  Linear readout_input_;               // [2E, D]: V_o
  Linear readout_context_;             // [2E, M]: C_o
};

}  // namespace hippodrome

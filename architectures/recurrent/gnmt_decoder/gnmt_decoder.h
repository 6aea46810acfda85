#pragma once

#include <string>
#include <vector>

#include "architectures/recurrent/source_memory.h"
#include "core/base/config.h"
#include "core/layer/layer.h"
#include "core/layer/linear.h"

namespace hippodrome {

// The decoder of GNMT (Wu et al. 2016, section 3): LSTM layers of which the bottom one attends to the source from its
// last output; what it attends to is read by every layer, and from the third on layers add their input. Equations,
// shapes, state and cost: README.md.
class GnmtDecoder final : public Layer {
 public:
  struct Config {
    int64_t layers = 2;
    int64_t alignment = 0;    // A, hidden width of the score; 0: E
    bool bias = true;         // of the gates
    double init_range = 0.0;  // U(± this) for all weights; 0: U(±1/√fan-in)
    std::string kernel = "fused";
    void bind(Fields& fields);
  };
  GnmtDecoder(const Config& config, const Site& site);

  // x [B, L, D] -> [B, L, E].
  Tensor forward(const Tensor& x, const Context& context, State* state) override;
  // h<i>, c<i> [B, E] of every layer, float32 or wider; of the source: keys [B, S, A], values [B, S, M], and positions
  // [B, S] where there is padding.
  State initial_state(const StateSpec& spec) const override;
  Traits traits() const override;
  Cost cost(const Workload& workload) const override;

 private:
  Config config_;
  std::string name_;
  int64_t width_, memory_width_, hidden_;  // D, M, E
  Linear query_, key_;                     // [A, E], [A, M]
  ParameterPtr score_;                     // [A]
  std::vector<Linear> inputs_;             // [4E, D] of the bottom layer, [4E, E + M] of those above
  Linear context_;                         // [4E, M] of the bottom layer
  std::vector<ParameterPtr> recurrent_;    // [4E, E]
};

}  // namespace hippodrome

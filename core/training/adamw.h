#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/layer/parameters.h"

namespace hippodrome {

// AdamW (Loshchilov & Hutter 2019) on LibTorch's fused operator. Groups follow from the parameters' own facts: weight
// decay or none, and the learning-rate scale.
class AdamW {
 public:
  struct Options {
    double beta1 = 0.9;
    double beta2 = 0.95;
    double epsilon = 1e-8;
    double weight_decay = 0.1;
  };
  // Moments are allocated here; `parameters` must be materialised and outlive the optimiser.
  AdamW(Parameters& parameters, const Options& options);

  // One update at this rate from the parameters' gradients; a parameter without a gradient is left alone. When the
  // gradients' global norm exceeds `clip_norm` (> 0) they are scaled down to it. Returns the norm before clipping.
  // Clears the gradients.
  double step(double learning_rate, double clip_norm);
  // The same without a look at a value, for steps that a device records: the rate is a scalar float32 tensor on the
  // parameters' device, and so is the norm that is returned. Whoever runs or replays it calls count_writes().
  Tensor step_on_device(const Tensor& learning_rate, double clip_norm);
  // Tells who keeps what follows from parameters (core/layer/derived.h) which of them the last step wrote. Neither
  // LibTorch's fused operator nor a replay does.
  void count_writes();
  // Leaves no parameter a gradient.
  void clear_gradients();

  // Moments and step count by name, and the way back. Restoring fails with one sentence naming what is missing or
  // misshapen.
  std::map<std::string, Tensor> tensors() const;
  absl::Status restore(const std::map<std::string, Tensor>& tensors);

 private:
  struct Group;
  // Parameters with a gradient, by what the fused operator wants alike of them: (weight decay, learning-rate scale).
  using Groups = std::map<std::pair<double, double>, Group>;
  Groups groups() const;
  std::vector<Tensor> gradients() const;  // those that there are
  template <class Rate>
  void update(const Rate& learning_rate);

  struct Slot {
    ParameterPtr parameter;
    Tensor first_moment;
    Tensor second_moment;
    Tensor step;           // float32 scalar, as the fused operator wants it
    bool written = false;  // by the last step
  };
  Options options_;
  std::vector<Slot> slots_;
};

}  // namespace hippodrome

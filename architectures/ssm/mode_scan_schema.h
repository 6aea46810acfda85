// The schemas of a scan over complex modes, as scan_operator.h wants them.
#pragma once

#include <torch/library.h>

#include <string>

namespace hippodrome::mode_scan {

// `parameters` as in a schema: "Tensor a, Tensor b". What checkpoints are is the matter of each device's kernels.
inline void define(torch::Library& m, const std::string& name, const std::string& parameters) {
  const std::string inputs = "Tensor u, " + parameters;
  const std::string arguments = inputs + ", Tensor? state=None, Tensor? positions=None";
  const std::string outputs = "Tensor y, Tensor last_state";
  const std::string backward = "(Tensor? grad_y, Tensor? grad_last_state, " + arguments +
                               ", Tensor? checkpoints=None) -> (" + inputs + ", Tensor state)";
  m.def((name + "(" + arguments + ") -> (" + outputs + ")").c_str());
  m.def((name + "_reference(" + arguments + ") -> (" + outputs + ")").c_str());
  m.def(("_" + name + "_forward(" + arguments + ") -> (" + outputs + ", Tensor checkpoints)").c_str());
  m.def(("_" + name + "_backward" + backward).c_str());
  m.def(("_" + name + "_reference_backward" + backward).c_str());
}

}  // namespace hippodrome::mode_scan

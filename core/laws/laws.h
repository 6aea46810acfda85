#pragma once

#include <string>
#include <vector>

#include "core/layer/registry.h"

// The laws every layer keeps, checked by behaviour alone: a layer is tested by being registered.
namespace hippodrome {

struct LawResult {
  std::string law;
  bool passed = false;
  bool applies = true;      // false: the layer's traits leave the law nothing to check
  double measured = 0.0;    // the figure that is bounded, see `unit`
  double bound = 0.0;       // passed exactly when measured ≤ bound
  std::string unit;         // what the figure is: "relative error", "bytes", …
  std::string note;         // where it was worst, or why it does not apply
};

// What is checked: a registered layer under a config.
struct LawSubject {
  const Registry* registry = nullptr;
  std::string layer;
  ConfigValue config;       // the layer's keys; empty: its defaults
  int64_t width = 8;        // D = E; small, since laws differentiate by every element
  at::Device device = at::kCPU;
};

// A law by name, with the sentence it enforces.
struct Law {
  std::string name;
  std::string statement;
  LawResult (*check)(const LawSubject& subject);
};

// All laws, in the order they are reported.
const std::vector<Law>& laws();

// Checks every law. An exception inside a law is its failure, with the message as note. An error only when the layer does not
// exist or refuses its config.
absl::StatusOr<std::vector<LawResult>> check_laws(const LawSubject& subject);

}  // namespace hippodrome

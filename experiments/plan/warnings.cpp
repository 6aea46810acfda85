#include "experiments/plan/warnings.h"

#include <algorithm>
#include <cctype>

namespace hippodrome {
namespace plan_warnings_detail {
namespace {

// The number of layers that have a parameter `name` of this shape.
int64_t layers_with(const LanguageModel& model, const std::string& name, at::IntArrayRef shape) {
  int64_t count = 0;
  for (const ParameterPtr& parameter : model.parameters().list()) {
    count += parameter->name.ends_with(".mixer." + name) && parameter->value.sizes() == shape ? 1 : 0;
  }
  return count;
}

}  // namespace
}  // namespace plan_warnings_detail

MisreadName misread_name(const std::string& name) {
  std::string lower = name;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  for (const std::string version : {"3", "3.1"}) {
    for (const std::string start : {"llama-", "llama"}) {
      if (lower == start + version + "-7b") {
        const std::string preset = "llama-" + version + "-8b";
        return {preset, "there is no Llama " + version + " 7B: the model meant is the 8B, planned here (" + preset + ")"};
      }
    }
  }
  return {name, ""};
}

std::vector<std::string> shape_warnings(const LanguageModel& model) {
  std::vector<std::string> warnings;
  // Llama-2 70B's other sizes: d 8192, 80 layers, 64 query and 8 key-value heads of 128.
  const int64_t attention = plan_warnings_detail::layers_with(model, "qkv.weight", {(64 + 2 * 8) * 128, 8192});
  const int64_t narrow = plan_warnings_detail::layers_with(model, "up.weight", {2 * 22016, 8192});
  if (attention == 80 && narrow > 0) {
    warnings.push_back(
        "a feed-forward width of 22,016 is LLaMA-1 65B's, which some size tables print for Llama-2 70B: 28,672 is right "
        "(68,976,648,192 parameters)");
  }
  return warnings;
}

}  // namespace hippodrome

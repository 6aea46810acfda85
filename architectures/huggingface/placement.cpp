#include "architectures/huggingface/placement.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>

#include <algorithm>

#include "core/io/weight_mismatch.h"

namespace hippodrome::huggingface {
namespace placement_detail {
namespace {

using Form = TensorRule::Form;

// `name` with the number of the expert in place of '#'.
std::string of_expert(const std::string& name, int64_t expert) {
  const size_t mark = name.find('#');
  return mark == std::string::npos ? name : name.substr(0, mark) + std::to_string(expert) + name.substr(mark + 1);
}

// The rows of each part of our [rows, …].
std::vector<int64_t> rows_of(const TensorRule& rule, int64_t rows, int64_t query_rows) {
  if (rule.form == Form::kQueryKeyValue) {
    const int64_t shared = (rows - query_rows) / 2;
    return {query_rows, shared, shared};
  }
  return std::vector<int64_t>(rule.parts.size(), rows / static_cast<int64_t>(rule.parts.size()));
}

Placement place_one(const TensorRule& rule, const ParameterPtr& parameter, const std::string& theirs,
                    int64_t query_rows) {
  std::vector<int64_t> shape = parameter->value.sizes().vec();
  Placement placement{parameter, {}, rule.form == Form::kTransposed};
  if (rule.form == Form::kTransposed) std::swap(shape[0], shape[1]);
  int64_t experts = 1;
  if (rule.parts[0].find('#') != std::string::npos) {
    experts = shape[0];
    shape.erase(shape.begin());
  }
  const std::vector<int64_t> rows = rows_of(rule, shape[0], query_rows);
  for (int64_t expert = 0; expert < experts; ++expert) {
    for (size_t i = 0; i < rule.parts.size(); ++i) {
      shape[0] = rows[i];
      std::vector<int64_t> theirs_shape = shape;
      if (rule.form == Form::kMiddleAxis) theirs_shape.insert(theirs_shape.begin() + 1, 1);
      if (rule.form == Form::kLeadingAxes) theirs_shape.insert(theirs_shape.begin(), 2, 1);
      placement.parts.push_back({theirs + of_expert(rule.parts[i], expert), std::move(theirs_shape)});
    }
  }
  return placement;
}

// Parameters by name: a model has thousands, and rules ask for each.
using ByName = std::map<std::string, ParameterPtr>;

void place_rules(const TensorRules& rules, const std::string& ours, const std::string& theirs, ByName& parameters,
                 std::map<std::string, Placement>& placements) {
  const auto out = parameters.find(ours + "mixer.out.weight");
  const int64_t query_rows = out != parameters.end() ? out->second->value.size(1) : 0;
  for (const TensorRule& rule : rules) {
    const auto found = parameters.find(ours + rule.ours);
    if (found == parameters.end()) continue;  // a bias that this model does without
    placements.emplace(found->first, place_one(rule, found->second, theirs, query_rows));
  }
}

// The names of files as this family's own models have them.
std::map<std::string, Tensor> with_family_names(const Family& family, std::map<std::string, Tensor> tensors) {
  bool bare = true;
  for (const auto& [name, tensor] : tensors) bare = bare && !name.starts_with(family.prefix);
  const std::string head = family.model_rules.back().parts[0];
  std::map<std::string, Tensor> renamed;
  for (auto& [name, tensor] : tensors) {
    std::string full = bare && name != head ? family.prefix + name : name;
    if (const auto alias = family.aliases.find(full); alias != family.aliases.end()) full = alias->second;
    const bool ignored = std::any_of(family.ignored.begin(), family.ignored.end(),
                                     [&](const std::string& ending) { return full.ends_with(ending); });
    if (!ignored) renamed.emplace(full, tensor);
  }
  return renamed;
}

}  // namespace
}  // namespace placement_detail

absl::StatusOr<std::vector<Placement>> place(const Family& family, LanguageModel& model) {
  placement_detail::ByName parameters;
  for (const ParameterPtr& parameter : model.parameters().list()) parameters.emplace(parameter->name, parameter);
  std::map<std::string, Placement> placements;
  placement_detail::place_rules(family.model_rules, "", "", parameters, placements);
  for (size_t block = 0; block < model.blocks().size(); ++block) {
    const auto rules = family.block_rules.find(model.blocks()[block]->layer_name());
    if (rules == family.block_rules.end()) continue;
    const int64_t layer = static_cast<int64_t>(block) / family.blocks_per_layer;
    placement_detail::place_rules(rules->second, "blocks." + std::to_string(block) + ".",
                                  family.layers + std::to_string(layer) + ".", parameters, placements);
  }
  std::vector<Placement> ordered;
  for (const ParameterPtr& parameter : model.parameters().list()) {
    const auto found = placements.find(parameter->name);
    if (found == placements.end()) {
      return absl::UnimplementedError("files of " + family.name + " models have no place for \"" + parameter->name +
                                      "\"");
    }
    ordered.push_back(std::move(found->second));
  }
  return ordered;
}

std::vector<Tensor> take_apart(const Placement& placement) {
  const Tensor value = placement.parameter->value.detach();
  const Tensor flat = (placement.transposed ? value.t() : value).reshape(-1);
  std::vector<Tensor> tensors;
  int64_t begin = 0;
  for (const Placement::Part& part : placement.parts) {
    int64_t size = 1;
    for (const int64_t axis : part.shape) size *= axis;
    tensors.push_back(flat.narrow(0, begin, size).view(part.shape));
    begin += size;
  }
  return tensors;
}

absl::Status fill(const Family& family, LanguageModel& model, std::map<std::string, Tensor> tensors,
                  const std::string& where, at::ScalarType dtype) {
  ASSIGN_OR_RETURN(const std::vector<Placement> placements, place(family, model));
  tensors = placement_detail::with_family_names(family, std::move(tensors));
  WeightMismatch mismatch;
  std::map<std::string, Tensor> left = tensors;
  for (const Placement& placement : placements) {
    for (const Placement::Part& part : placement.parts) {
      const auto found = left.find(part.name);
      if (found == left.end()) {
        mismatch.missing.push_back(part.name);
        continue;
      }
      if (found->second.sizes() != part.shape) {
        mismatch.add_misshapen(part.name, found->second.sizes(), part.shape);
      } else if (!found->second.is_floating_point()) {
        mismatch.misshapen.push_back(part.name + " of type " + c10::toString(found->second.scalar_type()));
      }
      left.erase(found);
    }
  }
  // Some files keep a tied head twice. One that differs would be a model we do not compute.
  const std::string head = family.model_rules.back().parts[0];
  if (const auto found = left.find(head); found != left.end()) {
    const auto embedding = tensors.find(family.model_rules.front().parts[0]);
    if (embedding != tensors.end() && embedding->second.sizes() == found->second.sizes() &&
        embedding->second.scalar_type() == found->second.scalar_type() && at::equal(embedding->second, found->second)) {
      left.erase(found);
    }
  }
  for (const auto& [name, tensor] : left) mismatch.extra.push_back(name);
  RETURN_IF_ERROR(mismatch.status(where));

  const at::NoGradGuard no_grad;
  model.parameters().allocate(dtype);
  for (const Placement& placement : placements) {
    Tensor& value = placement.parameter->value;
    if (placement.transposed) {
      value.copy_(tensors.at(placement.parts[0].name).t());
      continue;
    }
    Tensor flat = value.view(-1);
    int64_t begin = 0;
    for (const Placement::Part& part : placement.parts) {
      const Tensor& tensor = tensors.at(part.name);
      flat.narrow(0, begin, tensor.numel()).copy_(tensor.reshape(-1));
      begin += tensor.numel();
    }
  }
  return absl::OkStatus();
}

}  // namespace hippodrome::huggingface

#include <ATen/ops/empty.h>

#include "core/laws/specimen.h"
#include "core/model/language_model.h"

// Laws about how a layer is made.
namespace hippodrome::law_checks {

// Every parameter's value in a model is what its own initialiser draws from the stream of its name: nothing that wraps the
// layer changed it.
LawResult initialisation(const LawSubject& subject) {
  ModelConfig config;
  config.pattern = {subject.layer};
  config.repeats = 2;
  config.width = subject.width;
  config.blocks.set(subject.layer, subject.config);
  const auto model = LanguageModel::make(config, /*vocabulary=*/11, "laws", *subject.registry);
  TORCH_CHECK(model.ok(), std::string(model.status().message()));
  constexpr uint64_t kSeed = 5;
  (*model)->parameters().materialise(kSeed, at::kFloat);
  Worst worst;
  double differing = 0.0;
  std::string first;
  for (const ParameterPtr& parameter : (*model)->parameters().list()) {
    Tensor own = at::empty(parameter->value.sizes(), at::kFloat);
    parameter->initialiser(own, RandomStream(kSeed, parameter->name));
    if (same_bits(own, parameter->value)) continue;
    differing += 1.0;
    if (first.empty()) first = parameter->name;
  }
  worst.add(differing, first + " lost its initial value");
  return worst.result("initialisation", 0.0, "parameters that differ");
}

// Every key that the layer documents is accepted, and a key that it does not know is refused with a sentence.
LawResult configuration(const LawSubject& subject) {
  const LayerEntry& entry = **subject.registry->layer(subject.layer);
  const Site site{"laws", subject.width, subject.width, 0, 1, 1};
  DescribeFields fields;
  entry.describe(fields);
  Worst worst;
  double wrong = 0.0;
  ConfigValue unknown = subject.config;
  unknown.set("a_key_that_no_layer_has", ConfigValue(int64_t{1}));
  const auto refused = entry.make(unknown, subject.layer, site);
  if (refused.ok() || refused.status().message().find("a_key_that_no_layer_has") == absl::string_view::npos) {
    wrong += 1.0;
    worst.add(wrong, "an unknown key is not refused by name");
  }
  // A key is read when a value of the wrong type is refused.
  for (const FieldDescription& field : fields.result) {
    ConfigValue mistyped = subject.config;
    mistyped.set(field.key, ConfigValue(ConfigValue::Table{}));
    if (field.type == "table" || !entry.make(mistyped, subject.layer, site).ok()) continue;
    wrong += 1.0;
    worst.add(wrong, "the key " + field.key + " is documented but not read");
  }
  return worst.result("configuration", 0.0, "keys");
}

}  // namespace hippodrome::law_checks

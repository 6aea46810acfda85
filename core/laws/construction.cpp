#include <ATen/ops/empty.h>

#include "core/laws/specimen.h"
#include "core/model/language_model.h"

// Laws about how a layer is made.
namespace hippodrome::law_checks {

// A layer's parameters have in a model the values that the layer alone would give them at that site: nothing that wraps the
// layer changed them, and no value was set where materialise() would overwrite it.
LawResult initialisation(const LawSubject& subject) {
  ModelConfig config;
  config.pattern = {subject.layer};
  config.repeats = 2;
  config.width = subject.width;
  config.blocks.set(subject.layer, subject.config);
  if (make_layer(subject, at::kFloat)->traits().needs_memory) {
    config.encoder.set("pattern", ConfigValue(ConfigValue::List{ConfigValue(std::string("mlp"))}));
  }
  const auto model = LanguageModel::make(config, /*vocabulary=*/11, "laws", *subject.registry);
  TORCH_CHECK(model.ok(), std::string(model.status().message()));
  constexpr uint64_t kSeed = 5;
  (*model)->parameters().materialise(kSeed, at::kFloat);
  Worst worst;
  double differing = 0.0;
  const auto found = [&](const std::string& what) { worst.add(differing += 1.0, what); };
  for (int64_t repeat = 0; repeat < config.repeats; ++repeat) {
    const std::string name = "blocks." + std::to_string(repeat) + ".mixer";
    const Site site{name,           subject.width,  subject.width,
                    repeat,         config.repeats, config.repeats,
                    (*model)->encoder() ? (*model)->encoder()->output_width() : 0};
    const auto alone = (*subject.registry->layer(subject.layer))->make(subject.config, subject.layer, site);
    TORCH_CHECK(alone.ok(), std::string(alone.status().message()));
    for (const ParameterPtr& parameter : (*alone)->parameters().list()) {
      if (!parameter->value.is_meta()) {
        found(parameter->name + " has a value before it is materialised, which is then lost");
        continue;
      }
      const std::string full_name = name + "." + parameter->name;
      const ParameterPtr in_model = (*model)->parameters().find(full_name);
      Tensor own = at::empty(parameter->value.sizes(), at::kFloat);
      parameter->initialiser(own, RandomStream(kSeed, full_name));
      if (!in_model) {
        found(full_name + " is not in the model");
      } else if (in_model->value.sizes() != own.sizes() || !same_bits(own, in_model->value)) {
        found(full_name + " lost its initial value");
      }
    }
  }
  return worst.result("initialisation", 0.0, "parameters that differ");
}

// Every key that the layer documents is read and takes the default that is documented, and a key that it does not know is
// refused with a sentence.
LawResult configuration(const LawSubject& subject) {
  const LayerEntry& entry = **subject.registry->layer(subject.layer);
  const Site site = law_site(subject);
  const auto made_with = [&](const std::string& key, ConfigValue value) {
    ConfigValue config = subject.config;
    config.set(key, std::move(value));
    return entry.make(config, subject.layer, site).status();
  };
  Worst worst;
  double wrong = 0.0;
  const auto found = [&](const std::string& what) { worst.add(wrong += 1.0, what); };
  const absl::Status refused = made_with("a_key_that_no_layer_has", ConfigValue(int64_t{1}));
  if (refused.ok() || std::string(refused.message()).find("a_key_that_no_layer_has") == std::string::npos) {
    found("an unknown key is not refused by name");
  }
  WriteFields defaults;
  entry.describe(defaults);
  for (const auto& [key, value] : *defaults.result.table()) {
    // A value that the subject sets itself may rule out the default of another key.
    if (subject.config.table()->empty()) {
      if (const absl::Status taken = made_with(key, value); !taken.ok()) found(std::string(taken.message()));
    }
    // A key is read when a value of the wrong type is refused.
    if (!value.table() && made_with(key, ConfigValue(ConfigValue::Table{})).ok()) {
      found("the key " + key + " is documented but not read");
    }
  }
  return worst.result("configuration", 0.0, "keys");
}

}  // namespace hippodrome::law_checks

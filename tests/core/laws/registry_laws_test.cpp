#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <cctype>
#include <ostream>

#include "core/laws/laws.h"
#include "core/laws/specimen.h"
#include "core/tensor/memory_meter.h"
#include "tests/core/laws/whole_registry.h"
#include "tests/core/tensor/complete_meta_device.h"

// Every law for every layer of the project: with its defaults, with each other option and flag that it documents, and with
// configs that combine them.
namespace hippodrome::registry_laws_test {
namespace {

struct Case {
  std::string layer;
  ConfigValue config;
  int64_t width = 8;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.layer << " " << c.config.json() << " width " << c.width; }

Case with(std::string layer, const std::vector<std::pair<std::string, ConfigValue>>& keys, int64_t width = 8) {
  Case made{std::move(layer), ConfigValue(), width};
  for (const auto& [key, value] : keys) made.config.set(key, value);
  return made;
}

ConfigValue integer(int64_t value) { return ConfigValue(value); }
ConfigValue text(const char* value) { return ConfigValue(std::string(value)); }

// What single keys do not reach.
std::vector<Case> combinations() {
  return {
      with("attention", {{"heads", integer(4)}, {"kv_heads", integer(2)}}),
      with("attention", {{"heads", integer(4)}, {"kv_heads", integer(1)}, {"positions", text("none")}}),
      with("attention", {{"kv_heads", integer(2)}, {"kernel", text("reference")}}),
      with("attention", {{"heads", integer(1)}, {"head_size", integer(6)}, {"rope_layout", text("interleaved")}}),
      with("mamba", {{"groups", integer(2)}, {"inner_norms", ConfigValue(true)}}),
      with("mamba", {{"complex", ConfigValue(true)}, {"discretisation", text("zoh")}, {"groups", integer(2)}, {"inner_norms", ConfigValue(true)}}),
      with("mamba2", {{"groups", integer(2)}, {"head_size", integer(4)}, {"state", integer(5)}, {"chunk", integer(16)}}),
      with("mamba2", {{"groups", integer(2)}, {"head_size", integer(4)}, {"norm_before_gate", ConfigValue(true)}}),
      with("attention", {{"kv_heads", integer(2)}, {"window", integer(4)}}),
      with("attention", {{"window", integer(1)}, {"positions", text("none")}}),
      with("attention", {{"window", integer(1000)}, {"rope_scaling", text("llama3")}, {"rope_original_length", integer(4)}}),
      with("attention", {{"window", integer(5)}, {"kernel", text("library")}, {"kv_heads", integer(2)}}),
      with("attention", {{"window", integer(3)}, {"kernel", text("reference")}, {"rope_layout", text("interleaved")}}),
      with("mlp", {{"activation", text("swiglu")}, {"bias", ConfigValue(false)}}, 12),
      with("h3", {{"head_size", integer(4)}, {"state", integer(4)}, {"shift_state", integer(3)}}),
      with("h3", {{"head_size", integer(2)}, {"state", integer(4)}, {"kernel", text("convolution")}}),
      with("moe", {{"experts", integer(5)}, {"top_k", integer(3)}, {"router", text("jamba")}, {"hidden", integer(7)}}),
      with("moe", {{"experts", integer(1)}, {"top_k", integer(1)}}),
      with("s4", {{"kernel", text("convolution")}, {"init", text("legt")}}),
      with("s4", {{"kernel", text("diagonal")}, {"state", integer(6)}}),
      with("s4", {{"kernel", text("diagonal")}, {"init", text("fout")}, {"state", integer(8)}}),
      with("s4d", {{"kernel", text("convolution")}, {"discretisation", text("bilinear")}, {"init", text("inv")}}),
      with("lssl", {{"transition", text("shared")}, {"form", text("tridiagonal")}, {"state", integer(4)}}),
      with("lssl", {{"transition", text("per_feature")}, {"train_dt", ConfigValue(true)}, {"channels", integer(2)}}),
  };
}

// The options of a choice, as DescribeFields writes them: "rope | none".
std::vector<std::string> options_of(const FieldDescription& field) {
  std::vector<std::string> options;
  for (size_t begin = 0; field.type.find(" | ") != std::string::npos && begin <= field.type.size();) {
    const size_t end = std::min(field.type.find(" | ", begin), field.type.size());
    options.push_back(field.type.substr(begin, end - begin));
    begin = end + 3;
  }
  return options;
}

// Whether the layer takes its other keys' defaults beside this option. Where it refuses, a combination has to hold the option.
bool stands_alone(const LayerEntry& entry, const std::string& key, const std::string& option) {
  const Case alone = with(entry.name, {{key, ConfigValue(option)}});
  return entry.make(alone.config, entry.name, Site{"laws", alone.width, alone.width, 0, 1, 1}).ok();
}

std::vector<Case> cases() {
  std::vector<Case> result;
  for (const LayerEntry& entry : whole_registry().layers()) {
    result.push_back({entry.name, ConfigValue()});
    // No multiple of a vector's lanes.
    result.push_back({entry.name, ConfigValue(), 20});
    DescribeFields fields;
    entry.describe(fields);
    for (const FieldDescription& field : fields.result) {
      for (const std::string& option : options_of(field)) {
        if ("\"" + option + "\"" == field.default_value || !stands_alone(entry, field.key, option)) continue;
        result.push_back(with(entry.name, {{field.key, ConfigValue(option)}}));
      }
      if (field.type == "boolean") {
        result.push_back(with(entry.name, {{field.key, ConfigValue(field.default_value == "false")}}));
      }
    }
  }
  const std::vector<Case> further = combinations();
  result.insert(result.end(), further.begin(), further.end());
  return result;
}

std::string name_of(const testing::TestParamInfo<Case>& info) {
  std::string words = info.param.layer;
  for (const auto& [key, value] : *info.param.config.table()) words += "_" + key + "_" + value.json();
  if (info.param.width != 8) words += "_width_" + std::to_string(info.param.width);
  std::string name;
  for (const char c : words) {
    if (std::isalnum(static_cast<unsigned char>(c))) {
      name += c;
    } else if (!name.empty() && name.back() != '_') {
      name += '_';
    }
  }
  return name;
}

class RegisteredLayers : public testing::TestWithParam<Case> {};

TEST_P(RegisteredLayers, KeepEveryLaw) {
  memory_meter::install();  // without it one law cannot see anything
  LawSubject subject;
  subject.registry = &whole_registry();
  subject.layer = GetParam().layer;
  subject.config = GetParam().config;
  subject.width = GetParam().width;
  const auto results = check_laws(subject);
  ASSERT_TRUE(results.ok()) << results.status();
  ASSERT_EQ(results->size(), laws().size());
  for (const LawResult& result : *results) {
    EXPECT_TRUE(result.passed) << result.law << ": " << result.measured << " > " << result.bound << " " << result.unit << "; "
                               << result.note;
  }
}

// Layers make what they need on the device of their input and do not read it on the host. Tensors of the meta device have
// no values, so that every reading of one is an error, as is an operator on one of it and one of the CPU.
TEST_P(RegisteredLayers, StayOnTheDeviceOfTheirInput) {
  const Case& tested = GetParam();
  meta_device::complete();
  LawSubject subject{.registry = &whole_registry(), .layer = tested.layer, .config = tested.config, .width = tested.width};
  subject.device = at::kMeta;
  for (const auto dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    const auto layer = law_checks::make_layer(subject, dtype == at::kBFloat16 ? at::kFloat : dtype);
    if (layer->traits().reads_on_host) GTEST_SKIP() << "a host that reads finds nothing on the meta device";
    layer->parameters().set_requires_grad(true);
    const auto input = [&](int64_t length) {
      return law_checks::random_tensor(subject, {2, length, subject.width}, dtype, "x");
    };
    const std::vector<std::vector<int64_t>> ragged = {{0, 1, 2, -1, -1}, {-1, 0, 1, 0, 1}};
    const auto check = [&](const Tensor& y, int64_t length) {
      EXPECT_TRUE(y.is_meta());
      EXPECT_EQ(y.sizes(), at::IntArrayRef({2, length, subject.width}));
      EXPECT_EQ(y.scalar_type(), dtype);
    };
    const auto train = [&](const Tensor& x, const Tensor& y) {
      check(y, x.size(1));
      for (const Tensor& gradient : law_checks::gradients(*layer, x, y, input(x.size(1)))) {
        EXPECT_TRUE(gradient.is_meta());
      }
    };
    const Tensor x = input(5).requires_grad_(true);
    train(x, law_checks::run_plain(*layer, x, nullptr));
    const bool packs = layer->traits().packs;  // otherwise core cuts the rows up, on the host
    if (packs) train(x, law_checks::run_ragged(*layer, x, ragged, nullptr));
    const at::NoGradGuard no_grad;
    State state = law_checks::fresh_state(subject, *layer, 2, dtype);
    State* const carried = state.empty() ? nullptr : &state;
    check(law_checks::run_plain(*layer, input(5), carried), 5);
    check(law_checks::run_plain(*layer, input(1), carried, 5), 1);
    check(law_checks::run_plain(*layer, input(3), carried, 6), 3);
    if (packs) check(law_checks::run_ragged(*layer, input(5), ragged, carried), 5);
    for (const auto& [name, tensor] : state.tensors()) EXPECT_TRUE(tensor.is_meta()) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Laws, RegisteredLayers, testing::ValuesIn(cases()), name_of);

TEST(Registry, EveryOptionIsHeldToTheLaws) {
  const std::vector<Case> held = cases();
  for (const LayerEntry& entry : whole_registry().layers()) {
    DescribeFields fields;
    entry.describe(fields);
    for (const FieldDescription& field : fields.result) {
      for (const std::string& option : options_of(field)) {
        if ("\"" + option + "\"" == field.default_value) continue;
        EXPECT_TRUE(std::any_of(held.begin(), held.end(), [&](const Case& c) {
          const ConfigValue* value = c.config.find(field.key);
          return c.layer == entry.name && value && value->string() && *value->string() == option;
        })) << entry.name << " refuses " << field.key << " = " << option << " alone, and no combination has it";
      }
    }
  }
}

TEST(Registry, HasNamesThatAreFoundAndPresetsThatParse) {
  EXPECT_FALSE(whole_registry().layers().empty());
  for (const LayerEntry& entry : whole_registry().layers()) {
    EXPECT_EQ(*whole_registry().layer(entry.name), &entry) << "two layers are called " << entry.name;
    EXPECT_FALSE(entry.doc.empty()) << entry.name;
    EXPECT_FALSE(entry.family.empty()) << entry.name;
  }
  for (const PresetEntry& entry : whole_registry().presets()) {
    EXPECT_EQ(*whole_registry().preset(entry.name), &entry) << "two presets are called " << entry.name;
    EXPECT_FALSE(entry.doc.empty()) << entry.name;
  }
}

}  // namespace
}  // namespace hippodrome::registry_laws_test

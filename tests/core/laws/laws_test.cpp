#include "core/laws/laws.h"

#include <gmock/gmock.h>

#include <functional>
#include <ostream>
#include <set>

#include "core/tensor/memory_meter.h"
#include "tests/core/laws/broken_layers.h"

namespace hippodrome::laws_test {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

// A layer with a mistake, and the laws that see it: the one it is made for first.
struct Mistake {
  std::string name;
  std::function<LayerEntry()> entry;
  std::vector<std::string> broken;
};

void PrintTo(const Mistake& mistake, std::ostream* out) { *out << mistake.name; }

template <class L>
Mistake mistake(const std::string& name, std::vector<std::string> broken) {
  return {name, [] { return layer_entry<L>("", "", ""); }, std::move(broken)};
}

std::vector<Mistake> mistakes() {
  using namespace toys;
  return {
      mistake<NonCausal>("NonCausal", {"causality", "split", "step", "padding", "packing"}),
      mistake<FarNonCausal>("FarNonCausal", {"causality", "split"}),
      mistake<ForgetsAtChunkEdge>("ForgetsAtChunkEdge", {"split"}),
      mistake<ForgetsAtSplit>("ForgetsAtSplit", {"split", "step"}),
      mistake<DetachedState>("DetachedState", {"gradcheck", "split"}),
      mistake<WrongStep>("WrongStep", {"step"}),
      mistake<PaddingLeaks>("PaddingLeaks", {"padding"}),
      mistake<PackingLeaks>("PackingLeaks", {"packing"}),
      // Padding and selection change which rows are there.
      mistake<RowsMix>("RowsMix", {"batch", "padding", "clone and select"}),
      mistake<WrongInputGradient>("WrongInputGradient", {"gradcheck"}),
      mistake<WrongStateGradient>("WrongStateGradient", {"gradcheck", "split"}),
      mistake<WrongFastKernel>("WrongFastKernel", {"kernel"}),
      mistake<WrongFastBackward>("WrongFastBackward", {"kernel", "gradcheck"}),
      mistake<CountsCalls>("CountsCalls", {"determinism"}),
      mistake<CountsLayers>("CountsLayers", {"determinism", "kernel"}),
      mistake<WidensOutput>("WidensOutput", {"precision"}),
      mistake<WrongInBfloat16>("WrongInBfloat16", {"precision"}),
      mistake<WrongStateBytes>("WrongStateBytes", {"state bytes"}),
      mistake<WrongGrowth>("WrongGrowth", {"state bytes"}),
      mistake<WrongFlops>("WrongFlops", {"cost"}),
      mistake<Hoards>("Hoards", {"live bytes"}),
      mistake<HidesState>("HidesState", {"save and load", "clone and select", "gradcheck"}),
      mistake<StateByHandle>("StateByHandle", {"clone and select", "save and load", "gradcheck"}),
      mistake<SetsValueByHand>("SetsValueByHand", {"initialisation"}),
      mistake<DrawsByOrder>("DrawsByOrder", {"initialisation", "kernel", "determinism"}),
      {"KeyWithoutReader", toys::key_without_reader, {"configuration"}},
      {"UnknownKeysPass", toys::unknown_keys_pass, {"configuration"}},
      {"DocumentedKeyRefused", toys::documented_key_refused, {"configuration"}},
  };
}

std::vector<LawResult> results_of(const Registry& registry, const std::string& layer) {
  // Without the meter one law cannot see anything.
  memory_meter::install();
  LawSubject subject;
  subject.registry = &registry;
  subject.layer = layer;
  const auto results = check_laws(subject);
  EXPECT_TRUE(results.ok()) << results.status();
  return results.ok() ? *results : std::vector<LawResult>();
}

std::vector<LawResult> results_of(const Mistake& mistake) {
  Registry registry;
  LayerEntry entry = mistake.entry();
  entry.name = "broken";
  registry.add(std::move(entry));
  return results_of(registry, "broken");
}

std::vector<std::string> failures(const std::vector<LawResult>& results) {
  std::vector<std::string> names;
  for (const LawResult& result : results) {
    if (!result.passed) names.push_back(result.law);
  }
  return names;
}

std::string described(const std::vector<LawResult>& results) {
  std::string text;
  for (const LawResult& result : results) {
    if (result.passed) continue;
    text += result.law + ": " + std::to_string(result.measured) + " > " + std::to_string(result.bound) + " " + result.unit +
            ", " + result.note + "\n";
  }
  return text;
}

class BrokenLayers : public testing::TestWithParam<Mistake> {};

TEST_P(BrokenLayers, AreCaught) {
  const std::vector<LawResult> results = results_of(GetParam());
  ASSERT_EQ(results.size(), laws().size());
  const std::vector<std::string> failed = failures(results);
  EXPECT_THAT(failed, Contains(GetParam().broken.front()));
  for (const LawResult& result : results) {
    EXPECT_EQ(result.passed, result.measured <= result.bound) << result.law;
    EXPECT_TRUE(result.passed || !result.note.empty()) << result.law;
  }
  // A mistake may show in several laws; a law that fails beyond those cries wolf.
  EXPECT_THAT(failed, testing::UnorderedElementsAreArray(GetParam().broken)) << described(results);
}

INSTANTIATE_TEST_SUITE_P(Laws, BrokenLayers, testing::ValuesIn(mistakes()),
                         [](const auto& info) { return info.param.name; });

class CorrectToys : public testing::TestWithParam<std::string> {};

TEST_P(CorrectToys, KeepEveryLaw) {
  const Registry registry = toys::toy_registry();
  const std::vector<LawResult> results = results_of(registry, GetParam());
  ASSERT_EQ(results.size(), laws().size());
  EXPECT_THAT(failures(results), IsEmpty()) << described(results);
}

INSTANTIATE_TEST_SUITE_P(Laws, CorrectToys, testing::Values("gated", "plain", "sum", "mlp"),
                         [](const auto& info) { return info.param; });

TEST(Laws, EveryLawHasALayerThatBreaksIt) {
  std::set<std::string> broken;
  for (const Mistake& mistake : mistakes()) broken.insert(mistake.broken.front());
  for (const Law& law : laws()) EXPECT_TRUE(broken.count(law.name)) << law.name;
}

TEST(Laws, SayWhichDoNotApply) {
  const Registry registry = toys::toy_registry();
  const auto applying = [&](const std::string& layer) {
    std::set<std::string> names;
    for (const LawResult& result : results_of(registry, layer)) {
      EXPECT_TRUE(result.applies || !result.note.empty()) << result.law;
      if (result.applies) names.insert(result.law);
    }
    return names;
  };
  EXPECT_EQ(applying("gated").size(), laws().size());
  const std::set<std::string> of_sum = applying("sum"), of_mlp = applying("mlp");
  EXPECT_FALSE(of_sum.count("live bytes"));
  EXPECT_FALSE(of_sum.count("kernel"));
  EXPECT_TRUE(of_sum.count("save and load"));
  EXPECT_FALSE(of_mlp.count("clone and select"));
  EXPECT_TRUE(of_mlp.count("live bytes"));
}

TEST(Laws, ReportAnExceptionAsTheFailureOfEachLaw) {
  Registry registry;
  registry.add(layer_entry<toys::Throws>("throws", "toys", ""));
  const std::vector<LawResult> results = results_of(registry, "throws");
  ASSERT_EQ(results.size(), laws().size());
  for (const LawResult& result : results) {
    const bool runs_nothing = result.law == "initialisation" || result.law == "configuration";
    EXPECT_EQ(result.passed, runs_nothing) << result.law;
    EXPECT_THAT(result.note, runs_nothing ? testing::_ : testing::Matcher<std::string>(HasSubstr("the layer fell over")));
  }
}

TEST(Laws, RefuseALayerThatDoesNotExistOrRefusesItsConfig) {
  const Registry registry = toys::toy_registry();
  LawSubject subject;
  subject.registry = &registry;
  subject.layer = "gate";
  EXPECT_THAT(std::string(check_laws(subject).status().message()), HasSubstr("did you mean \"gated\"?"));
  subject.layer = "gated";
  subject.config.set("kernel", ConfigValue(std::string("slow")));
  EXPECT_THAT(std::string(check_laws(subject).status().message()), HasSubstr("kernel"));
}

}  // namespace
}  // namespace hippodrome::laws_test

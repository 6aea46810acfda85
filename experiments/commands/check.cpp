#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "core/base/text.h"
#include "core/io/toml.h"
#include "core/laws/laws.h"
#include "experiments/program.h"

namespace hippodrome {
namespace {

struct CheckArguments {
  std::vector<std::string> layers, overrides;
  int64_t width = 8;
  bool json = false;
};

void print_row(const LawResult& result) {
  char figure[64] = "";
  if (result.applies) std::snprintf(figure, sizeof figure, "%10.3g ≤ %-8.3g", result.measured, result.bound);
  const char* verdict = !result.applies ? "  –   " : result.passed ? "  ok  " : " FAIL ";
  const bool explain = !result.passed || !result.applies;
  std::printf("  %s %-17s %-22s %s%s%s\n", verdict, result.law.c_str(), figure, result.unit.c_str(),
              explain && !result.unit.empty() ? ": " : "", explain ? result.note.c_str() : "");
}

absl::StatusOr<int> run(const CheckArguments& arguments, const Registry& registry, at::Device device) {
  std::vector<std::string> layers = arguments.layers;
  if (layers.empty()) {
    for (const LayerEntry& entry : registry.layers()) layers.push_back(entry.name);
  }
  ConfigValue config;
  for (const std::string& assignment : arguments.overrides) RETURN_IF_ERROR(apply_override(config, assignment));
  nlohmann::json all = nlohmann::json::array();
  int failures = 0;
  for (const std::string& layer : layers) {
    LawSubject subject;
    subject.registry = &registry;
    subject.layer = layer;
    subject.config = config;
    subject.width = arguments.width;
    subject.device = device;
    ASSIGN_OR_RETURN(const std::vector<LawResult> results, check_laws(subject));
    if (!arguments.json) std::printf("%s\n", layer.c_str());
    for (const LawResult& result : results) {
      failures += result.passed ? 0 : 1;
      if (!arguments.json) print_row(result);
      all.push_back({{"layer", layer}, {"law", result.law}, {"passed", result.passed}, {"applies", result.applies},
                     {"measured", std::isfinite(result.measured) ? nlohmann::json(result.measured) : nlohmann::json("infinite")},
                     {"bound", result.bound}, {"unit", result.unit}, {"note", result.note}});
    }
    std::fflush(stdout);
  }
  if (arguments.json) {
    std::printf("%s\n", all.dump().c_str());
  } else {
    std::printf("\n%zu layers, %zu laws each: %s\n", layers.size(), laws().size(),
                failures == 0 ? "all kept" : (std::to_string(failures) + " broken").c_str());
  }
  return failures == 0 ? 0 : 1;
}

}  // namespace

void add_check(CLI::App& app, Program& program) {
  auto arguments = std::make_shared<CheckArguments>();
  CLI::App* command = app.add_subcommand("check", "Check the laws that every layer keeps, a row per law");
  command->add_option("layers", arguments->layers, "registered layers (default: all)");
  command->add_option("--set", arguments->overrides, "a key of the layer: --set heads=2");
  command->add_option("--width", arguments->width, "D of the test")->check(CLI::Range(1, 4096));
  command->add_flag("--json", arguments->json, "print JSON");
  on_command(command, program, [arguments, &program] { return run(*arguments, program.registry, program.accelerator->device()); });
}

}  // namespace hippodrome

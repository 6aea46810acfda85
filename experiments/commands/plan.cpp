#include <cstdio>
#include <nlohmann/json.hpp>

#include "experiments/plan/plan.h"
#include "experiments/program.h"
#include "experiments/recipe.h"

namespace hippodrome {
namespace plan_command_detail {
namespace {

struct PlanArguments {
  std::vector<std::string> subjects;
  SubjectOptions subject;
  PlanOptions plan;
  bool json = false;
};

absl::StatusOr<int> run(const PlanArguments& arguments, const Program& program) {
  PlanOptions options = arguments.plan;
  if (!program.memory.empty()) {
    ASSIGN_OR_RETURN(options.memory, parse_bytes(program.memory));
  }
  if (arguments.subjects.empty()) {
    return absl::InvalidArgumentError("name a preset, a recipe or a model's folder; `hippodrome list presets` names the presets");
  }
  std::vector<Plan> plans;
  for (const std::string& what : arguments.subjects) {
    ASSIGN_OR_RETURN(const auto subjects, plan_subjects(what, arguments.subject, program.registry));
    for (const PlanSubject& subject : subjects) plans.push_back(make_plan(subject, options));
  }
  if (arguments.json) {
    nlohmann::json all = nlohmann::json::array();
    for (const Plan& plan : plans) all.push_back(plan_json(plan));
    std::printf("%s\n", (all.size() == 1 ? all[0] : all).dump().c_str());
    return 0;
  }
  for (size_t i = 0; i < plans.size(); ++i) std::printf("%s%s", i > 0 ? "\n\n" : "", plan_text(plans[i]).c_str());
  return 0;
}

}  // namespace
}  // namespace plan_command_detail

void add_plan(CLI::App& app, Program& program) {
  auto arguments = std::make_shared<plan_command_detail::PlanArguments>();
  CLI::App* command = app.add_subcommand(
      "plan", "Parameters, FLOPs and memory of models before they are built; --memory is what they must fit into (80GiB)");
  command->add_option("what,--model", arguments->subjects, "presets, recipes, or folders of models");
  command->add_option("--context", arguments->plan.context, "tokens behind which a sequence is decoded (default: 4096)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 32));
  command->add_option("--dtype", arguments->plan.dtype, "of activations and caches: float32 or bfloat16 (default: bfloat16)")
      ->check(CLI::IsMember({"float32", "bfloat16"}));
  command->add_option("--batch", arguments->plan.batch, "rows of a training step (default: 1)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  command->add_option("--length", arguments->plan.length, "tokens of each row (default: 2048)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24));
  command->add_option("--vocabulary", arguments->subject.vocabulary, "of models that take their task's (default: 256)")
      ->check(CLI::PositiveNumber);
  command->add_option("--set", arguments->subject.overrides, "a key of the preset or recipe: --set blocks.mlp.hidden=22016");
  command->add_flag("--json", arguments->json, "print JSON: an object, or a list of them for several models");
  on_command(command, program, [arguments, &program] { return plan_command_detail::run(*arguments, program); });
}

}  // namespace hippodrome

#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "core/data/pairs.h"
#include "core/inference/beam_search.h"
#include "core/io/atomic_file.h"
#include "experiments/checkpoint.h"
#include "experiments/program.h"
#include "experiments/race/search_evaluation.h"
#include "experiments/report/attention_page.h"

namespace hippodrome {
namespace {

struct TranslateArguments {
  std::string folder, attention;
  int64_t batch = 32;
  SearchOptions search;
};

// Lines of standard input as sources. A line of which nothing is left is an empty source.
struct Lines {
  std::vector<std::string> text;
  std::vector<std::vector<int64_t>> ids;
};

absl::StatusOr<Lines> read_lines(const PairTask& task) {
  Lines lines;
  for (std::string line; std::getline(std::cin, line);) {
    absl::StatusOr<std::vector<int64_t>> ids = task.encode_source(line);
    if (!ids.ok()) {
      return absl::InvalidArgumentError("standard input, line " + std::to_string(lines.text.size() + 1) + ": " +
                                        std::string(ids.status().message()));
    }
    lines.text.push_back(std::move(line));
    lines.ids.push_back(*std::move(ids));
  }
  if (lines.text.empty()) return absl::InvalidArgumentError("standard input is empty: give one source a line");
  return lines;
}

absl::StatusOr<int> run(const TranslateArguments& arguments, const Registry& registry, at::Device device) {
  RETURN_IF_ERROR(check(arguments.search));
  ASSIGN_OR_RETURN(const LoadedModel loaded, load_model(arguments.folder, registry));
  loaded.model->parameters().move_to(device);
  const PairTask* task = loaded.task ? loaded.task->as_pairs() : nullptr;
  if (!task) {
    return absl::InvalidArgumentError(loaded.folder.string() +
                                      " was not trained on pairs, such as those of the task translate");
  }
  SearchOptions search = arguments.search;
  search.attention = !arguments.attention.empty();
  ASSIGN_OR_RETURN(const Lines lines, read_lines(*task));
  nlohmann::json samples = nlohmann::json::array();
  const auto count = static_cast<int64_t>(lines.ids.size());
  for (int64_t first = 0; first < count; first += arguments.batch) {
    const auto last = std::min(count, first + arguments.batch);
    const std::vector<std::vector<int64_t>> sources(lines.ids.begin() + first, lines.ids.begin() + last);
    ASSIGN_OR_RETURN(const auto found, beam_search(*loaded.model, sources, search));
    for (size_t i = 0; i < found.size(); ++i) {
      for (const Hypothesis& hypothesis : found[i]) {
        if (search.n_best > 1)
          std::printf("%lld\t%.4f\t", static_cast<long long>(first) + static_cast<long long>(i) + 1, hypothesis.score);
        std::printf("%s\n", task->target_text(hypothesis.ids).c_str());
      }
      if (search.attention && !found[i][0].attention.empty())
        samples.push_back(attention_sample(*task, sources[i], found[i][0]));
    }
    std::fflush(stdout);
  }
  if (search.attention) {
    if (samples.empty()) {
      return absl::InvalidArgumentError("--attention: " + loaded.name +
                                        " attends to no source, so there is nothing to draw");
    }
    RETURN_IF_ERROR(write_file(arguments.attention, attention_page(loaded.name, samples)));
    std::fprintf(stderr, "attention of %lld sentences drawn in %s\n", static_cast<long long>(samples.size()),
                 arguments.attention.c_str());
  }
  return 0;
}

}  // namespace

void add_translate(CLI::App& app, Program& program) {
  auto arguments = std::make_shared<TranslateArguments>();
  CLI::App* command = app.add_subcommand("translate", "Give the targets of the sources on standard input, one a line");
  command
      ->add_option("model,--model,--checkpoint", arguments->folder,
                   "a trial of a race, trained on pairs (RUN/trials/TASK-MODEL-SEED)")
      ->required();
  command->add_option("--beam", arguments->search.beam, "hypotheses kept a source; 1 is greedy");
  command->add_option("--n-best", arguments->search.n_best,
                      "hypotheses printed a source, as line number, score and text");
  command->add_option("--max-length", arguments->search.max_length, "tokens after which a target is cut off");
  command->add_option("--length-penalty", arguments->search.length_penalty, "α of GNMT's score; 0: none");
  command->add_option("--coverage-penalty", arguments->search.coverage_penalty, "β of GNMT's score; 0: none");
  command->add_option("--batch", arguments->batch, "sources side by side")->check(CLI::PositiveNumber);
  command->add_option("--attention", arguments->attention, "an HTML file to draw the attention to the sources in");
  on_command(command, program, [arguments, &program] { return run(*arguments, program.registry, program.accelerator->device()); });
}

}  // namespace hippodrome

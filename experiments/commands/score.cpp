#include <cstdio>
#include <nlohmann/json.hpp>

#include "core/io/atomic_file.h"
#include "core/metrics/bleu.h"
#include "core/metrics/chrf.h"
#include "core/metrics/exact_match.h"
#include "experiments/program.h"

namespace hippodrome {
namespace {

struct ScoreArguments {
  std::string hypotheses, references, tokenizer = "13a";
  bool json = false, sentence_level = false;
};

struct Scores {
  BleuCounts bleu;
  ChrfCounts chrf;
  ExactMatchCounts exact;

  void add(std::string_view hypothesis, std::string_view reference, BleuTokenizer tokenizer) {
    bleu.add(hypothesis, reference, tokenizer);
    chrf.add(hypothesis, reference);
    exact.add(hypothesis, reference);
  }
  Scores& operator+=(const Scores& other) {
    bleu += other.bleu;
    chrf += other.chrf;
    exact += other.exact;
    return *this;
  }
  nlohmann::json json(bool of_one_sentence) const {
    return {{"bleu", bleu.score(/*effective_order=*/of_one_sentence)},
            {"precisions", bleu.precisions()},
            {"brevity_penalty", bleu.brevity_penalty()},
            {"hypothesis_words", bleu.hypothesis_words},
            {"reference_words", bleu.reference_words},
            {"chrf", chrf.chrf()},
            {"chrf++", chrf.chrf_plus_plus()},
            {"exact_match", exact.score()},
            {"sentences", exact.sentences}};
  }
};

// Lines end in LF or CRLF; the last one's end may be missing.
std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    lines.push_back(line);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

absl::StatusOr<int> run(const ScoreArguments& arguments) {
  ASSIGN_OR_RETURN(const std::string hypotheses_text, read_file(arguments.hypotheses));
  ASSIGN_OR_RETURN(const std::string references_text, read_file(arguments.references));
  const std::vector<std::string_view> hypotheses = lines_of(hypotheses_text), references = lines_of(references_text);
  if (hypotheses.size() != references.size()) {
    return absl::InvalidArgumentError(
        arguments.hypotheses + " has " + std::to_string(hypotheses.size()) + " lines and " + arguments.references +
        " has " + std::to_string(references.size()) + ": a hypothesis and its reference must stand on the same line");
  }
  if (hypotheses.empty()) {
    return absl::InvalidArgumentError(arguments.hypotheses + " and " + arguments.references +
                                      " hold no lines: nothing to score");
  }
  const BleuTokenizer tokenizer = arguments.tokenizer == "13a"    ? BleuTokenizer::k13a
                                  : arguments.tokenizer == "none" ? BleuTokenizer::kNone
                                                                  : BleuTokenizer::kChar;
  Scores corpus;
  for (size_t i = 0; i < hypotheses.size(); ++i) {
    Scores sentence;
    sentence.add(hypotheses[i], references[i], tokenizer);
    if (arguments.sentence_level) std::printf("%s\n", sentence.json(/*of_one_sentence=*/true).dump().c_str());
    corpus += sentence;
  }
  if (arguments.sentence_level) return 0;
  if (arguments.json) {
    std::printf("%s\n", corpus.json(/*of_one_sentence=*/false).dump().c_str());
    return 0;
  }
  const auto precisions = corpus.bleu.precisions();
  std::printf("BLEU         %6.2f   precisions %.1f/%.1f/%.1f/%.1f, brevity penalty %.3f, %lld words for %lld\n",
              corpus.bleu.score(), precisions[0], precisions[1], precisions[2], precisions[3],
              corpus.bleu.brevity_penalty(), static_cast<long long>(corpus.bleu.hypothesis_words),
              static_cast<long long>(corpus.bleu.reference_words));
  std::printf("chrF2        %6.2f\nchrF2++      %6.2f\n", corpus.chrf.chrf(), corpus.chrf.chrf_plus_plus());
  std::printf("exact match  %6.2f %% of %lld lines\n", corpus.exact.score(),
              static_cast<long long>(corpus.exact.sentences));
  return 0;
}

}  // namespace

void add_score(CLI::App& app, Program& program) {
  auto arguments = std::make_shared<ScoreArguments>();
  CLI::App* command = app.add_subcommand("score", "Score translations against references: BLEU, chrF, exact match");
  command->add_option("--hypotheses", arguments->hypotheses, "a file with a translation per line")->required();
  command->add_option("--references", arguments->references, "a file with the right translation on the same lines")
      ->required();
  command->add_option("--tokenizer", arguments->tokenizer, "BLEU's words: 13a, none (by white space) or char")
      ->check(CLI::IsMember({"13a", "none", "char"}));
  command->add_flag("--sentence-level", arguments->sentence_level,
                    "print JSON for each line instead, its BLEU of the orders it has");
  command->add_flag("--json", arguments->json, "print JSON");
  on_command(command, program, [arguments] { return run(*arguments); });
}

}  // namespace hippodrome

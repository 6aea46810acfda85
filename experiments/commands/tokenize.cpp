#include <cstdio>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "core/data/tokenizer/tokenizer.h"
#include "experiments/program.h"

namespace hippodrome {
namespace {

struct TokenizeArguments {
  std::string path;
  bool json = false;
};

// What one line of JSON asks for: the ids of a text, or the text of ids.
absl::StatusOr<std::string> answer(const Tokenizer& tokenizer, const std::string& line) {
  const auto question = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (question.is_string()) return nlohmann::json(tokenizer.encode_framed(question.get<std::string>())).dump();
  std::vector<int64_t> ids;
  bool all_ids = question.is_array();
  for (size_t i = 0; all_ids && i < question.size(); ++i) {
    all_ids = question[i].is_number_integer();
    if (all_ids) ids.push_back(question[i].get<int64_t>());
  }
  if (!all_ids) return absl::InvalidArgumentError("--json: a line is neither a string nor a list of ids");
  // JSON holds UTF-8 only; bytes that are not become U+FFFD.
  return nlohmann::json(tokenizer.decode(ids)).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}

absl::StatusOr<int> run(const TokenizeArguments& arguments) {
  ASSIGN_OR_RETURN(const auto tokenizer, load_tokenizer(arguments.path));
  if (arguments.json) {
    for (std::string line; std::getline(std::cin, line);) {
      ASSIGN_OR_RETURN(const std::string words, answer(*tokenizer, line));
      std::puts(words.c_str());
    }
    return 0;
  }
  const std::string text(std::istreambuf_iterator<char>(std::cin), {});
  const char* separator = "";
  for (const int64_t id : tokenizer->encode_framed(text)) {
    std::printf("%s%lld", separator, static_cast<long long>(id));
    separator = " ";
  }
  std::putchar('\n');
  return 0;
}

}  // namespace

void add_tokenize(CLI::App& app, Program& program) {
  auto arguments = std::make_shared<TokenizeArguments>();
  CLI::App* command = app.add_subcommand("tokenize", "Print the token ids of the text on standard input");
  command->add_option("tokenizer", arguments->path, "a folder or file: tokenizer.json, tokenizer.model, rwkv_vocab*.txt")->required();
  command->add_flag("--json", arguments->json, "each line in is a string or a list of ids; each line out is the other");
  on_command(command, program, [arguments] { return run(*arguments); });
}

}  // namespace hippodrome

#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>

#include <cstdio>
#include <iostream>
#include <iterator>
#include <optional>
#include <sstream>

#include "core/data/tokenizer/tokenizer.h"
#include "core/inference/decoder.h"
#include "core/inference/sampling.h"
#include "experiments/checkpoint.h"
#include "experiments/program.h"

namespace hippodrome {
namespace {

struct GenerateArguments {
  std::string folder, prompt, prompt_ids, tokenizer;
  int64_t new_tokens = 256, seed = 1;
  bool greedy = false, print_ids = false;
  SamplingOptions sampling;
};

// "1 2 3" -> ids, each below the vocabulary's size.
absl::StatusOr<std::vector<int64_t>> parse_ids(const std::string& text, int64_t vocabulary) {
  std::vector<int64_t> ids;
  std::istringstream stream(text);
  for (std::string word; stream >> word;) {
    char* end = nullptr;
    const long long id = std::strtoll(word.c_str(), &end, 10);
    if (*end != '\0' || id < 0 || id >= vocabulary) {
      return absl::InvalidArgumentError("--prompt-ids: \"" + word + "\" is not a token id below " + std::to_string(vocabulary));
    }
    ids.push_back(id);
  }
  return ids;
}

// What the model reads text by: --tokenizer, the one that a trial's text went through, bytes, or what lies in the model's folder;
// null where there is none of these.
absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer_of(const GenerateArguments& arguments, const LoadedModel& loaded) {
  std::string path = arguments.tokenizer;
  if (path.empty() && loaded.trial) {
    const ConfigValue* named = loaded.trial->task_keys.find("tokenizer");
    if (named && named->string()) path = *named->string();
    if (path.empty() && loaded.task && loaded.task->vocabulary() == 256) return byte_tokenizer();
  }
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = load_tokenizer(path.empty() ? loaded.folder : std::filesystem::path(path));
  if (path.empty() && absl::IsNotFound(tokenizer.status())) return nullptr;
  if (tokenizer.ok() && (*tokenizer)->vocabulary() > loaded.model->vocabulary()) {
    return absl::InvalidArgumentError("the tokenizer has " + std::to_string((*tokenizer)->vocabulary()) + " ids and the model " +
                                      std::to_string(loaded.model->vocabulary()) + ": give the model's own by --tokenizer");
  }
  return tokenizer;
}

absl::StatusOr<std::vector<int64_t>> prompt_tokens(const GenerateArguments& arguments, const LoadedModel& loaded,
                                                   const Tokenizer* tokenizer, const std::string& text) {
  if (!arguments.prompt_ids.empty()) return parse_ids(arguments.prompt_ids, loaded.model->vocabulary());
  if (!tokenizer) {
    return absl::InvalidArgumentError(loaded.folder.string() +
                                      " holds no tokenizer: give one by --tokenizer, or token ids by --prompt-ids \"1 2 3\"");
  }
  return tokenizer->encode_framed(text);
}

void print(const std::string& text) { std::fwrite(text.data(), 1, text.size(), stdout); }

absl::StatusOr<int> run(const GenerateArguments& arguments, const Registry& registry, Accelerator& accelerator) {
  SamplingOptions sampling = arguments.sampling;
  if (arguments.greedy) sampling.temperature = 0.0;
  RETURN_IF_ERROR(check(sampling));
  ASSIGN_OR_RETURN(const LoadedModel loaded, load_model(arguments.folder, registry));
  if (loaded.model->encoder()) {
    return absl::InvalidArgumentError(loaded.folder.string() + " holds a model with an encoder: use hippodrome translate");
  }
  // Where ids go in and ids come out, no tokenizer is needed, nor in the way.
  std::unique_ptr<Tokenizer> tokenizer;
  if (arguments.prompt_ids.empty() || !arguments.print_ids) {
    ASSIGN_OR_RETURN(tokenizer, tokenizer_of(arguments, loaded));
  }
  std::string text = arguments.prompt;
  if (text == "-") text.assign(std::istreambuf_iterator<char>(std::cin), {});
  ASSIGN_OR_RETURN(const std::vector<int64_t> prompt, prompt_tokens(arguments, loaded, tokenizer.get(), text));
  if (prompt.empty()) return absl::InvalidArgumentError("the prompt is empty: give at least one token");

  std::optional<TextStream> words;
  if (tokenizer && !arguments.print_ids) words.emplace(*tokenizer);
  if (words && arguments.prompt != "-") print(text);
  const auto size = static_cast<int64_t>(prompt.size());
  loaded.model->parameters().move_to(accelerator.device());
  Decoder decoder(*loaded.model, /*rows=*/1, size + arguments.new_tokens, accelerator);
  RandomStream stream(static_cast<uint64_t>(arguments.seed), "generate");
  Tensor logits = decoder.read(at::tensor(prompt, at::kLong).unsqueeze(0));
  for (int64_t i = 0; i < arguments.new_tokens; ++i) {
    const int64_t token = sample(logits[0], sampling, stream);
    if (words) {
      print(words->add(token));
    } else {
      std::printf(i ? " %lld" : "%lld", static_cast<long long>(token));
    }
    std::fflush(stdout);
    if (i + 1 < arguments.new_tokens) logits = decoder.read(at::tensor({token}, at::kLong).unsqueeze(0));
  }
  if (words) print(words->finish());
  std::putchar('\n');
  return 0;
}

}  // namespace

void add_generate(CLI::App& app, Program& program) {
  auto arguments = std::make_shared<GenerateArguments>();
  CLI::App* command = app.add_subcommand("generate", "Continue a prompt with a trained model");
  add_model_option(command, arguments->folder);
  command->add_option("--prompt", arguments->prompt, "text to continue; - reads standard input");
  command->add_option("--prompt-ids", arguments->prompt_ids, "token ids to continue, e.g. \"1 2 3\"");
  command->add_option("--tokenizer", arguments->tokenizer, "tokenizer.json, tokenizer.model, rwkv_vocab*.txt, or a folder with one");
  command->add_option("--new-tokens", arguments->new_tokens, "tokens to add")->check(CLI::PositiveNumber);
  command->add_option("--temperature", arguments->sampling.temperature, "0 is greedy");
  command->add_option("--top-k", arguments->sampling.top_k, "keep the k likeliest tokens; 0: all");
  command->add_option("--top-p", arguments->sampling.top_p, "keep the smallest set with this probability");
  command->add_flag("--greedy", arguments->greedy, "always the likeliest token");
  command->add_flag("--print-ids", arguments->print_ids, "print token ids, space separated");
  command->add_option("--seed", arguments->seed, "of the draws")->check(CLI::NonNegativeNumber);
  on_command(command, program, [arguments, &program] { return run(*arguments, program.registry, *program.accelerator); });
}

}  // namespace hippodrome

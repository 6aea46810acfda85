#include <ATen/core/grad_mode.h>

#include <cstdio>

#include "core/io/safetensors.h"
#include "experiments/checkpoint.h"
#include "experiments/program.h"

namespace hippodrome {
namespace {

struct LogitsArguments {
  std::string folder, tokens, out, dtype = "float32";
};

absl::StatusOr<Tensor> read_tokens(const std::string& file, int64_t vocabulary) {
  ASSIGN_OR_RETURN(const auto tensors, read_safetensors(file));
  const auto found = tensors.find("tokens");
  if (found == tensors.end()) return absl::InvalidArgumentError(file + ": there is no tensor \"tokens\"");
  const Tensor& tokens = found->second;
  if (tokens.dim() != 2 || tokens.scalar_type() != at::kLong || tokens.numel() == 0) {
    return absl::InvalidArgumentError(file + ": \"tokens\" must be int64 [rows, length], neither of them 0");
  }
  const int64_t lowest = tokens.min().item().toLong(), highest = tokens.max().item().toLong();
  if (lowest < 0 || highest >= vocabulary) {
    return absl::InvalidArgumentError(file + ": \"tokens\" holds the id " + std::to_string(lowest < 0 ? lowest : highest) +
                                      "; ids of this model are 0 to " + std::to_string(vocabulary - 1));
  }
  return tokens;
}

absl::StatusOr<int> run(const LogitsArguments& arguments, const Registry& registry, at::Device device) {
  ASSIGN_OR_RETURN(const at::ScalarType dtype, parse_dtype(arguments.dtype));
  ASSIGN_OR_RETURN(const LoadedModel loaded, load_model(arguments.folder, registry, dtype));
  loaded.model->parameters().move_to(device);
  if (loaded.model->encoder()) {
    return absl::InvalidArgumentError(loaded.folder.string() + " holds a model with an encoder: use hippodrome translate");
  }
  LanguageModel& model = *loaded.model;
  ASSIGN_OR_RETURN(const Tensor tokens, read_tokens(arguments.tokens, model.vocabulary()));
  const at::NoGradGuard no_grad;
  const Context context = Context::plain(tokens.size(0), tokens.size(1), /*start=*/0, device);
  const Tensor logits = model.logits(model.hidden(tokens.to(device), context, /*state=*/nullptr));
  RETURN_IF_ERROR(write_safetensors(arguments.out, {{"logits", logits}}));
  std::printf("logits [%lld, %lld, %lld] in %s written to %s\n", static_cast<long long>(logits.size(0)),
              static_cast<long long>(logits.size(1)), static_cast<long long>(logits.size(2)), arguments.dtype.c_str(),
              arguments.out.c_str());
  return 0;
}

}  // namespace

void add_logits(CLI::App& app, Program& program) {
  auto arguments = std::make_shared<LogitsArguments>();
  CLI::App* command = app.add_subcommand("logits", "Write a model's logits for given tokens");
  add_model_option(command, arguments->folder);
  command->add_option("--tokens", arguments->tokens, "a safetensors file with \"tokens\", int64 [B, L]")->required();
  command->add_option("--out", arguments->out, "a safetensors file to write, with \"logits\" [B, L, V]")->required();
  command->add_option("--dtype", arguments->dtype, "of the computation and the result")
      ->check(CLI::IsMember({"float32", "float64"}));
  on_command(command, program, [arguments, &program] { return run(*arguments, program.registry, program.accelerator->device()); });
}

}  // namespace hippodrome

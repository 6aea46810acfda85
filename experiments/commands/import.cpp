#include <cstdio>

#include "architectures/huggingface/checkpoint.h"
#include "architectures/huggingface/folder.h"
#include "core/base/text.h"
#include "experiments/model_folder.h"
#include "experiments/program.h"

namespace hippodrome {
namespace {

struct ImportArguments {
  std::string folder, out;
};

absl::StatusOr<int> run(const ImportArguments& arguments, const Registry& registry) {
  ASSIGN_OR_RETURN(const huggingface::Import read, huggingface::import_folder(arguments.folder, registry, at::kFloat));
  LanguageModel& model = *read.model;
  // As it was on disk; a mixture needs the widest.
  const at::ScalarType dtype = read.stored == "bfloat16"  ? at::kBFloat16
                               : read.stored == "float16" ? at::kHalf
                                                            : at::kFloat;
  RETURN_IF_ERROR(write_model_folder(arguments.out, {read.description.config, read.description.json}, model, dtype));
  RETURN_IF_ERROR(huggingface::copy_companions(arguments.folder, arguments.out));
  const ModelConfig& config = read.description.config;
  std::printf("%s: %s, %lld parameters (%s), %s on disk\n", arguments.folder.c_str(),
              read.description.family->name.c_str(), static_cast<long long>(model.parameters().count()),
              format_count(static_cast<double>(model.parameters().count())).c_str(), read.stored.c_str());
  std::printf("%s x %lld, width %lld, vocabulary %lld, head %s\n", join(config.pattern, " ").c_str(),
              static_cast<long long>(config.repeats), static_cast<long long>(config.width),
              static_cast<long long>(config.vocabulary), config.tied ? "tied" : "untied");
  std::printf("written to %s\n", arguments.out.c_str());
  return 0;
}

}  // namespace

void add_import(CLI::App& app, Program& program) {
  auto arguments = std::make_shared<ImportArguments>();
  CLI::App* command = app.add_subcommand("import", "Convert a model from a Hugging Face folder");
  command->add_option("folder", arguments->folder, "holds config.json and model.safetensors, or shards with an index")->required();
  command->add_option("--out", arguments->out, "the folder to write")->required();
  on_command(command, program, [arguments, &program] { return run(*arguments, program.registry); });
}

}  // namespace hippodrome

#include <cstdio>

#include "architectures/huggingface/checkpoint.h"
#include "architectures/huggingface/folder.h"
#include "experiments/checkpoint.h"
#include "experiments/program.h"
#include "experiments/recipe.h"

namespace hippodrome {
namespace {

struct ExportArguments {
  std::string folder, out, dtype = "float32", shard_size = "5GB";
};

absl::StatusOr<int> run(const ExportArguments& arguments, const Registry& registry) {
  huggingface::ExportOptions options;
  ASSIGN_OR_RETURN(options.dtype, parse_dtype(arguments.dtype));
  ASSIGN_OR_RETURN(options.shard_bytes, parse_bytes(arguments.shard_size));
  ASSIGN_OR_RETURN(const LoadedModel loaded, load_model(arguments.folder, registry, at::kFloat));
  options.source = loaded.source;
  ASSIGN_OR_RETURN(const huggingface::Family* family,
                   huggingface::export_folder(arguments.out, loaded.config, *loaded.model, registry, options));
  RETURN_IF_ERROR(huggingface::copy_companions(loaded.folder, arguments.out));
  std::printf("%s written to %s as %s, %lld parameters in %s\n", loaded.name.c_str(), arguments.out.c_str(),
              family->name.c_str(), static_cast<long long>(loaded.model->parameters().count()), arguments.dtype.c_str());
  return 0;
}

}  // namespace

void add_export(CLI::App& app, Program& program) {
  auto arguments = std::make_shared<ExportArguments>();
  CLI::App* command = app.add_subcommand("export", "Write a model as a folder that Hugging Face's transformers loads");
  add_model_option(command, arguments->folder);
  command->add_option("--out", arguments->out, "the folder to write")->required();
  command->add_option("--dtype", arguments->dtype, "of the weights on disk")->check(CLI::IsMember({"float32", "bfloat16"}));
  command->add_option("--shard-size", arguments->shard_size, "weights of more than this are split, e.g. 5GB");
  on_command(command, program, [arguments, &program] { return run(*arguments, program.registry); });
}

}  // namespace hippodrome

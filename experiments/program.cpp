#include "experiments/program.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include <cstdio>
#include <exception>
#include <thread>

#include "architectures/registry.h"
#include "core/layer/plugin.h"
#include "core/tensor/matmul.h"
#include "experiments/process.h"
#include "experiments/recipe.h"

namespace hippodrome {
namespace {

absl::Status set_up(Program& program) {
  for (const std::string& plugin : program.plugins) RETURN_IF_ERROR(load_plugin(plugin, program.registry));
  const int64_t threads = program.threads > 0 ? program.threads : std::max(1u, std::thread::hardware_concurrency());
  at::set_num_threads(static_cast<int>(threads));
  if (!program.matmul.empty()) {
    ASSIGN_OR_RETURN(const MatrixLibrary library, parse_matrix_library(program.matmul));
    set_matrix_library(library);
  }
  ASSIGN_OR_RETURN(const at::Device device, parse_device(program.device));
  ASSIGN_OR_RETURN(program.accelerator, find_accelerator(device));
  // LibTorch's convolutions would round their factors unasked.
  at::globalContext().setAllowTF32CuBLAS(program.tf32);
  at::globalContext().setAllowTF32CuDNN(program.tf32);
  if (!program.memory.empty()) {
    ASSIGN_OR_RETURN(const int64_t bytes, parse_bytes(program.memory));
    program.accelerator->set_limit(bytes);
  }
  return absl::OkStatus();
}

// Mistakes of the caller exit with 2, everything else with 1.
int exit_code_of(const absl::Status& status) {
  return absl::IsInvalidArgument(status) || absl::IsNotFound(status) || absl::IsAlreadyExists(status) ? kExitUsage
                                                                                                      : kExitFailed;
}

int fail(const std::string& sentence, int code) {
  std::fprintf(stderr, "hippodrome: %s\n", sentence.c_str());
  return code;
}

}  // namespace

void on_command(CLI::App* command, Program& program, CommandBody body) {
  command->callback([&program, body = std::move(body)] {
    const absl::Status ready = set_up(program);
    const absl::StatusOr<int> code = ready.ok() ? body() : absl::StatusOr<int>(ready);
    program.exit_code = code.ok() ? *code : fail(std::string(code.status().message()), exit_code_of(code.status()));
  });
}

int run_program(int argc, char** argv) {
  Program program;
  register_all(program.registry);
  program.executable = std::filesystem::read_symlink("/proc/self/exe");

  CLI::App app("Hippodrome: sequence-model architectures on one track.");
  app.require_subcommand(1);
  app.fallthrough();
  app.add_option("--threads", program.threads, "CPU threads (default: all cores)")->check(CLI::PositiveNumber);
  app.add_option("--matmul", program.matmul, "matrix library: mkl or onednn (default: the faster)");
  app.add_option("--memory", program.memory, "cap on the tensor memory of the device, e.g. 8GiB");
  app.add_option("--device", program.device, "where models compute: cpu, cuda, cuda:1 (default: cpu)");
  app.add_flag("--tf32", program.tf32, "let float32 products of a GPU round their factors to 10 bits");
  app.add_option("--plugin", program.plugins, "a shared library with more layers (may be repeated)");
  add_race(app, program);
  add_scale(app, program);
  add_train(app, program);
  add_evaluate(app, program);
  add_generate(app, program);
  add_translate(app, program);
  add_import(app, program);
  add_export(app, program);
  add_logits(app, program);
  add_tokenize(app, program);
  add_score(app, program);
  add_report(app, program);
  add_list(app, program);
  add_plan(app, program);
  add_check(app, program);
  add_new(app, program);
  add_trial(app, program);
  add_point(app, program);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  } catch (const c10::Error& error) {
    return fail(error.what_without_backtrace(), kExitFailed);
  } catch (const std::exception& error) {
    return fail(error.what(), kExitFailed);
  }
  return program.exit_code;
}

}  // namespace hippodrome

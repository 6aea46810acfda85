#include <cctype>
#include <cstdio>
#include <filesystem>

#include "core/io/atomic_file.h"
#include "experiments/program.h"
#include "experiments/scaffold.h"

namespace hippodrome {
namespace {

namespace fs = std::filesystem;

struct NewArguments {
  std::string name, family = "recurrent", root = ".";
};

bool is_identifier(const std::string& name) {
  if (name.empty() || !std::islower(static_cast<unsigned char>(name[0]))) return false;
  for (const char c : name) {
    if (!std::islower(static_cast<unsigned char>(c)) && !std::isdigit(static_cast<unsigned char>(c)) && c != '_') return false;
  }
  return true;
}

// Puts `line` before the line that holds `marker`.
absl::Status insert_before(std::string& text, const std::string& marker, const std::string& line, const fs::path& file) {
  const size_t at = text.find(marker);
  if (at == std::string::npos) {
    return absl::FailedPreconditionError(file.string() + " has lost its line \"" + marker + "\": add \"" + line + "\" by hand");
  }
  text.insert(text.rfind('\n', at) + 1, line + "\n");
  return absl::OkStatus();
}

absl::StatusOr<int> run(const NewArguments& arguments, const Registry& registry) {
  for (const std::string& word : {arguments.name, arguments.family}) {
    if (!is_identifier(word)) {
      return absl::InvalidArgumentError("\"" + word + "\" cannot name a layer or family: use lower-case letters, digits and _, a letter first");
    }
  }
  if (registry.layer(arguments.name).ok()) {
    return absl::AlreadyExistsError("a layer called \"" + arguments.name + "\" is registered already: choose another name");
  }
  const fs::path list = fs::path(arguments.root) / "architectures" / "registry.cpp";
  if (!fs::exists(list)) {
    return absl::NotFoundError(list.string() + " does not exist: run this in the project's folder, or give it with --root");
  }
  const fs::path folder = fs::path(arguments.root) / "architectures" / arguments.family / arguments.name;
  if (fs::exists(folder)) return absl::AlreadyExistsError(folder.string() + " exists already: choose another name");

  // Everything is prepared before anything is written.
  ASSIGN_OR_RETURN(std::string registration, read_file(list));
  const Scaffold scaffold(arguments.name, arguments.family);
  RETURN_IF_ERROR(insert_before(registration, "// includes of new layers go above this line", scaffold.include_line(), list));
  RETURN_IF_ERROR(insert_before(registration, "// new layers go above this line", scaffold.registry_line(), list));
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return absl::PermissionDeniedError("cannot make the folder " + folder.string() + ": " + error.message());
  RETURN_IF_ERROR(write_file(folder / (arguments.name + ".h"), scaffold.header()));
  RETURN_IF_ERROR(write_file(folder / (arguments.name + ".cpp"), scaffold.source()));
  RETURN_IF_ERROR(write_file(folder / "README.md", scaffold.readme()));
  RETURN_IF_ERROR(write_file(list, registration));
  std::printf(
      "Wrote %s/{%s.h,%s.cpp,README.md} and two lines in %s.\n"
      "Next: make build, then build/release/bin/hippodrome check %s\n",
      folder.c_str(), arguments.name.c_str(), arguments.name.c_str(), list.c_str(), arguments.name.c_str());
  return 0;
}

}  // namespace

void add_new(CLI::App& app, Program& program) {
  auto arguments = std::make_shared<NewArguments>();
  CLI::App* command = app.add_subcommand("new", "Scaffold a layer: a folder with a working gated recurrence, and its registry line");
  command->add_option("name", arguments->name, "the layer's name, e.g. my_layer")->required();
  command->add_option("--family", arguments->family, "folder under architectures/");
  command->add_option("--root", arguments->root, "the project's folder");
  on_command(command, program, [arguments, &program] { return run(*arguments, program.registry); });
}

}  // namespace hippodrome

#include "experiments/race/race.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/base/text.h"
#include "core/io/atomic_file.h"
#include "core/io/json_config.h"
#include "core/measure/provenance.h"
#include "core/tensor/matmul.h"
#include "experiments/process.h"
#include "experiments/race/cells.h"
#include "experiments/race/progress.h"
#include "experiments/race/summary.h"
#include "experiments/report/report.h"

namespace hippodrome {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

// What the children must share, decided once per run and kept with the recipe, so that a resumed run computes alike.
struct RunSettings {
  int64_t threads = 1;
  std::string matmul;
  std::string device = "cpu";
  bool tf32 = false;
  bool with_trials = true;
  bool with_scale = true;
  void bind(Fields& fields) {
    fields.integer("threads", threads, {1, 4096}, "of every child");
    fields.text("matmul", matmul, "matrix library");
    fields.text("device", device, "where models compute");
    fields.flag("tf32", tf32, "whether float32 products of a GPU may round");
    fields.flag("with_trials", with_trials, "the race's own cells");
    fields.flag("with_scale", with_scale, "the cells over sequence lengths");
  }
};

fs::path new_run_folder(const RaceOptions& options, const std::string& name) {
  if (!options.out.empty()) return options.out;
  const std::time_t now = std::time(nullptr);
  std::tm fields{};
  localtime_r(&now, &fields);
  char stamp[32];
  std::strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", &fields);
  fs::path folder = fs::path("runs") / (name + "-" + stamp);
  for (int copy = 2; fs::exists(folder); ++copy) folder = fs::path("runs") / (name + "-" + stamp + "-" + std::to_string(copy));
  return folder;
}

std::string last_line(const fs::path& file) {
  std::ifstream stream(file);
  std::string last;
  for (std::string line; std::getline(stream, line);) {
    if (!line.empty()) last = line;
  }
  return last;
}

// Why a cell that wrote no rows has none: a status and a sentence.
std::pair<std::string, std::string> failure_of(const ProcessEnd& end, const Cell& cell) {
  if (end.timed_out) return {"timeout", "ended after " + format_duration(cell.seconds)};
  if (end.signal == 9) return {"out_of_memory", "killed by the system (signal 9), most likely for want of memory"};
  if (end.signal != 0) return {"failed", "ended by signal " + std::to_string(end.signal)};
  const std::string sentence = last_line(cell.folder / "log.txt");
  return {"failed", sentence.empty() ? "ended with exit code " + std::to_string(end.exit_code) : sentence};
}

std::string outcome_of(const std::vector<json>& rows) {
  std::string text;
  for (const json& row : rows) {
    if (!text.empty()) text += ", ";
    const std::string status = row.value("status", "failed");
    if (row.value("kind", "") == "scale") text += row.value("phase", "") + " ";
    if (status != "ok") {
      text += status;
      if (rows.size() == 1) text += ": " + row.value("message", "");
    } else if (row.value("kind", "") == "trial") {
      char number[64];
      std::snprintf(number, sizeof number, "%s %.4f", row["metric"]["name"].get<std::string>().c_str(),
                    row["metric"]["value"].get<double>());
      text += number;
    } else {
      text += format_count(row["tokens_per_second"].get<double>()) + " tokens/s";
    }
  }
  return text;
}

class Race {
 public:
  Race(const Recipe& recipe, const RaceOptions& options, const RunSettings& settings, fs::path folder,
       const Registry& registry, const Accelerator& accelerator)
      : recipe_(recipe),
        options_(options),
        settings_(settings),
        folder_(std::move(folder)),
        registry_(registry),
        accelerator_(accelerator) {}

  // Finds what is wrong with the recipe; the first thing to call.
  absl::Status lay_out() {
    ASSIGN_OR_RETURN(cells_, lay_out_cells(recipe_, folder_, settings_.with_trials, settings_.with_scale, registry_));
    return absl::OkStatus();
  }

  absl::StatusOr<int> run() {
    ProgressDisplay display(cells_.size());
    for (size_t i = 0; i < cells_.size(); ++i) {
      if (cell_rows(cells_[i]).ok()) continue;
      ASSIGN_OR_RETURN(const bool finished, run_cell(i, display));
      if (!finished) {
        display.note("Stopped. Continue with: " + options_.executable.string() + " race --resume " + folder_.string());
        return kExitInterrupted;
      }
      RETURN_IF_ERROR(collect_rows().status());
    }
    return report(display);
  }

 private:
  // False when interrupted.
  absl::StatusOr<bool> run_cell(size_t index, ProgressDisplay& display) {
    const Cell& cell = cells_[index];
    display.start_cell(index, cell.label);
    std::vector<std::string> arguments = {options_.executable.string(), cell.command, cell.folder.string(), "--threads",
                                          std::to_string(settings_.threads), "--matmul", settings_.matmul,
                                          "--device", settings_.device};
    if (settings_.tf32) arguments.push_back("--tf32");
    if (!recipe_.memory.empty()) arguments.insert(arguments.end(), {"--memory", recipe_.memory});
    for (const std::string& plugin : options_.plugins) arguments.insert(arguments.end(), {"--plugin", plugin});
    const auto on_line = [&](std::string_view line) {
      const json data = json::parse(line, nullptr, /*allow_exceptions=*/false);
      if (!data.is_object()) return;
      display.update({data.value("step", int64_t{0}), data.value("steps", int64_t{0}), data.value("loss", 0.0),
                      data.value("metric", 0.0), data.value("tokens_per_second", 0.0), data.value("seconds", 0.0),
                      data.value("phase", std::string("train"))});
    };
    ASSIGN_OR_RETURN(const ProcessEnd end,
                     run_process(arguments, (cell.folder / "log.txt").string(), cell.seconds, on_line));
    auto rows = cell_rows(cell);
    if (!rows.ok()) {
      if (end.interrupted || end.exit_code == kExitInterrupted) return false;
      const auto [status, sentence] = failure_of(end, cell);
      rows = failed_cell_rows(cell, accelerator_, status, sentence);
      RETURN_IF_ERROR(rows.status());
      RETURN_IF_ERROR(write_cell_rows(cell.folder, *rows));
    }
    display.finish_cell(outcome_of(*rows));
    return true;
  }

  // rows.jsonl: the run's own row, those of all finished cells, and what follows from them. Always written anew and whole.
  absl::StatusOr<std::vector<json>> collect_rows() const {
    std::vector<json> rows = {{{"kind", "run"},
                               {"name", recipe_.name},
                               {"description", recipe_.description},
                               {"recipe", json::parse(recipe_.source.json())},
                               {"provenance", provenance(accelerator_)}}};
    for (const Cell& cell : cells_) {
      const auto found = cell_rows(cell);
      if (found.ok()) rows.insert(rows.end(), found->begin(), found->end());
    }
    const std::vector<json> derived = slopes_and_crossovers(rows);
    rows.insert(rows.end(), derived.begin(), derived.end());
    std::string text;
    for (const json& row : rows) text += row.dump() + "\n";
    RETURN_IF_ERROR(write_file(folder_ / "rows.jsonl", text));
    return rows;
  }

  absl::StatusOr<int> report(ProgressDisplay& display) const {
    ASSIGN_OR_RETURN(const std::vector<json> rows, collect_rows());
    ASSIGN_OR_RETURN(const ReportAssets assets, find_report_assets(options_.executable));
    RETURN_IF_ERROR(write_report(folder_, assets));
    if (options_.json) {
      std::printf("%s\n", json{{"folder", folder_.string()}, {"rows", rows}}.dump().c_str());
    } else {
      std::printf("\n%s\nReport: %s\n", summary_tables(rows).c_str(), fs::absolute(folder_ / "report.html").c_str());
    }
    const auto unfinished = std::count_if(rows.begin(), rows.end(), [](const json& row) {
      return row.contains("status") && row["status"] != "ok";
    });
    if (unfinished == 0) return kExitOk;
    display.note(std::to_string(unfinished) + " cell(s) have no result; their rows say why");
    return kExitIncomplete;
  }

  const Recipe& recipe_;
  const RaceOptions& options_;
  RunSettings settings_;
  fs::path folder_;
  const Registry& registry_;
  const Accelerator& accelerator_;
  std::vector<Cell> cells_;
};

}  // namespace

absl::StatusOr<int> run_race(const Recipe& recipe, const RaceOptions& options, const Registry& registry) {
  RunSettings settings;
  settings.threads = recipe.threads > 0 ? recipe.threads : std::max(1u, std::thread::hardware_concurrency());
  at::set_num_threads(static_cast<int>(settings.threads));
  settings.matmul = recipe.matmul == "auto" ? matrix_library_name(measure_matrix_library()) : recipe.matmul;
  ASSIGN_OR_RETURN(const MatrixLibrary library, parse_matrix_library(settings.matmul));
  set_matrix_library(library);
  settings.device = options.device;
  settings.tf32 = options.tf32;
  settings.with_trials = options.with_trials && !recipe.tasks.empty();
  settings.with_scale = options.with_scale && (recipe.has_scale || !options.with_trials);
  if (!settings.with_trials && !settings.with_scale) {
    return absl::InvalidArgumentError("there is nothing to run: add [[tasks]] or [scale] to the recipe");
  }
  const fs::path folder = new_run_folder(options, recipe.name);
  if (fs::exists(folder / "recipe.json")) {
    return absl::AlreadyExistsError(folder.string() + " already holds a run: continue it with --resume, or choose another --out");
  }
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return absl::PermissionDeniedError("cannot make the folder " + folder.string() + ": " + error.message());
  ASSIGN_OR_RETURN(const at::Device device, parse_device(settings.device));
  ASSIGN_OR_RETURN(const Accelerator* accelerator, find_accelerator(device));
  Race race(recipe, options, settings, folder, registry, *accelerator);
  RETURN_IF_ERROR(race.lay_out());
  // A folder with a recipe is a run; a recipe that was refused leaves none behind.
  RETURN_IF_ERROR(write_file(folder / "settings.json", write_config(settings).json() + "\n"));
  RETURN_IF_ERROR(write_file(folder / "recipe.json", recipe.source.json() + "\n"));
  return race.run();
}

absl::StatusOr<int> resume_race(const fs::path& folder, RaceOptions options, const Registry& registry) {
  if (!fs::exists(folder / "recipe.json") || !fs::exists(folder / "settings.json")) {
    return absl::NotFoundError(folder.string() + " is not the folder of a run: it has no recipe.json and settings.json");
  }
  ASSIGN_OR_RETURN(ConfigValue source, read_json_config(folder / "recipe.json"));
  ASSIGN_OR_RETURN(const Recipe recipe, recipe_from(std::move(source), {}, registry));
  ASSIGN_OR_RETURN(const ConfigValue table, read_json_config(folder / "settings.json"));
  ASSIGN_OR_RETURN(const RunSettings settings, read_config<RunSettings>(table, "settings"));
  at::set_num_threads(static_cast<int>(settings.threads));
  ASSIGN_OR_RETURN(const MatrixLibrary library, parse_matrix_library(settings.matmul));
  set_matrix_library(library);
  options.out = folder;
  ASSIGN_OR_RETURN(const at::Device device, parse_device(settings.device));
  ASSIGN_OR_RETURN(const Accelerator* accelerator, find_accelerator(device));
  Race race(recipe, options, settings, folder, registry, *accelerator);
  RETURN_IF_ERROR(race.lay_out());
  return race.run();
}

}  // namespace hippodrome

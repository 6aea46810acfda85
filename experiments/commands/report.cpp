#include "experiments/report/report.h"

#include <cstdio>

#include "experiments/program.h"

namespace hippodrome {

void add_report(CLI::App& app, Program& program) {
  auto folder = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("report", "Rebuild report.html from the rows of a run");
  command->add_option("run", *folder, "the run's folder")->required();
  on_command(command, program, [folder, &program]() -> absl::StatusOr<int> {
    ASSIGN_OR_RETURN(const ReportAssets assets, find_report_assets(program.executable));
    RETURN_IF_ERROR(write_report(*folder, assets));
    std::printf("Report: %s\n", std::filesystem::absolute(std::filesystem::path(*folder) / "report.html").c_str());
    return 0;
  });
}

}  // namespace hippodrome

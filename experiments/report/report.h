// report.html: the results of a run as one self-contained page, to be opened from disk, sent by mail or kept.
#pragma once

#include <filesystem>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

namespace hippodrome {

// Where the parts of the page are.
struct ReportAssets {
  std::filesystem::path page;    // page.html; names the scripts and the style beside it by {{file:NAME}}
  std::filesystem::path plotly;  // plotly.min.js
};

// The assets that the build puts at <prefix>/share/hippodrome/report, for a program at <prefix>/bin/NAME (links are
// followed). NotFound, naming the file, where one is missing.
absl::StatusOr<ReportAssets> find_report_assets(const std::filesystem::path& executable_path);

// Reads `rows.jsonl` (rows.h) of the run directory and writes `report.html` beside it, replacing an older one in one
// step: a reader sees the old page or the new one. The page refers to nothing outside itself; its content security
// policy forbids it to. Errors are those of read_rows(), and unreadable assets or an unwritable directory, by name.
absl::Status write_report(const std::filesystem::path& run_directory, const ReportAssets& assets);

}  // namespace hippodrome

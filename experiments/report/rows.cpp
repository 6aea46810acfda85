#include "experiments/report/rows.h"

#include <fstream>
#include <iterator>
#include <set>
#include <utility>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

namespace hippodrome {
namespace rows_file {
namespace {

using nlohmann::json;

// The fields without which a row cannot be placed in the report.
struct RequiredFields {
  const char* kind;
  std::vector<const char*> texts;
  std::vector<const char*> numbers;
};

const std::vector<RequiredFields>& required_fields() {
  static const std::vector<RequiredFields> fields = {
      {"run", {"name"}, {}},
      {"trial", {"status", "model", "task"}, {}},
      {"scale", {"status", "model", "phase"}, {"length"}},
      {"slope", {"model", "phase"}, {"exponent"}},
      {"crossover", {"phase", "quantity", "faster", "slower"}, {}},
  };
  return fields;
}

// What is wrong with a row, as the end of a sentence; empty: nothing. `known` says whether the kind is in the table.
std::string defect(const json& row, bool& known) {
  known = false;
  if (!row.is_object()) return "a row must be a JSON object {…}";
  const auto kind = row.find("kind");
  if (kind == row.end() || !kind->is_string()) return "a row needs a text field \"kind\"";
  for (const RequiredFields& fields : required_fields()) {
    if (*kind != fields.kind) continue;
    known = true;
    for (const char* name : fields.texts) {
      const auto field = row.find(name);
      if (field == row.end() || !field->is_string()) {
        return absl::StrCat("a row of kind \"", fields.kind, "\" needs a text field \"", name, "\"");
      }
    }
    for (const char* name : fields.numbers) {
      const auto field = row.find(name);
      if (field == row.end() || !field->is_number()) {
        return absl::StrCat("a row of kind \"", fields.kind, "\" needs a number \"", name, "\"");
      }
    }
  }
  return "";
}

// The parser's complaint from its column on: "[json.exception.parse_error.101] parse error at line 1, column 16: …"
// without the parser's own names.
std::string plain_message(const json::exception& error) {
  const std::string message = error.what();
  const auto column = message.find("column");
  if (column != std::string::npos) return message.substr(column);
  const auto end = message.find("] ");
  return end == std::string::npos ? message : message.substr(end + 2);
}

}  // namespace
}  // namespace rows_file

absl::StatusOr<Rows> read_rows(const std::filesystem::path& run_directory) {
  const std::filesystem::path path = run_directory / kRowsFile;
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return absl::NotFoundError(absl::StrCat("cannot read ", path.string(),
                                            ": give a directory that `hippodrome race` or `hippodrome scale` has "
                                            "written"));
  }
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (file.bad()) return absl::DataLossError(absl::StrCat("reading ", path.string(), " failed half way"));

  Rows result;
  std::set<std::string> unknown_kinds;
  std::size_t begin = 0;
  for (int line = 1; begin < text.size(); ++line) {
    const std::size_t newline = text.find('\n', begin);
    const bool complete = newline != std::string::npos;
    const std::string row_text = text.substr(begin, complete ? newline - begin : std::string::npos);
    begin = complete ? newline + 1 : text.size();
    if (row_text.find_first_not_of(" \t\r") == std::string::npos) continue;

    nlohmann::json row;
    try {
      row = nlohmann::json::parse(row_text);
    } catch (const nlohmann::json::exception& error) {
      if (!complete) {
        result.warnings.push_back(absl::StrCat("Line ", line, " of ", kRowsFile,
                                               " was cut off by an interrupted run and is left out."));
        continue;
      }
      return absl::InvalidArgumentError(absl::StrCat(path.string(), ":", line,
                                                     ": not a line of JSON: ", rows_file::plain_message(error)));
    }
    bool known = false;
    const std::string defect = rows_file::defect(row, known);
    if (!defect.empty()) return absl::InvalidArgumentError(absl::StrCat(path.string(), ":", line, ": ", defect));
    if (!known) unknown_kinds.insert(row["kind"].get<std::string>());
    result.rows.push_back(std::move(row));
  }
  if (!unknown_kinds.empty()) {
    result.warnings.push_back(absl::StrCat("Rows of a kind this page does not know are not shown, only offered for ",
                                           "download: ", absl::StrJoin(unknown_kinds, ", "), "."));
  }
  if (result.rows.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat(path.string(), " holds no complete row yet: run or resume the race or scale first"));
  }
  return result;
}

}  // namespace hippodrome

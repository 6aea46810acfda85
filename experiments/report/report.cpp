#include "experiments/report/report.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <system_error>
#include <unistd.h>
#include <utility>

#include <absl/strings/str_cat.h>
#include <nlohmann/json.hpp>

#include "experiments/report/rows.h"

namespace hippodrome {
namespace report_page {
namespace {

using nlohmann::json;

absl::StatusOr<std::string> read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot read ", path.string(), ", a part of the report page"));
  std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (file.bad()) return absl::DataLossError(absl::StrCat("reading ", path.string(), " failed half way"));
  return text;
}

// Text as HTML content or attribute value.
std::string escape_html(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&': escaped += "&amp;"; break;
      case '<': escaped += "&lt;"; break;
      case '>': escaped += "&gt;"; break;
      case '"': escaped += "&quot;"; break;
      case '\'': escaped += "&#39;"; break;
      default: escaped += c;
    }
  }
  return escaped;
}

// JSON that may stand inside a <script> element. There the HTML parser looks for "</script" and "<!--" whatever the
// quotes around them; '<', '>' and '&' occur in JSON only inside strings, where a \u escape says the same. U+2028 and
// U+2029 end a line in older JavaScript; other readers of the page may choke on them too.
std::string script_json(const json& value) {
  const std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  std::string escaped;
  escaped.reserve(text.size() + text.size() / 16);
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '<') {
      escaped += "\\u003c";
    } else if (c == '>') {
      escaped += "\\u003e";
    } else if (c == '&') {
      escaped += "\\u0026";
    } else if (c == '\xE2' && (text.compare(i, 3, "\xE2\x80\xA8") == 0 || text.compare(i, 3, "\xE2\x80\xA9") == 0)) {
      escaped += text[i + 2] == '\xA8' ? "\\u2028" : "\\u2029";
      i += 2;
    } else {
      escaped += c;
    }
  }
  return escaped;
}

// A script or style sheet ends at the first "</script" or "</style", so such a file cannot be embedded as it is.
absl::StatusOr<std::string> read_embeddable(const std::filesystem::path& path) {
  absl::StatusOr<std::string> text = read_file(path);
  if (!text.ok()) return text;
  std::string lower = *text;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  for (const char* end : {"</script", "</style"}) {
    if (lower.find(end) != std::string::npos) {
      return absl::InvalidArgumentError(absl::StrCat(path.string(), " contains \"", end,
                                                     "\" and so cannot be embedded in the report page"));
    }
  }
  return text;
}

// What stands for {{NAME}} in page.html.
class Parts {
 public:
  Parts(const ReportAssets& assets, const Rows& rows) : assets_(assets), rows_(rows) {}

  absl::StatusOr<std::string> operator()(std::string_view name) const {
    constexpr std::string_view kFile = "file:";
    if (name == "title") return escape_html(title());
    if (name == "plotly") return read_embeddable(assets_.plotly);
    if (name == "rows") return script_json(rows_.rows);
    if (name == "warnings") return script_json(rows_.warnings);
    if (name.substr(0, kFile.size()) == kFile) {
      return read_embeddable(assets_.page.parent_path() / std::string(name.substr(kFile.size())));
    }
    return absl::InvalidArgumentError(
        absl::StrCat(assets_.page.string(), ": nothing is known to stand for {{", std::string(name), "}}"));
  }

 private:
  std::string title() const {
    std::string title = "Hippodrome report";
    for (const json& row : rows_.rows) {
      if (row["kind"] == "run") title = row["name"].get<std::string>();
    }
    return title;
  }

  const ReportAssets& assets_;
  const Rows& rows_;
};

// Replaces every {{NAME}} of the template once; what was put in is not looked at again, so rows may contain braces.
absl::StatusOr<std::string> fill(const std::string& page, const Parts& parts) {
  std::string filled;
  std::size_t at = 0;
  while (true) {
    const std::size_t open = page.find("{{", at);
    const std::size_t close = open == std::string::npos ? open : page.find("}}", open);
    if (close == std::string::npos) break;
    const absl::StatusOr<std::string> part = parts(std::string_view(page).substr(open + 2, close - open - 2));
    if (!part.ok()) return part.status();
    filled.append(page, at, open - at);
    filled += *part;
    at = close + 2;
  }
  filled.append(page, at, std::string::npos);
  return filled;
}

// Writes a file so that its readers see the old content or all of the new.
absl::Status write_by_rename(const std::filesystem::path& path, const std::string& content) {
  std::filesystem::path temporary = path;
  temporary += absl::StrCat(".", getpid(), ".tmp");
  std::error_code ignored;
  {
    std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
    file.write(content.data(), static_cast<std::streamsize>(content.size()));
    file.close();
    if (!file) {
      const std::string reason = std::strerror(errno);
      std::filesystem::remove(temporary, ignored);
      return absl::UnavailableError(absl::StrCat("cannot write ", temporary.string(), ": ", reason));
    }
  }
  std::error_code error;
  std::filesystem::rename(temporary, path, error);
  if (error) {
    std::filesystem::remove(temporary, ignored);
    return absl::UnavailableError(absl::StrCat("cannot write ", path.string(), ": ", error.message()));
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace report_page

absl::StatusOr<ReportAssets> find_report_assets(const std::filesystem::path& executable_path) {
  std::error_code error;
  std::filesystem::path program = std::filesystem::canonical(executable_path, error);
  if (error) program = std::filesystem::absolute(executable_path);
  const std::filesystem::path folder =
      (program.parent_path() / ".." / "share" / "hippodrome" / "report").lexically_normal();
  ReportAssets assets{folder / "page.html", folder / "plotly.min.js"};
  for (const std::filesystem::path& path : {assets.page, assets.plotly}) {
    if (!std::filesystem::exists(path, error)) {
      return absl::NotFoundError(absl::StrCat("the report page needs ", path.string(),
                                              ", which is missing: build the target report_assets"));
    }
  }
  return assets;
}

absl::Status write_report(const std::filesystem::path& run_directory, const ReportAssets& assets) {
  const absl::StatusOr<Rows> rows = read_rows(run_directory);
  if (!rows.ok()) return rows.status();
  const absl::StatusOr<std::string> page = report_page::read_file(assets.page);
  if (!page.ok()) return page.status();
  const absl::StatusOr<std::string> filled = report_page::fill(*page, report_page::Parts(assets, *rows));
  if (!filled.ok()) return filled.status();
  return report_page::write_by_rename(run_directory / "report.html", *filled);
}

}  // namespace hippodrome

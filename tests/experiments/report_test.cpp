#include "experiments/report/report.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <sstream>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "experiments/report/rows.h"
#include "tests/test_folder.h"

namespace hippodrome {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void write(const fs::path& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

int count(const std::string& text, const std::string& part) {
  int found = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++found;
  return found;
}

// The JSON that the page carries in the script element with this id.
json embedded(const std::string& page, const std::string& id) {
  const std::string open = "<script type=\"application/json\" id=\"" + id + "\">";
  const auto begin = page.find(open) + open.size();
  return json::parse(page.substr(begin, page.find("</script>", begin) - begin));
}

const char kTrial[] = R"({"kind":"trial","status":"ok","model":"mamba","task":"parity"})";

class ReportTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = testing_folder::own_folder();
    fs::remove_all(directory_);
    fs::create_directories(run());
    // A stand-in for plotly, so that what these tests find in the page is ours.
    assets_ = {tests_folder().parent_path().parent_path() / "experiments/report/page/page.html",
               directory_ / "plotly.min.js"};
    write(assets_.plotly, "window.Plotly = {};");
  }
  void TearDown() override { fs::remove_all(directory_); }

  static fs::path tests_folder() { return testing_folder::source_folder() / "tests/experiments"; }
  fs::path run() const { return directory_ / "run"; }
  void write_rows(const std::string& text) const { write(run() / kRowsFile, text); }
  std::string page() const { return read(run() / "report.html"); }
  std::string failure() const {
    const absl::Status status = write_report(run(), assets_);
    EXPECT_FALSE(status.ok());
    EXPECT_FALSE(fs::exists(run() / "report.html"));
    return std::string(status.message());
  }

  fs::path directory_;
  ReportAssets assets_;
};

TEST_F(ReportTest, PageHoldsEveryRowUnchanged) {
  for (const char* file : {"report_rows.jsonl", "report_pair_rows.jsonl"}) {
    SCOPED_TRACE(file);
    const std::string text = read(tests_folder() / "testdata" / file);
    write_rows(text);
    ASSERT_TRUE(write_report(run(), assets_).ok());
    const json rows = embedded(page(), "rows");
    ASSERT_EQ(static_cast<int>(rows.size()), count(text, "\n"));
    std::istringstream lines(text);
    std::string line;
    for (const json& row : rows) {
      std::getline(lines, line);
      EXPECT_EQ(row, json::parse(line));
    }
    EXPECT_TRUE(embedded(page(), "warnings").empty());
    const std::string name = rows[0]["name"];
    EXPECT_NE(page().find("<title>" + name + "</title>"), std::string::npos);
  }
}

// A script that page.html does not name, or names behind the one that starts the page, would be missed only in a browser.
TEST_F(ReportTest, PageHoldsEveryScriptOfItsFolderAndStartsWithTheLast) {
  write_rows(std::string(kTrial) + "\n");
  ASSERT_TRUE(write_report(run(), assets_).ok());
  const std::string text = page(), main = read(assets_.page.parent_path() / "main.js");
  int scripts = 0;
  for (const auto& entry : fs::directory_iterator(assets_.page.parent_path())) {
    if (entry.path().extension() != ".js") continue;
    const std::string script = read(entry.path());
    EXPECT_EQ(count(text, "<script>" + script + "</script>"), 1) << entry.path();
    EXPECT_LE(text.find(script), text.find(main)) << entry.path() << " comes behind what starts the page";
    ++scripts;
  }
  EXPECT_GE(scripts, 13);
}

// Labels of attention are text of a corpus and of what a model says: they may look like markup.
TEST_F(ReportTest, HostileLabelsOfAttentionCannotLeaveTheirElement) {
  write_rows(read(tests_folder() / "testdata/report_pair_rows.jsonl"));
  ASSERT_TRUE(write_report(run(), assets_).ok());
  const std::string text = page(), open = "id=\"rows\">";
  const auto begin = text.find(open) + open.size();
  const std::string block = text.substr(begin, text.find("</script>", begin) - begin);
  EXPECT_EQ(block.find_first_of("<>&"), std::string::npos);
  const json sample = json::parse(block)[1]["attention"][1];
  EXPECT_EQ(sample["source"], json::array({"▁</script>", "<b>&amp;", "\\xC3"}));
  EXPECT_EQ(sample["target"], json::array({"<!--"}));
  EXPECT_EQ(sample["weights"].size(), sample["target"].size() + 1) << "the row of a target that was cut off";
  EXPECT_TRUE(sample["weights"][1][2].is_null());
}

TEST_F(ReportTest, PageRefersToNothingOutsideItself) {
  write_rows(read(tests_folder() / "testdata/report_rows.jsonl"));
  ASSERT_TRUE(write_report(run(), assets_).ok());
  const std::string text = page();
  EXPECT_NE(text.find("window.Plotly = {};"), std::string::npos);
  EXPECT_NE(text.find("Content-Security-Policy"), std::string::npos);
  EXPECT_NE(text.find("default-src 'none'"), std::string::npos);
  // No element that loads, no call that fetches, no address but the name of the SVG namespace.
  const std::regex loading("<(script|img|iframe|link|object|embed)[^>]*\\s(src|href|data)\\s*=");
  EXPECT_FALSE(std::regex_search(text, loading));
  for (const char* call : {"fetch(", "XMLHttpRequest", "importScripts", "@import", "url(", "sendBeacon", "WebSocket"}) {
    EXPECT_EQ(count(text, call), 0) << call;
  }
  EXPECT_EQ(count(text, "http://") + count(text, "https://"), count(text, "http://www.w3.org/2000/svg"));
  EXPECT_EQ(count(text, "{{"), 0) << "a part of the page was not filled in";
}

TEST_F(ReportTest, HostileTextCannotLeaveItsElement) {
  const json hostile = "</script><script>alert(1)</script><!-- {{plotly}} \u2028\u2029 & \" ' \\ é";
  const json row = {{"kind", "trial"}, {"status", "ok"}, {"model", hostile}, {"task", hostile}};
  const json run_row = {{"kind", "run"}, {"name", hostile}};
  write_rows(run_row.dump() + "\n");
  ASSERT_TRUE(write_report(run(), assets_).ok());
  const int scripts = count(page(), "<script");
  write_rows(run_row.dump() + "\n" + row.dump() + "\n");
  ASSERT_TRUE(write_report(run(), assets_).ok());
  EXPECT_EQ(count(page(), "<script"), scripts);
  EXPECT_EQ(count(page(), "</script"), scripts);
  EXPECT_EQ(count(page(), "<!--"), 0);
  EXPECT_EQ(count(page(), "<script>alert"), 0);
  EXPECT_EQ(count(page(), "window.Plotly = {};"), 1) << "braces in a row were taken for a part of the page";
  const json rows = embedded(page(), "rows");
  EXPECT_EQ(rows[1]["model"], hostile);
  const std::string text = page();
  const auto begin = text.find("id=\"rows\">");
  const std::string block = text.substr(begin, text.find("</script>", begin) - begin);
  EXPECT_EQ(count(block, "\xE2\x80\xA8") + count(block, "\xE2\x80\xA9"), 0);
}

TEST_F(ReportTest, TornLastLineIsLeftOutWithAWarning) {
  write_rows(std::string(kTrial) + "\n" + R"({"kind":"trial","status":"o)");
  ASSERT_TRUE(write_report(run(), assets_).ok());
  EXPECT_EQ(embedded(page(), "rows").size(), 1u);
  const json warnings = embedded(page(), "warnings");
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].get<std::string>().find("Line 2"), std::string::npos);
}

TEST_F(ReportTest, WholeLastLineNeedsNoNewline) {
  write_rows(kTrial);
  ASSERT_TRUE(write_report(run(), assets_).ok());
  EXPECT_EQ(embedded(page(), "rows").size(), 1u);
  EXPECT_TRUE(embedded(page(), "warnings").empty());
}

TEST_F(ReportTest, MalformedLineIsNamed) {
  write_rows(std::string(kTrial) + "\n{\"kind\":\"trial\",\n" + kTrial + "\n");
  EXPECT_NE(failure().find("rows.jsonl:2: not a line of JSON"), std::string::npos) << failure();
}

TEST_F(ReportTest, TornLineWithANewlineIsMalformed) {
  write_rows(std::string(kTrial) + "\n{\"kind\":\n");
  EXPECT_NE(failure().find("rows.jsonl:2"), std::string::npos);
}

TEST_F(ReportTest, RowWithoutNeededFieldsIsNamed) {
  write_rows("\n[1]\n");
  EXPECT_NE(failure().find("rows.jsonl:2: a row must be a JSON object"), std::string::npos);
  write_rows("{\"model\":\"mamba\"}\n");
  EXPECT_NE(failure().find("rows.jsonl:1: a row needs a text field \"kind\""), std::string::npos);
  write_rows(R"({"kind":"trial","status":"ok","model":7,"task":"parity"})"
             "\n");
  EXPECT_NE(failure().find("a row of kind \"trial\" needs a text field \"model\""), std::string::npos);
  write_rows(R"({"kind":"scale","status":"ok","model":"a","phase":"train"})"
             "\n");
  EXPECT_NE(failure().find("a row of kind \"scale\" needs a number \"length\""), std::string::npos);
}

TEST_F(ReportTest, UnknownKindIsKeptWithAWarning) {
  write_rows(std::string(kTrial) + "\n{\"kind\":\"probe\"}\n");
  ASSERT_TRUE(write_report(run(), assets_).ok());
  EXPECT_EQ(embedded(page(), "rows").size(), 2u);
  EXPECT_NE(embedded(page(), "warnings").dump().find("probe"), std::string::npos);
}

TEST_F(ReportTest, EmptyRunDirectorySaysWhatToDo) {
  EXPECT_NE(failure().find("rows.jsonl"), std::string::npos);
  EXPECT_NE(failure().find("hippodrome race"), std::string::npos);
  EXPECT_EQ(write_report(run(), assets_).code(), absl::StatusCode::kNotFound);
  write_rows("\n");
  EXPECT_NE(failure().find("holds no complete row"), std::string::npos);
  EXPECT_EQ(write_report(run(), assets_).code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(ReportTest, PageIsReplacedInOneStepAndNothingIsLeftBehind) {
  write_rows(std::string(kTrial) + "\n");
  write(run() / "report.html", "old");
  // A reader that opened the old page goes on reading the old page: it was not written over.
  std::ifstream reader(run() / "report.html");
  ASSERT_TRUE(write_report(run(), assets_).ok());
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(reader), {}), "old");
  EXPECT_NE(page(), "old");
  std::set<std::string> files;
  for (const auto& entry : fs::directory_iterator(run())) files.insert(entry.path().filename().string());
  EXPECT_EQ(files, (std::set<std::string>{"report.html", "rows.jsonl"}));
}

TEST_F(ReportTest, FailedWriteLeavesTheOldPage) {
  write_rows(std::string(kTrial) + "\n");
  // A folder cannot be replaced by a file, whoever asks.
  fs::create_directories(run() / "report.html" / "inside");
  const absl::Status status = write_report(run(), assets_);
  EXPECT_FALSE(status.ok());
  EXPECT_NE(std::string(status.message()).find("report.html"), std::string::npos);
  EXPECT_TRUE(fs::exists(run() / "report.html" / "inside"));
  EXPECT_EQ(std::distance(fs::directory_iterator(run()), {}), 2);
}

TEST_F(ReportTest, ScriptThatWouldEndItsElementIsRefused) {
  write_rows(std::string(kTrial) + "\n");
  write(assets_.plotly, "const a = '</SCRIPT>';");
  EXPECT_NE(failure().find("plotly.min.js"), std::string::npos);
}

TEST_F(ReportTest, AssetsAreFoundBesideTheProgram) {
  const fs::path program = directory_ / "prefix/bin/hippodrome", share = directory_ / "prefix/share/hippodrome/report";
  fs::create_directories(program.parent_path());
  write(program, "");
  const auto missing = find_report_assets(program);
  ASSERT_FALSE(missing.ok());
  EXPECT_NE(std::string(missing.status().message()).find("page.html"), std::string::npos);
  fs::create_directories(share);
  write(share / "page.html", "");
  write(share / "plotly.min.js", "");
  fs::create_symlink(program, directory_ / "link");
  const auto found = find_report_assets(directory_ / "link");
  ASSERT_TRUE(found.ok()) << found.status().ToString();
  EXPECT_EQ(fs::canonical(found->page), fs::canonical(share / "page.html"));
  EXPECT_EQ(fs::canonical(found->plotly), fs::canonical(share / "plotly.min.js"));
}

}  // namespace
}  // namespace hippodrome

#include "core/data/parallel_corpus.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "core/io/atomic_file.h"
#include "tests/core/data/gettext_files.h"
#include "tests/test_folder.h"

namespace hippodrome::parallel_corpus_test {
namespace {

using gettext_files::catalogue;
using gettext_files::Messages;

class ParallelCorpusFolder : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(folder_ / "de/LC_MESSAGES"); }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void write(const std::string& name, const std::string& bytes) { ASSERT_TRUE(write_file(folder_ / name, bytes).ok()); }
  void write_catalogue(const std::string& domain, const Messages& messages) {
    write("de/LC_MESSAGES/" + domain + ".mo", catalogue(messages));
  }
  ParallelCorpus read(const std::string& name = "") {
    const auto corpus = read_parallel_corpus(path(name), "de");
    EXPECT_TRUE(corpus.ok()) << corpus.status();
    return corpus.ok() ? *corpus : ParallelCorpus{};
  }
  std::string error_of(const std::string& name) {
    return std::string(read_parallel_corpus(path(name), "de").status().message());
  }
  std::string path(const std::string& name) const { return (name.empty() ? folder_ : folder_ / name).string(); }

  const std::filesystem::path folder_ = testing_folder::own_folder();
};

// 40 catalogues of 25 messages that say whose they are, and five that all catalogues have.
TEST_F(ParallelCorpusFolder, CataloguesGoToSplitsAsAWhole) {
  for (int domain = 0; domain < 40; ++domain) {
    Messages messages;
    const std::string name =
        std::string(1, static_cast<char>('a' + domain / 20)) + static_cast<char>('a' + domain % 20);
    for (int i = 0; i < 25; ++i)
      messages.emplace_back(absl::StrCat("message ", i, " of ", name), absl::StrCat("Nachricht ", i, " von ", name));
    for (int i = 0; i < 5; ++i) messages.emplace_back(absl::StrCat("Open ", i), absl::StrCat("Auf ", i, " ", name));
    write_catalogue(name, messages);
  }
  const ParallelCorpus corpus = read();
  EXPECT_EQ(corpus.files, 40);
  EXPECT_EQ(corpus.split_by, "catalogue");
  EXPECT_EQ(corpus.source, "messages of programs, English to de");
  EXPECT_EQ(corpus.duplicates, 39 * 5);
  EXPECT_EQ(corpus.dropped, 0);
  // A twentieth is two catalogues.
  EXPECT_EQ(corpus.split(Split::kTest).size(), 2u * 25);
  EXPECT_EQ(corpus.split(Split::kValidation).size(), 2u * 25);
  EXPECT_EQ(corpus.split(Split::kTrain).size(), 36u * 25 + 5);
  std::map<std::string, std::set<size_t>> splits_of_domain;
  std::set<std::string> sources;
  for (size_t split = 0; split < 3; ++split) {
    for (const Sentences& pair : corpus.splits[split]) {
      EXPECT_TRUE(sources.insert(pair.source).second) << pair.source;
      if (pair.source.starts_with("message"))
        splits_of_domain[pair.source.substr(pair.source.size() - 2)].insert(split);
    }
  }
  EXPECT_EQ(splits_of_domain.size(), 40u);
  for (const auto& [domain, splits] : splits_of_domain) EXPECT_EQ(splits.size(), 1u) << domain;
}

TEST_F(ParallelCorpusFolder, ANewVersionStaysInItsSplit) {
  std::set<std::string> tested;
  for (const std::string version : {"", "20", "30", "4.0"}) {
    std::filesystem::remove_all(folder_ / "de/LC_MESSAGES");
    std::filesystem::create_directories(folder_ / "de/LC_MESSAGES");
    for (const std::string name : {"gtk", "bash", "tar", "sed"}) {
      write_catalogue(name + version, {{"This is " + name, "Das ist " + name}});
    }
    const ParallelCorpus corpus = read();
    ASSERT_EQ(corpus.split(Split::kTest).size(), 1u);
    tested.insert(corpus.split(Split::kTest)[0].source);
  }
  EXPECT_EQ(tested.size(), 1u);
}

TEST_F(ParallelCorpusFolder, CountsWhatItLeavesOut) {
  write_catalogue("bash", {{"Open", "Auf"}, {"%s", "%s da"}, {"Name", "Name"}, {"broken", "\xFF"}});
  write_catalogue("tar", {{"Close", "Zu"}, {"Exit", "Ende"}});
  write_catalogue("sed", {{"Text", "Wortlaut"}});
  write_catalogue("iso_3166-1", {{"Germany", "Deutschland"}});
  write("de/LC_MESSAGES/odd.mo", "no catalogue");
  write("de/LC_MESSAGES/notes.txt", "no catalogue");
  std::filesystem::create_symlink("tar.mo", folder_ / "de/LC_MESSAGES/older-tar.mo");
  const ParallelCorpus corpus = read();
  EXPECT_EQ(corpus.files, 3);
  EXPECT_EQ(corpus.unreadable_files, 1);
  EXPECT_EQ(corpus.dropped, 3);
  EXPECT_EQ(corpus.duplicates, 0);
  size_t pairs = 0;
  for (const auto& split : corpus.splits) pairs += split.size();
  EXPECT_EQ(pairs, 4u);
}

TEST_F(ParallelCorpusFolder, SaysWhichPackagesBringCatalogues) {
  const std::string error = error_of("");
  EXPECT_NE(error.find("there are no messages translated to \"de\" in " + path("de/LC_MESSAGES") +
                       ": install Debian packages"),
            std::string::npos)
      << error;
  EXPECT_NE(error.find("path-exclude"), std::string::npos);
  EXPECT_EQ(error.find('\n'), std::string::npos);
  EXPECT_NE(error_of("none.tsv").find("there is no file or folder " + path("none.tsv")), std::string::npos);
}

TEST_F(ParallelCorpusFolder, LinesAreSplitByTheirSource) {
  std::string lines;
  for (int i = 0; i < 1000; ++i) absl::StrAppend(&lines, "sentence ", i, "\tSatz  ", i, i % 2 == 0 ? "\r\n" : "\n");
  write("pairs.tsv", lines + "sentence 7\tein anderer Satz");
  const ParallelCorpus corpus = read("pairs.tsv");
  EXPECT_EQ(corpus.duplicates, 1);
  EXPECT_EQ(corpus.split_by, "sentence");
  EXPECT_EQ(corpus.source, path("pairs.tsv"));
  EXPECT_NEAR(static_cast<double>(corpus.split(Split::kTrain).size()), 900, 40);
  EXPECT_NEAR(static_cast<double>(corpus.split(Split::kValidation).size()), 50, 28);
  EXPECT_EQ(corpus.splits[0].size() + corpus.splits[1].size() + corpus.splits[2].size(), 1000u);
  for (const auto& split : corpus.splits) {
    for (const Sentences& pair : split) EXPECT_EQ("Satz " + pair.source.substr(9), pair.target);
  }
}

TEST_F(ParallelCorpusFolder, AWrongLineIsNamed) {
  for (const std::string wrong : {"no tab", "\tno source", "no translation\t", " \tblank", "one\ttwo\tthree", ""}) {
    write("pairs.tsv", "one\teins\ntwo\tzwei\n" + wrong + "\nfour\tvier\n");
    EXPECT_EQ(error_of("pairs.tsv"), path("pairs.tsv") + ":3: expected a source, one tab and its translation") << wrong;
  }
}

}  // namespace
}  // namespace hippodrome::parallel_corpus_test

#include "core/data/text.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "absl/strings/str_cat.h"
#include "core/data/corpus.h"
#include "tests/core/data/batches.h"
#include "tests/core/data/tokenizer/tiny.h"

namespace hippodrome {
namespace {

namespace fs = std::filesystem;
using testing_data::batch_of;
using testing_data::error_of;
using testing_data::ids;
using testing_data::made;
using testing_data::table;
using testing_data::with;

// A folder of its own for each test.
class Text : public testing::Test {
 protected:
  void SetUp() override {
    folder = fs::path(testing::TempDir()) / absl::StrCat("hippodrome_text_", getpid(), "_",
                                                         testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::create_directories(folder);
  }
  void TearDown() override { fs::remove_all(folder); }

  std::string write(const std::string& name, const std::string& bytes) const {
    fs::create_directories((folder / name).parent_path());
    std::ofstream(folder / name, std::ios::binary) << bytes;
    return (folder / name).string();
  }
  std::string write_ids(const std::string& name, int64_t count, int64_t first) const {
    std::string bytes;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t id = first + i;
      bytes.push_back(static_cast<char>(id & 255));
      bytes.push_back(static_cast<char>(id >> 8));
    }
    return write(name, bytes);
  }
  std::unique_ptr<Task> from(const fs::path& path, int64_t length) const {
    return made("text", with(table("path", path.string()), "length", length));
  }
  // 400 files that say their number, most in folders.
  void write_many() const {
    for (int i = 0; i < 400; ++i) {
      write(absl::StrCat("d", i % 7, "/f", i), absl::StrCat("<", i, ">"));
    }
  }

  fs::path folder;
};

std::string bytes_of(const Corpus& corpus, Split split) { return corpus.split(split).bytes; }

TEST_F(Text, FoldersAreSplitByFile) {
  write_many();
  write(".hidden/f", "<hidden>");
  write(".hidden_file", "<hidden>");
  write("empty", "");
  write("binary", std::string("<bin\0ary>", 9));
  const Corpus corpus = read_corpus(folder.string(), 0, 0).value();
  EXPECT_EQ(corpus.binary_files, 1);
  std::set<std::string> seen;
  for (const Split split : {Split::kTrain, Split::kValidation, Split::kTest}) {
    // Every file is whole, in one split only, and ends with a zero byte.
    const std::string bytes = bytes_of(corpus, split);
    size_t begin = 0;
    for (size_t end = bytes.find('\0'); end != std::string::npos; begin = end + 1, end = bytes.find('\0', begin)) {
      EXPECT_TRUE(seen.insert(bytes.substr(begin, end - begin)).second);
    }
    EXPECT_EQ(begin, bytes.size());
  }
  EXPECT_EQ(seen.size(), 400u);
  EXPECT_EQ(seen.count("<hidden>"), 0u);
  EXPECT_NEAR(corpus.split(Split::kTrain).files, 360, 25);
  EXPECT_NEAR(corpus.split(Split::kTest).files, 20, 14);
}

// Where files go and where windows start is part of the task's version, as the generators of tasks_test.cpp are.
TEST_F(Text, KeepsItsSplitsAndWindowsUntilTheVersionChanges) {
  write_many();
  const auto task = from(folder, 8);
  EXPECT_EQ(*task->provenance().find("version")->integer(), 1);
  EXPECT_EQ(*task->provenance().find("test")->find("sha256")->string(),
            "6ddd7b10d90b8f5b55995b0de028be4f3f41e40165602142a30b27907ea93d73");
  std::string first;
  for (const int64_t id : ids(batch_of(*task, {Split::kTrain, 1, 0, 3, 8}).tokens)) {
    first.push_back(id == 0 ? ' ' : static_cast<char>(id));
  }
  EXPECT_EQ(first, "7> <324>> <124> 249> <25");
}

TEST_F(Text, ANewFileMovesNoOther) {
  write_many();
  const Corpus before = read_corpus(folder.string(), 0, 0).value();
  write("d3/new", "<new>");
  const Corpus after = read_corpus(folder.string(), 0, 0).value();
  for (const Split split : {Split::kTrain, Split::kValidation, Split::kTest}) {
    std::string bytes = bytes_of(after, split);
    if (const size_t at = bytes.find("<new>"); at != std::string::npos) {
      bytes.erase(at, 6);
    }
    EXPECT_EQ(bytes, bytes_of(before, split));
  }
}

TEST_F(Text, MaxBytesBoundsAFolder) {
  write_many();
  const Corpus all = read_corpus(folder.string(), 0, 0).value();
  const Corpus some = read_corpus(folder.string(), 1000, 0).value();
  int64_t files = 0;
  int64_t bytes = 0;
  for (const Split split : {Split::kTrain, Split::kValidation, Split::kTest}) {
    files += some.split(split).files;
    bytes += some.split(split).size();
    // What is kept is a part of the same split.
    const std::string part = bytes_of(some, split);
    size_t begin = 0;
    for (size_t end = part.find('\0'); end != std::string::npos; begin = end + 1, end = part.find('\0', begin)) {
      EXPECT_NE(bytes_of(all, split).find(part.substr(begin, end - begin)), std::string::npos);
    }
  }
  EXPECT_EQ(all.files_left_out, 0);
  EXPECT_EQ(some.files_left_out, 400 - files);
  EXPECT_LE(bytes, 1000);
  EXPECT_GT(bytes, 990);
}

TEST_F(Text, AFileIsSplitByPositionAndHashed) {
  std::string text;
  for (int i = 0; i < 1000; ++i) {
    text.push_back(static_cast<char>('a' + i % 26));
  }
  const Corpus corpus = read_corpus(write("book.txt", text), 0, 0).value();
  EXPECT_EQ(bytes_of(corpus, Split::kTrain), text.substr(0, 900));
  EXPECT_EQ(bytes_of(corpus, Split::kValidation), text.substr(900, 50));
  EXPECT_EQ(bytes_of(corpus, Split::kTest), text.substr(950, 50));
  EXPECT_EQ(corpus.split(Split::kTest).sha256, "c4ca6e624278c2900d4b2eef17b35f01fdaf5b8b45691e7175cee89c156f9028");
  const auto task = from(folder / "book.txt", 10);
  EXPECT_EQ(*task->provenance().find("test")->find("sha256")->string(), corpus.split(Split::kTest).sha256);
  EXPECT_EQ(*task->provenance().find("train")->find("bytes")->integer(), 900);
  EXPECT_EQ(*task->provenance().find("split_by")->string(), "position");
  EXPECT_EQ(read_corpus((folder / "book.txt").string(), 100, 0).value().split(Split::kTrain).size(), 90);
}

TEST_F(Text, LabelsAreTheNextBytes) {
  std::string text;
  for (int i = 0; i < 2000; ++i) {
    text.push_back(static_cast<char>(i * i / 7 % 251));
  }
  const auto task = from(write("book.txt", text), 16);
  for (const Split split : {Split::kTrain, Split::kValidation, Split::kTest}) {
    const Batch batch = batch_of(*task, {split, 1, 0, 3, 16});
    const std::vector<int64_t> tokens = ids(batch.tokens);
    const std::vector<int64_t> labels = ids(batch.labels);
    for (int64_t i = 0; i < 48; ++i) {
      if (i % 16 != 15) {
        EXPECT_EQ(labels[i], tokens[i + 1]);
      }
    }
  }
  // Evaluation goes through the split in order, every byte but the first a label once.
  EXPECT_EQ(task->available_steps(Split::kTest, 2, 16), 3);
  EXPECT_EQ(task->available_steps(Split::kTrain, 2, 16), 0);
  std::string said;
  for (int64_t step = 0; step < 3; ++step) {
    for (const int64_t id : ids(batch_of(*task, {Split::kTest, 0, step, 2, 16}).labels)) {
      said.push_back(static_cast<char>(id));
    }
  }
  EXPECT_EQ(said, text.substr(1901, 96));
  const absl::Status beyond = task->batch({Split::kTest, 0, 3, 2, 16}).status();
  EXPECT_NE(beyond.message().find("holds 6 windows of length 16"), std::string::npos) << beyond;
}

TEST_F(Text, TrainingReachesEveryWindow) {
  std::string text;
  for (int i = 0; i < 200; ++i) {
    text.push_back(static_cast<char>(i));
  }
  const auto task = from(write("book.txt", text), 9);
  std::set<int64_t> starts;
  const std::vector<int64_t> tokens = ids(batch_of(*task, {Split::kTrain, 1, 0, 4000, 9}).tokens);
  for (size_t i = 0; i < tokens.size(); i += 9) {
    starts.insert(tokens[i]);
  }
  // Bytes 0 … 179 train; the last of them is only ever a label.
  EXPECT_EQ(starts.size(), 171u);
  EXPECT_EQ(*starts.rbegin(), 170);
}

TEST_F(Text, TokenFilesAreReadAsNanoGptWritesThem) {
  const auto task = from(write_ids("tokens.bin", 1000, 300), 8);
  EXPECT_EQ(task->vocabulary(), 1300);
  EXPECT_EQ(ids(batch_of(*task, {Split::kTest, 0, 0, 1, 8}).tokens),
            (std::vector<int64_t>{1250, 1251, 1252, 1253, 1254, 1255, 1256, 1257}));
  EXPECT_EQ(*task->provenance().find("unit")->string(), "bits per token");
  EXPECT_DOUBLE_EQ(task->chance(8).value, std::log2(1300.0));
  EXPECT_LT(task->floor().value, 40.0);

  const std::string path = (folder / "tokens.bin").string();
  EXPECT_EQ(read_corpus(path, 0, 50257).value().vocabulary, 50257);
  const std::string small = error_of("text", with(with(table("path", path), "vocabulary", 1299), "length", 8));
  EXPECT_NE(small.find("token id 1299"), std::string::npos) << small;
  EXPECT_NE(small.find("at least 1300"), std::string::npos) << small;
  const std::string odd = error_of("text", table("path", write("odd.bin", "abc")));
  EXPECT_NE(odd.find("odd number of bytes"), std::string::npos) << odd;
}

TEST_F(Text, ATokenizerMakesTokensOfTheBytes) {
  std::string text;
  for (int i = 0; i < 100; ++i) text += "abcab";
  const std::string vocabulary = write("vocabulary.txt", tiny_tokenizers::rwkv_lines({"ab", "cab"}));
  const auto task = made("text", with(with(table("path", write("book.txt", text)), "length", 4), "tokenizer", vocabulary));
  EXPECT_EQ(task->vocabulary(), 259);
  EXPECT_EQ(ids(batch_of(*task, {Split::kTest, 0, 0, 1, 4}).tokens), (std::vector<int64_t>{257, 258, 257, 258}));
  EXPECT_EQ(*task->provenance().find("unit")->string(), "bits per token");

  const auto refused = [&](const std::string& path, const std::string& tokenizer) {
    return error_of("text", with(with(table("path", path), "length", 4), "tokenizer", tokenizer));
  };
  EXPECT_NE(refused(write_ids("tokens.bin", 1000, 300), vocabulary).find("holds tokens already"), std::string::npos);
  EXPECT_NE(refused("", folder.string()).find("holds no tokenizer"), std::string::npos);
  const std::string large = write("large.txt", tiny_tokenizers::rwkv_lines({}) + "65536 'ab' 2\n");
  EXPECT_NE(refused("", large).find("has 65537 ids"), std::string::npos);
}

TEST_F(Text, APairOfTokenFilesKeepsItsOwnSplit) {
  write_ids("train.bin", 500, 0);
  write_ids("val.bin", 100, 1000);
  const Corpus corpus = read_corpus(folder.string(), 0, 0).value();
  EXPECT_EQ(corpus.split(Split::kTrain).size(), 500);
  EXPECT_EQ(corpus.split(Split::kValidation).first(1), (std::vector<uint16_t>{1000}));
  EXPECT_EQ(corpus.split(Split::kValidation).size(), 50);
  EXPECT_EQ(corpus.split(Split::kTest).first(1), (std::vector<uint16_t>{1050}));
  EXPECT_EQ(corpus.vocabulary, 1100);
}

TEST_F(Text, SaysWhatIsMissingOrTooSmall) {
  const std::string missing = error_of("text", table("path", std::string("/no/such/book.txt")));
  EXPECT_NE(missing.find("there is no file or folder /no/such/book.txt"), std::string::npos) << missing;
  EXPECT_NE(missing.find("headers of LibTorch"), std::string::npos) << missing;
  write("a.txt", std::string(4000, 'a'));
  const std::string few = error_of("text", table("path", folder.string()));
  EXPECT_NE(few.find("join them into one file"), std::string::npos) << few;
  const std::string wide = error_of("text", table("vocabulary", int64_t{1000}));
  EXPECT_NE(wide.find("its vocabulary is 256"), std::string::npos) << wide;
}

// The headers of LibTorch: what every fresh clone races on.
class DefaultText : public testing::Test {
 protected:
  static void SetUpTestSuite() { task = made("text").release(); }
  static void TearDownTestSuite() {
    delete task;
    task = nullptr;
  }
  static Task* task;
};
Task* DefaultText::task = nullptr;

TEST_F(DefaultText, IsEightMegabytesOfHeaders) {
  const ConfigValue provenance = task->provenance();
  int64_t bytes = 0;
  for (const char* split : {"train", "validation", "test"}) {
    bytes += *provenance.find(split)->find("bytes")->integer();
    EXPECT_EQ(provenance.find(split)->find("sha256")->string()->size(), 64u);
    EXPECT_GT(*provenance.find(split)->find("files")->integer(), 20);
  }
  EXPECT_GT(bytes, 7'500'000);
  EXPECT_LE(bytes, 8'000'000);
  EXPECT_TRUE(provenance.find("corpus")->string()->starts_with("headers of LibTorch 2."));
  EXPECT_EQ(*provenance.find("binary_files_skipped")->integer(), 0);
}

TEST_F(DefaultText, LevelsDescendToTheFloor) {
  const std::vector<MetricLevel> plateaus = task->plateaus(256);
  ASSERT_EQ(plateaus.size(), 2u);
  EXPECT_EQ(task->floor().name, "5-gram model");
  EXPECT_LT(plateaus[0].value, task->chance(256).value - 1.0);
  EXPECT_LT(plateaus[1].value, plateaus[0].value - 0.5);
  EXPECT_LT(task->floor().value, plateaus[1].value - 0.5);
  EXPECT_GT(task->floor().value, 1.0);
  RecordProperty("unigram", std::to_string(plateaus[0].value));
  RecordProperty("bigram", std::to_string(plateaus[1].value));
  RecordProperty("floor", std::to_string(task->floor().value));
}

}  // namespace
}  // namespace hippodrome

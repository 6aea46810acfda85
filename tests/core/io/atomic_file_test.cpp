#include "core/io/atomic_file.h"
#include "tests/test_folder.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <set>
#include <thread>
#include <vector>

namespace hippodrome::atomic_file_test {
namespace {

namespace fs = std::filesystem;

class AtomicFileTest : public testing_folder::FolderTest {
 protected:
  std::set<std::string> names() const {
    std::set<std::string> result;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder_)) {
      result.insert(entry.path().filename().string());
    }
    return result;
  }
};

TEST_F(AtomicFileTest, WritesAndReplaces) {
  const fs::path path = folder_ / "a.json";
  ASSERT_TRUE(write_file(path, "first, and longer").ok());
  ASSERT_TRUE(write_file(path, std::string("se\0cond", 7)).ok());
  const absl::StatusOr<std::string> contents = read_file(path);
  ASSERT_TRUE(contents.ok()) << contents.status();
  EXPECT_EQ(*contents, std::string("se\0cond", 7));
  EXPECT_EQ(names(), std::set<std::string>{"a.json"});
}

TEST_F(AtomicFileTest, NothingIsSeenBeforeTheCommit) {
  const fs::path path = folder_ / "a";
  ASSERT_TRUE(write_file(path, "old").ok());
  {
    absl::StatusOr<AtomicFile> file = AtomicFile::create(path);
    ASSERT_TRUE(file.ok()) << file.status();
    ASSERT_TRUE(file->write("half of the n").ok());
    EXPECT_EQ(*read_file(path), "old");
    EXPECT_EQ(names().size(), 2u);
  }
  EXPECT_EQ(*read_file(path), "old");
  EXPECT_EQ(names(), std::set<std::string>{"a"});
}

TEST_F(AtomicFileTest, TwoWritersOfOneNameDoNotMix) {
  const fs::path path = folder_ / "a";
  absl::StatusOr<AtomicFile> first = AtomicFile::create(path), second = AtomicFile::create(path);
  ASSERT_TRUE(first.ok() && second.ok());
  ASSERT_TRUE(first->write("1").ok());
  ASSERT_TRUE(second->write("2").ok());
  ASSERT_TRUE(first->write("1").ok());
  ASSERT_TRUE(first->commit().ok());
  EXPECT_EQ(*read_file(path), "11");
  AtomicFile moved = *std::move(second);
  ASSERT_TRUE(moved.commit().ok());
  EXPECT_EQ(*read_file(path), "2");
  EXPECT_FALSE(moved.commit().ok());
  EXPECT_FALSE(moved.write("3").ok());
  EXPECT_EQ(names(), std::set<std::string>{"a"});
}

TEST_F(AtomicFileTest, NewFilesHaveTheUsualMode) {
  const mode_t mask = ::umask(022);
  const absl::Status status = write_file(folder_ / "a", "x");
  ::umask(mask);
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(fs::status(folder_ / "a").permissions(), static_cast<fs::perms>(0644));
}

TEST_F(AtomicFileTest, ErrorsNameFileAndReason) {
  const std::string absent = (folder_ / "no" / "a").string();
  EXPECT_EQ(write_file(absent, "x").message(), "cannot write " + absent + ": No such file or directory");
  EXPECT_EQ(append_line(absent, "x").message(), "cannot append to " + absent + ": No such file or directory");
  EXPECT_EQ(read_file(absent).status().message(), "cannot read " + absent + ": No such file or directory");
  EXPECT_EQ(read_file(folder_).status().message(), "cannot read " + folder_.string() + ": it is a folder");
  EXPECT_FALSE(write_file("", "x").ok());
  // A folder stands where the file should be.
  fs::create_directories(folder_ / "taken" / "inside");
  EXPECT_EQ(write_file(folder_ / "taken", "x").message(),
            "cannot write " + (folder_ / "taken").string() + ": Is a directory");
  EXPECT_EQ(names(), std::set<std::string>{"taken"});
}

TEST_F(AtomicFileTest, OnlyRegularFilesWithinTheLimitAreRead) {
  ASSERT_EQ(::mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(read_file(folder_ / "pipe").status().message(),
            "cannot read " + (folder_ / "pipe").string() + ": it is not a regular file");
  ASSERT_TRUE(write_file(folder_ / "a", "12345").ok());
  EXPECT_TRUE(read_file(folder_ / "a", 5).ok());
  EXPECT_EQ(read_file(folder_ / "a", 4).status().message(),
            "cannot read " + (folder_ / "a").string() + ": it has 5 bytes, more than the 4 allowed here");
}

TEST_F(AtomicFileTest, LinesOfSeveralThreadsStayWhole) {
  const fs::path path = folder_ / "rows.jsonl";
  constexpr int kThreads = 4, kLines = 200;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&path, thread] {
      for (int i = 0; i < kLines; ++i) {
        EXPECT_TRUE(
            append_line(path, std::string(static_cast<size_t>(1 + 37 * i), static_cast<char>('a' + thread))).ok());
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  const std::string contents = *read_file(path);
  int lines = 0;
  for (size_t begin = 0; begin < contents.size(); ++lines) {
    const size_t end = contents.find('\n', begin);
    ASSERT_NE(end, std::string::npos);
    EXPECT_EQ(contents.substr(begin, end - begin), std::string(end - begin, contents[begin]));
    begin = end + 1;
  }
  EXPECT_EQ(lines, kThreads * kLines);
  EXPECT_FALSE(append_line(path, "two\nlines").ok());
}

}  // namespace
}  // namespace hippodrome::atomic_file_test

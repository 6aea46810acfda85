#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>

namespace hippodrome::testing_folder {

// A folder for the running test that no other test, and no other run of the same test, has. Not created.
inline std::filesystem::path own_folder() {
  const auto* test = testing::UnitTest::GetInstance()->current_test_info();
  std::string name =
      std::string("hippodrome_") + test->test_suite_name() + "_" + test->name() + "_" + std::to_string(getpid());
  for (char& c : name) c = c == '/' ? '_' : c;
  return std::filesystem::path(testing::TempDir()) / name;
}

// A test in a folder of its own, which exists while the test runs.
class FolderTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = own_folder();
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path folder_;
};

// The project's root, and the built program; defined in tests/main.cpp.
std::filesystem::path source_folder();
std::filesystem::path program();

}  // namespace hippodrome::testing_folder

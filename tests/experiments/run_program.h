#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "tests/test_folder.h"

// The built program, started as a user would.
namespace hippodrome::testing_program {

namespace fs = std::filesystem;

inline std::string text_of(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  EXPECT_TRUE(stream) << file;
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

inline std::vector<nlohmann::json> rows_of(const fs::path& file, const std::string& kind) {
  std::vector<nlohmann::json> rows;
  std::ifstream stream(file);
  EXPECT_TRUE(stream) << file;
  for (std::string line; std::getline(stream, line);) {
    nlohmann::json row = nlohmann::json::parse(line);
    if (row["kind"] == kind) rows.push_back(std::move(row));
  }
  return rows;
}

// A folder of its own for each test, and the program run there.
class ProgramTest : public testing_folder::FolderTest {
 protected:
  // Starts the program as the leader of a process group; it reads in.txt where there is one, and its outputs go to
  // out.txt and err.txt.
  pid_t start(const std::vector<std::string>& arguments) {
    std::vector<std::string> all = {testing_folder::program().string()};
    all.insert(all.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& argument : all) argv.push_back(argument.data());
    argv.push_back(nullptr);
    const std::string out = (folder_ / "out.txt").string(), err = (folder_ / "err.txt").string(),
                      where = folder_.string();
    const pid_t child = fork();
    if (child == 0) {
      setpgid(0, 0);
      (void)!chdir(where.c_str());
      if (const int in = open("in.txt", O_RDONLY); in >= 0) dup2(in, STDIN_FILENO);
      dup2(open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644), STDOUT_FILENO);
      dup2(open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644), STDERR_FILENO);
      execv(argv[0], argv.data());
      _exit(126);
    }
    return child;
  }

  // The exit code, or minus the signal.
  static int wait_for(pid_t child) {
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

  int run(const std::vector<std::string>& arguments) { return wait_for(start(arguments)); }
  std::string out() const { return text_of(folder_ / "out.txt"); }
  std::string err() const { return text_of(folder_ / "err.txt"); }

  // Waits until `done` or the child ends; false when it ended first.
  static bool wait_until(pid_t child, const std::function<bool()>& done) {
    for (;;) {
      if (done()) return true;
      siginfo_t info{};
      waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOHANG | WNOWAIT);
      if (info.si_pid == child) return done();
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }

  fs::path write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name) << text;
    return folder_ / name;
  }
};

}  // namespace hippodrome::testing_program

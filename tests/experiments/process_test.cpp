#include "experiments/process.h"
#include "tests/test_folder.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

namespace hippodrome::process_test {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::IsEmpty;

class RunProcess : public testing_folder::FolderTest {
 protected:
  ProcessEnd shell(const std::string& script, double seconds = 0.0) {
    lines_.clear();
    const auto start = std::chrono::steady_clock::now();
    const auto end = run_process({"/bin/sh", "-c", script}, log(), seconds, [&](std::string_view line) { lines_.emplace_back(line); });
    took_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    EXPECT_TRUE(end.ok()) << end.status();
    return *end;
  }
  std::string log() const { return (folder_ / "log.txt").string(); }
  std::string log_text() const {
    std::ifstream file(log());
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }

  std::vector<std::string> lines_;
  double took_ = 0.0;
};

TEST_F(RunProcess, HandsOverEachLine) {
  const ProcessEnd end = shell("printf 'one\\n\\ntwo'; sleep 0.1; printf ' words\\nlast'");
  EXPECT_EQ(end.exit_code, 0);
  EXPECT_EQ(end.signal, 0);
  EXPECT_FALSE(end.timed_out);
  EXPECT_FALSE(end.interrupted);
  EXPECT_THAT(lines_, ElementsAre("one", "", "two words", "last"));
}

TEST_F(RunProcess, TakesMoreThanAPipeHolds) {
  shell("i=0; while [ $i -lt 3000 ]; do echo \"line $i of a few thousand, each some forty characters long\"; i=$((i+1)); done");
  ASSERT_EQ(lines_.size(), 3000u);
  EXPECT_EQ(lines_.back(), "line 2999 of a few thousand, each some forty characters long");
}

TEST_F(RunProcess, ReportsTheExitCode) {
  EXPECT_EQ(shell("exit 3").exit_code, 3);
  EXPECT_EQ(shell("exit 0").exit_code, 0);
}

TEST_F(RunProcess, ReportsTheSignal) {
  const ProcessEnd end = shell("kill -SEGV $$");
  EXPECT_EQ(end.signal, SIGSEGV);
  EXPECT_FALSE(end.timed_out);
}

TEST_F(RunProcess, AppendsStandardErrorToTheLog) {
  shell("echo first >&2; echo shown");
  shell("echo second >&2");
  EXPECT_EQ(log_text(), "first\nsecond\n");
  EXPECT_THAT(lines_, IsEmpty());
}

TEST_F(RunProcess, EndsWhatRunsTooLong) {
  const ProcessEnd end = shell("echo started; exec sleep 60", 0.3);
  EXPECT_TRUE(end.timed_out);
  EXPECT_EQ(end.signal, SIGTERM);
  EXPECT_THAT(lines_, ElementsAre("started"));
  EXPECT_LT(took_, 4.0);
}

// Closing its output must not save a child from its time cap.
TEST_F(RunProcess, EndsWhatClosedItsOutputAndRunsOn) {
  const ProcessEnd end = shell("exec >&-; exec sleep 60", 0.3);
  EXPECT_TRUE(end.timed_out);
  EXPECT_LT(took_, 4.0);
  EXPECT_EQ(shell("exec >&-; sleep 0.2; exit 4").exit_code, 4);
}

TEST_F(RunProcess, KillsWhatDoesNotStopWhenTold) {
  const ProcessEnd end = shell("trap '' TERM; echo deaf; while true; do sleep 0.05; done", 0.2);
  EXPECT_TRUE(end.timed_out);
  EXPECT_EQ(end.signal, SIGKILL);
  EXPECT_GT(took_, 4.0) << "it has five seconds";
  EXPECT_LT(took_, 12.0);
}

TEST_F(RunProcess, DoesNotWaitForWhatAChildLeftRunning) {
  EXPECT_EQ(shell("sleep 20 & echo done; exit 0").exit_code, 0);
  EXPECT_LT(took_, 10.0);
  EXPECT_THAT(lines_, ElementsAre("done"));
}

TEST_F(RunProcess, SaysWhatItCannotDo) {
  const auto nowhere = run_process({"/bin/sh", "-c", "true"}, (folder_ / "none/log.txt").string(), 0.0, [](std::string_view) {});
  EXPECT_TRUE(absl::IsPermissionDenied(nowhere.status())) << nowhere.status();
  const auto missing = run_process({(folder_ / "no_program").string()}, log(), 0.0, [](std::string_view) {});
  ASSERT_TRUE(missing.ok());
  EXPECT_EQ(missing->exit_code, 127);
  EXPECT_EQ(log_text(), "the program could not be executed\n");
}

// In a process of their own, since they end it or leave it asked to stop.
int in_a_fork(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST_F(RunProcess, PassesAnInterruptionOn) {
  const int result = in_a_fork([&] {
    const pid_t self = getpid();
    std::thread([self] {
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
      kill(self, SIGINT);
    }).detach();
    const auto end = run_process({"/bin/sh", "-c", "trap 'exit 75' TERM; while true; do sleep 0.05; done"}, log(), 0.0, [](std::string_view) {});
    return end.ok() && end->interrupted && end->exit_code == kExitInterrupted && stop_requested() ? 42 : 1;
  });
  EXPECT_EQ(result, 42);
}

TEST_F(RunProcess, ChildrenDieWithTheirParent) {
  const fs::path pid_file = folder_ / "pid";
  const pid_t parent = fork();
  if (parent == 0) {
    (void)run_process({"/bin/sh", "-c", "echo $$ > " + pid_file.string() + ".new; mv " + pid_file.string() + ".new " + pid_file.string() + "; exec sleep 60"}, log(), 0.0, [](std::string_view) {});
    _exit(0);
  }
  while (!fs::exists(pid_file)) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  pid_t child = 0;
  std::ifstream(pid_file) >> child;
  ASSERT_GT(child, 0);
  EXPECT_EQ(kill(child, 0), 0);
  kill(parent, SIGKILL);
  waitpid(parent, nullptr, 0);
  // It may wait as a zombie for whoever adopted it, so it is its state that tells.
  const auto gone = [child] {
    std::ifstream stat("/proc/" + std::to_string(child) + "/stat");
    std::string pid, name, state;
    stat >> pid >> name >> state;
    return !stat || state == "Z" || state == "X";
  };
  for (int i = 0; i < 300 && !gone(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_TRUE(gone());
}

}  // namespace
}  // namespace hippodrome::process_test

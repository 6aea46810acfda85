#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"

namespace hippodrome {

// How a child process ended.
struct ProcessEnd {
  int exit_code = 0;     // of a normal end
  int signal = 0;        // 0 unless a signal ended it
  bool timed_out = false;
  bool interrupted = false;  // we were asked to stop and passed it on
};

// Executes `arguments` (the first is the program's path), hands each line of its standard output to `on_line`, and sends its
// standard error to `log_file` (appended). `seconds` > 0: after that long it is told to stop, and killed 5 s later. The child
// dies with us. While it runs, SIGINT and SIGTERM to us are passed on as SIGTERM once, and reported.
absl::StatusOr<ProcessEnd> run_process(const std::vector<std::string>& arguments, const std::string& log_file,
                                       double seconds, const std::function<void(std::string_view)>& on_line);

// In a child: ends with the parent, and turns SIGTERM into a flag that long work looks at between steps.
void become_child();
bool stop_requested();

// Exit codes of the program.
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;        // something went wrong; one sentence on standard error
inline constexpr int kExitUsage = 2;         // the command line or the recipe is wrong
inline constexpr int kExitIncomplete = 3;    // a race finished, but some cells did not (rows say why)
inline constexpr int kExitInterrupted = 75;  // stopped on request; --resume continues

}  // namespace hippodrome

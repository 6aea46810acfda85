#pragma once

#include <chrono>
#include <string>

#include "experiments/race/trial.h"

namespace hippodrome {

// Shows how a race goes: on a terminal one line that is rewritten, elsewhere (a log, a pipe) a plain line now and then.
// Writes to standard error, so that standard output holds results alone.
class ProgressDisplay {
 public:
  explicit ProgressDisplay(size_t cells);

  void start_cell(size_t index, const std::string& label);
  void update(const TrialProgress& progress);
  void finish_cell(const std::string& outcome);
  void note(const std::string& text);

 private:
  void show(const std::string& text, bool keep);
  std::string heading() const;

  bool terminal_;
  size_t cells_;
  size_t index_ = 0;
  std::string label_;
  std::chrono::steady_clock::time_point cell_start_, last_shown_;
};

}  // namespace hippodrome

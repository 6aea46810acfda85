#include "experiments/race/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>

#include "core/base/text.h"

namespace hippodrome {
namespace {

using Clock = std::chrono::steady_clock;
double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

size_t terminal_width() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 100;
}

// Cut to `width` characters; our text is UTF-8, whose continuation bytes take no room.
std::string cut(const std::string& text, size_t width) {
  size_t shown = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80 && ++shown > width) return text.substr(0, i);
  }
  return text;
}

}  // namespace

ProgressDisplay::ProgressDisplay(size_t cells) : terminal_(isatty(STDERR_FILENO) == 1), cells_(cells) {}

std::string ProgressDisplay::heading() const {
  return "[" + std::to_string(index_ + 1) + "/" + std::to_string(cells_) + "] " + label_;
}

void ProgressDisplay::show(const std::string& text, bool keep) {
  if (terminal_) {
    std::fprintf(stderr, "\r\033[K%s%s", cut(text, terminal_width() - 1).c_str(), keep ? "\n" : "");
  } else {
    std::fprintf(stderr, "%s\n", text.c_str());
  }
  std::fflush(stderr);
  last_shown_ = Clock::now();
}

void ProgressDisplay::start_cell(size_t index, const std::string& label) {
  index_ = index;
  label_ = label;
  cell_start_ = Clock::now();
  last_shown_ = {};
  if (terminal_) show(heading(), /*keep=*/false);
}

void ProgressDisplay::update(const TrialProgress& progress) {
  if (since(last_shown_) < (terminal_ ? 0.1 : 15.0)) return;
  std::string text = heading() + "  ";
  if (progress.phase == "test") {
    text += "testing";
  } else {
    char numbers[160];
    std::snprintf(numbers, sizeof numbers, "step %lld/%lld  loss %.3f  %s tokens/s",
                  static_cast<long long>(progress.step), static_cast<long long>(progress.steps), progress.loss,
                  format_count(progress.tokens_per_second).c_str());
    text += numbers;
    if (progress.step > 0 && progress.seconds > 0.0) {
      const double left = progress.seconds / static_cast<double>(progress.step) *
                          static_cast<double>(progress.steps - progress.step);
      text += "  at most " + format_duration(left) + " left";
    }
  }
  show(text, /*keep=*/false);
}

void ProgressDisplay::finish_cell(const std::string& outcome) {
  show(heading() + "  " + outcome + "  (" + format_duration(since(cell_start_)) + ")", /*keep=*/true);
}

void ProgressDisplay::note(const std::string& text) { show(text, /*keep=*/true); }

}  // namespace hippodrome

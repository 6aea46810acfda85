#include "experiments/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>

namespace hippodrome {
namespace {

// Set by signals, which know no object.
volatile sig_atomic_t stop_signal = 0;

void note_signal(int signal) { stop_signal = signal; }

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Installs note_signal for SIGINT and SIGTERM as long as it lives.
class SignalWatch {
 public:
  SignalWatch() {
    struct sigaction action{};
    action.sa_handler = note_signal;
    sigaction(SIGINT, &action, &before_int_);
    sigaction(SIGTERM, &action, &before_term_);
  }
  ~SignalWatch() {
    sigaction(SIGINT, &before_int_, nullptr);
    sigaction(SIGTERM, &before_term_, nullptr);
  }

 private:
  struct sigaction before_int_{}, before_term_{};
};

// Runs in the forked child until exec: only async-signal-safe calls.
[[noreturn]] void execute(char* const* arguments, int out, int log, pid_t parent) {
  // Before exec, which keeps it: the program may take its time to come to become_child().
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);  // it died before we asked
  setpgid(0, 0);  // the terminal's Ctrl-C reaches the parent alone, which passes it on in order
  dup2(out, STDOUT_FILENO);
  dup2(log, STDERR_FILENO);
  execv(arguments[0], arguments);
  constexpr char message[] = "the program could not be executed\n";
  (void)!write(STDERR_FILENO, message, sizeof message - 1);
  _exit(127);
}

// Splits what arrives into lines.
class LineReader {
 public:
  explicit LineReader(const std::function<void(std::string_view)>& on_line) : on_line_(on_line) {}
  // False at the end of the stream.
  bool read_some(int descriptor) {
    char buffer[4096];
    const ssize_t n = read(descriptor, buffer, sizeof buffer);
    if (n < 0) return errno == EINTR || errno == EAGAIN;
    if (n == 0) return false;
    pending_.append(buffer, static_cast<size_t>(n));
    for (size_t end = pending_.find('\n'); end != std::string::npos; end = pending_.find('\n')) {
      on_line_(std::string_view(pending_).substr(0, end));
      pending_.erase(0, end + 1);
    }
    return true;
  }
  // The last line, when it has no end.
  void finish() {
    if (!pending_.empty()) on_line_(pending_);
    pending_.clear();
  }

 private:
  const std::function<void(std::string_view)>& on_line_;
  std::string pending_;
};

}  // namespace

absl::StatusOr<ProcessEnd> run_process(const std::vector<std::string>& arguments, const std::string& log_file,
                                       double seconds, const std::function<void(std::string_view)>& on_line) {
  int pipe_ends[2];
  if (pipe2(pipe_ends, O_CLOEXEC) != 0) return absl::InternalError(std::string("no pipe: ") + std::strerror(errno));
  const int log = open(log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (log < 0) {
    close(pipe_ends[0]), close(pipe_ends[1]);
    return absl::PermissionDeniedError("cannot write " + log_file + ": " + std::strerror(errno));
  }
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);

  const SignalWatch watch;
  const pid_t parent = getpid(), child = fork();
  if (child == 0) execute(argv.data(), pipe_ends[1], log, parent);
  close(pipe_ends[1]);
  close(log);
  if (child < 0) {
    close(pipe_ends[0]);
    return absl::InternalError(std::string("no child process: ") + std::strerror(errno));
  }

  ProcessEnd end;
  LineReader reader(on_line);
  const Clock::time_point start = Clock::now();
  Clock::time_point told_to_stop{};
  bool told = false;
  int status = 0;
  // A child may close its output and go on, so it is its end that is waited for.
  bool open_stream = true;
  for (bool ended = false; !ended || open_stream;) {
    pollfd wait{open_stream ? pipe_ends[0] : -1, POLLIN, 0};
    poll(&wait, 1, /*milliseconds=*/ended ? 0 : open_stream ? 200 : 20);
    if (wait.revents != 0) {
      open_stream = reader.read_some(pipe_ends[0]);
    } else if (ended) {
      open_stream = false;  // what it left running holds the stream open
    }
    if (!ended) ended = waitpid(child, &status, WNOHANG) == child;
    end.interrupted = end.interrupted || stop_signal != 0;
    if (ended) continue;
    end.timed_out = end.timed_out || (seconds > 0.0 && seconds_since(start) > seconds);
    if ((end.timed_out || end.interrupted) && !told) {
      kill(child, SIGTERM);
      told = true;
      told_to_stop = Clock::now();
    }
    // A checkpoint may take a while after an interruption; a child past its time cap has no claim to it.
    if (told && seconds_since(told_to_stop) > (end.interrupted ? 60.0 : 5.0)) kill(child, SIGKILL);
  }
  close(pipe_ends[0]);
  reader.finish();
  if (WIFEXITED(status)) end.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) end.signal = WTERMSIG(status);
  return end;
}

void become_child() {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  struct sigaction action{};
  action.sa_handler = note_signal;
  sigaction(SIGTERM, &action, nullptr);
}

bool stop_requested() { return stop_signal != 0; }

}  // namespace hippodrome

#include "core/measure/neighbours.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <string>
#include <thread>

namespace hippodrome {
namespace {

double wall_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Busy time of all cores since boot, less our own: user, nice, system, irq, softirq and steal of /proc/stat's first line.
double others_seconds() {
  std::ifstream file("/proc/stat");
  std::string label;
  double user = 0, nice = 0, system = 0, idle = 0, io_wait = 0, irq = 0, soft_irq = 0, steal = 0;
  if (!(file >> label >> user >> nice >> system >> idle >> io_wait >> irq >> soft_irq >> steal)) return 0.0;
  const double busy = (user + nice + system + irq + soft_irq + steal) / static_cast<double>(sysconf(_SC_CLK_TCK));
  rusage own{};
  getrusage(RUSAGE_SELF, &own);
  const auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec); };
  return busy - seconds(own.ru_utime) - seconds(own.ru_stime);
}

}  // namespace

void NeighbourWatch::restart() {
  start_wall_ = wall_seconds();
  start_others_ = others_seconds();
}

double NeighbourWatch::cores() const {
  const double wall = wall_seconds() - start_wall_;
  return wall > 0.0 ? std::max(0.0, (others_seconds() - start_others_) / wall) : 0.0;
}

void wait_for_quiet(double cores, double seconds) {
  const double end = wall_seconds() + seconds;
  while (wall_seconds() < end) {
    const NeighbourWatch watch;
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    if (watch.cores() < cores) return;
  }
}

}  // namespace hippodrome

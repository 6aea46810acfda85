#include <unistd.h>

#include <cstdlib>

#include "core/tensor/cuda_library.h"
#include "core/tensor/memory_meter.h"
#include "experiments/program.h"

namespace {

// LibTorch's threads spin for milliseconds at every barrier before they sleep. On a machine with a busy neighbour each waits for
// one that does not run, and the program becomes up to a hundred times slower. Spins of some tens of microseconds lose nothing
// when it is quiet (measured on 2 cores of a Zen 5: 10,000 spins kept full speed in both cases; 1,000 cost a third, 100,000
// stalled). The runtime reads the variable before main, hence the second start; the user's own setting wins.
void limit_spinning(char** argv) {
  if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY")) return;
  setenv("GOMP_SPINCOUNT", "10000", /*overwrite=*/1);
  execv("/proc/self/exe", argv);  // when this fails we merely go on as we are
}

}  // namespace

int main(int argc, char** argv) {
  limit_spinning(argv);
  // The order matters: freed memory is kept before anything large is freed, the CUDA library precedes every other call into
  // LibTorch (one CPU backward freezes its CUDA hooks as stubs), and the meter precedes every tensor.
  hippodrome::memory_meter::keep_freed_memory();
  hippodrome::load_cuda_library();
  hippodrome::memory_meter::install();
  return hippodrome::run_program(argc, argv);
}

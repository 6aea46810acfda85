#include <unistd.h>

#include <cstdlib>

#include "core/tensor/cuda_library.h"
#include "core/tensor/memory_meter.h"
#include "experiments/program.h"

namespace {

// What the runtimes read from the environment before main, hence the second start; the user's own settings win.
//
// LibTorch's threads spin for milliseconds at every barrier before they sleep. On a machine with a busy neighbour each
// waits for one that does not run, and the program becomes up to a hundred times slower. Spins of some tens of
// microseconds lose nothing when it is quiet (measured on 2 cores of a Zen 5: 10,000 spins kept full speed in both
// cases; 1,000 cost a third, 100,000 stalled).
//
// The heap asks the kernel for huge pages. Decoding reads every weight for every token, which in pages of 4 KiB costs
// about as long for the translation of addresses as for the contents (measured on 2 cores of a Zen 3, a virtual
// machine: a plain read of 24 to 40 MB reached 18 to 26 GB/s, with huge pages 42 to 44).
void set_environment(char** argv) {
  bool changed = false;
  const auto set = [&changed](const char* name, const char* value) {
    changed = setenv(name, value, /*overwrite=*/1) == 0 || changed;
  };
  if (!getenv("GOMP_SPINCOUNT") && !getenv("OMP_WAIT_POLICY")) set("GOMP_SPINCOUNT", "10000");
  if (!getenv("GLIBC_TUNABLES")) set("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");
  if (changed) execv("/proc/self/exe", argv);  // when this fails we merely go on as we are
}

}  // namespace

int main(int argc, char** argv) {
  set_environment(argv);
  // The order matters: freed memory is kept before anything large is freed, the CUDA library precedes every other call
  // into LibTorch (one CPU backward freezes its CUDA hooks as stubs), and the meter precedes every tensor.
  hippodrome::memory_meter::keep_freed_memory();
  hippodrome::load_cuda_library();
  hippodrome::memory_meter::install();
  return hippodrome::run_program(argc, argv);
}

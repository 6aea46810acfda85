// Entry of every test executable.
#include <cstdlib>

#include <ATen/Parallel.h>
#include <gmock/gmock.h>

#include "tests/test_folder.h"

namespace hippodrome::testing_folder {

std::filesystem::path source_folder() { return HIPPODROME_SOURCE_FOLDER; }
std::filesystem::path program() { return HIPPODROME_PROGRAM; }

}  // namespace hippodrome::testing_folder

int main(int argc, char** argv) {
  // Results are the same bits for the same thread count, so tests fix it: two, whatever the machine has, unless the
  // environment says otherwise (ThreadSanitizer runs need one, see tests/CMakeLists.txt).
  if (std::getenv("OMP_NUM_THREADS") == nullptr) at::set_num_threads(2);
  testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}

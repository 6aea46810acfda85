// Entry of every test executable.
#include <cstdlib>

#include <ATen/Parallel.h>
#include <gmock/gmock.h>

#include "core/tensor/cuda_library.h"
#include "tests/test_folder.h"

namespace hippodrome::testing_folder {

namespace {

// Where the tests were built, or, for those that were carried to another machine (third_party/device_bundle), the
// folder above this executable's.
std::filesystem::path here_or_carried(const char* built, const char* carried) {
  if (std::filesystem::exists(built)) return built;
  return (std::filesystem::read_symlink("/proc/self/exe").parent_path() / carried).lexically_normal();
}

}  // namespace

std::filesystem::path source_folder() { return here_or_carried(HIPPODROME_SOURCE_FOLDER, ".."); }
std::filesystem::path program() { return here_or_carried(HIPPODROME_PROGRAM, "hippodrome"); }

}  // namespace hippodrome::testing_folder

int main(int argc, char** argv) {
  hippodrome::load_cuda_library();  // before every other call into LibTorch
  // Results are the same bits for the same thread count, so tests fix it: two, whatever the machine has, unless the
  // environment says otherwise (ThreadSanitizer runs need one, see tests/CMakeLists.txt).
  if (std::getenv("OMP_NUM_THREADS") == nullptr) at::set_num_threads(2);
  testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}

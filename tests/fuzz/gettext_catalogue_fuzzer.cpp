#include "tests/fuzz/gettext_catalogue_target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  hippodrome::fuzz_gettext_catalogue({reinterpret_cast<const char*>(data), size});
  return 0;
}

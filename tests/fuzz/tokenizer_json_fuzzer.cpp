#include "tests/fuzz/tokenizer_target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  hippodrome::fuzz_tokenizer_json({reinterpret_cast<const char*>(data), size});
  return 0;
}

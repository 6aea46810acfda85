#pragma once

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "core/io/safetensors.h"
#include "tests/fuzz/check.h"

namespace hippodrome {

// `bytes`: a safetensors file.
inline void fuzz_safetensors(std::string_view bytes) {
  const absl::StatusOr<SafetensorsFile> file = parse_safetensors(bytes, "m.safetensors");
  if (!file.ok()) {
    fuzz_check_sentence(std::string(file.status().message()), "m.safetensors: ");
    return;
  }
  size_t total = 0;
  for (const auto& [name, tensor] : file->tensors) {
    fuzz_check(tensor.is_contiguous(), "tensors are contiguous");
    // Every byte is touched, so that a sanitizer sees what lies outside.
    std::vector<char> copy(tensor.nbytes());
    if (!copy.empty()) {
      std::memcpy(copy.data(), tensor.const_data_ptr(), copy.size());
    }
    total += copy.size();
  }
  fuzz_check(total + 8 <= bytes.size(), "tensors hold no more than the file");
}

}  // namespace hippodrome

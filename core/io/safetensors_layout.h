#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"

// The header of a safetensors file: read, checked, and what reader and writer share.
namespace hippodrome::safetensors_detail {

inline constexpr size_t kLengthBytes = 8;
// The limit of the format's own library.
inline constexpr uint64_t kLargestHeader = 100'000'000;
inline constexpr std::string_view kMetadata = "__metadata__";

struct DtypeName {
  std::string_view name;
  at::ScalarType type;
};
inline constexpr std::array<DtypeName, 10> kDtypes = {{{"F64", at::kDouble},
                                                {"F32", at::kFloat},
                                                {"F16", at::kHalf},
                                                {"BF16", at::kBFloat16},
                                                {"I64", at::kLong},
                                                {"I32", at::kInt},
                                                {"I16", at::kShort},
                                                {"I8", at::kChar},
                                                {"U8", at::kByte},
                                                {"BOOL", at::kBool}}};

struct Entry {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  std::vector<int64_t> offsets;  // begin and end, from the first byte after the header
  bool has_shape = false;
  bool has_offsets = false;
  at::ScalarType type = at::kByte;

  int64_t begin() const { return offsets[0]; }
  int64_t end() const { return offsets[1]; }
};

struct Layout {
  std::vector<Entry> entries;  // in the order of their data
  std::map<std::string, std::string> metadata;
  size_t data_begin = 0;
};

// `text` in quotes for a message: short, on one line, cut between characters of (valid) UTF-8.
std::string in_quotes(std::string_view text);

// InvalidArgument "file: message".
absl::Status error_in(const std::string& file, const std::string& message);

// The tensors that `bytes`, a whole file, holds: each within it, of a known type, and all of them covering it without overlap.
absl::StatusOr<Layout> read_layout(std::string_view bytes, const std::string& file);

}  // namespace hippodrome::safetensors_detail

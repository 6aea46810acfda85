#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "core/base/status.h"
#include "core/tensor/tensor.h"

// Safetensors: a length, a JSON header (name -> dtype, shape, offsets; plus string metadata), then raw little-endian data.
// dtypes: F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL. Nothing of a file is trusted: any malformed one gives an error of one
// sentence that names the file and the tensor, and no allocation is larger than the file calls for.
namespace hippodrome {

struct SafetensorsFile {
  std::map<std::string, Tensor> tensors;  // on the CPU, contiguous
  std::map<std::string, std::string> metadata;
};

// Maps the file into memory: tensors are backed by it (and copied only where the file misaligns them), they keep it mapped,
// and writing into one changes memory alone. The file must not be shortened while they live; files written here never are.
// They are aligned to their type's size only, so copy into own memory what is to be multiplied often.
absl::StatusOr<SafetensorsFile> open_safetensors(const std::filesystem::path& path);

// The tensors alone.
absl::StatusOr<std::map<std::string, Tensor>> read_safetensors(const std::filesystem::path& path);

// A file that is in memory, copying; messages call it `name`.
absl::StatusOr<SafetensorsFile> parse_safetensors(std::string_view bytes, const std::string& name);

// Writes by rename. The same input gives the same bytes: data is laid out by falling size of the type, then by name, so that
// every tensor is aligned; any strides and any device are accepted.
absl::Status write_safetensors(const std::filesystem::path& path, const std::map<std::string, Tensor>& tensors,
                               const std::map<std::string, std::string>& metadata = {});

}  // namespace hippodrome

#include "core/io/safetensors.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <exception>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

#include "core/io/atomic_file.h"
#include "core/io/safetensors_layout.h"
#include "nlohmann/json.hpp"

namespace hippodrome {
namespace safetensors_detail {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian and is used as it is");

// A private mapping: pages are read when touched, and written ones are the process's own.
class Mapping {
 public:
  Mapping(void* address, size_t size) : address_(address), size_(size) {}
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { ::munmap(address_, size_); }
  char* data() const { return static_cast<char*>(address_); }
  std::string_view bytes() const { return {data(), size_}; }

 private:
  void* address_;
  size_t size_;
};

absl::StatusOr<std::shared_ptr<Mapping>> map_file(const std::filesystem::path& path) {
  const auto failure = [&](int error) {
    return absl::NotFoundError("cannot read " + path.string() + ": " + std::generic_category().message(error));
  };
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    return failure(errno);
  }
  struct stat facts {};
  const bool known = ::fstat(descriptor, &facts) == 0;
  if (!known || !S_ISREG(facts.st_mode) || facts.st_size == 0) {
    ::close(descriptor);
    return error_in(path.string(), known && S_ISREG(facts.st_mode) ? "this is no safetensors file: it is empty"
                                                                   : "this is not a regular file");
  }
  const size_t size = static_cast<size_t>(facts.st_size);
  // NORESERVE: weights are as a rule only read, and room for a private copy of all of them need not exist.
  void* address = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, descriptor, 0);
  const int error = errno;
  ::close(descriptor);
  if (address == MAP_FAILED) {
    return failure(error);
  }
  return std::make_shared<Mapping>(address, size);
}

// The tensors of `bytes`; backed by `mapping` where that is given and aligned, else copied.
absl::StatusOr<SafetensorsFile> build(std::string_view bytes, const std::shared_ptr<Mapping>& mapping,
                                      const std::string& file) {
  try {
    ASSIGN_OR_RETURN(Layout layout, read_layout(bytes, file));
    SafetensorsFile result;
    result.metadata = std::move(layout.metadata);
    for (Entry& entry : layout.entries) {
      const size_t begin = layout.data_begin + static_cast<size_t>(entry.begin());
      const size_t size = static_cast<size_t>(entry.end() - entry.begin());
      const std::string_view data = bytes.substr(begin, size);
      if (entry.type == at::kBool &&
          std::any_of(data.begin(), data.end(), [](char value) { return static_cast<unsigned char>(value) > 1; })) {
        return error_in(file, "tensor " + in_quotes(entry.name) + " is BOOL and holds bytes other than 0 and 1");
      }
      const bool aligned =
          mapping != nullptr && reinterpret_cast<uintptr_t>(mapping->data() + begin) % c10::elementSize(entry.type) == 0;
      Tensor tensor;
      if (aligned && size > 0) {
        tensor = at::from_blob(mapping->data() + begin, entry.shape, [mapping](void*) {}, entry.type);
      } else {
        tensor = at::empty(entry.shape, entry.type);
        if (size > 0) {
          std::memcpy(tensor.mutable_data_ptr(), data.data(), size);
        }
      }
      result.tensors.emplace(std::move(entry.name), std::move(tensor));
    }
    return result;
  } catch (const std::exception& error) {
    // Memory ran out, or LibTorch refused a shape that passed the checks.
    const std::string reason = error.what();
    return absl::ResourceExhaustedError(file + ": cannot be loaded: " + reason.substr(0, reason.find('\n')));
  }
}

}  // namespace
}  // namespace safetensors_detail

absl::StatusOr<SafetensorsFile> open_safetensors(const std::filesystem::path& path) {
  ASSIGN_OR_RETURN(const std::shared_ptr<safetensors_detail::Mapping> mapping, safetensors_detail::map_file(path));
  return safetensors_detail::build(mapping->bytes(), mapping, path.string());
}

absl::StatusOr<std::map<std::string, Tensor>> read_safetensors(const std::filesystem::path& path) {
  ASSIGN_OR_RETURN(SafetensorsFile file, open_safetensors(path));
  return std::move(file.tensors);
}

absl::StatusOr<SafetensorsFile> parse_safetensors(std::string_view bytes, const std::string& name) {
  return safetensors_detail::build(bytes, nullptr, name);
}

absl::Status write_safetensors(const std::filesystem::path& path, const std::map<std::string, Tensor>& tensors,
                               const std::map<std::string, std::string>& metadata) {
  using safetensors_detail::kDtypes;
  const std::string file = path.string();
  try {
    struct Item {
      const std::string* name;
      const Tensor* tensor;
      std::string_view dtype;
    };
    std::vector<Item> items;
    for (const auto& [name, tensor] : tensors) {
      if (name == safetensors_detail::kMetadata) {
        return safetensors_detail::error_in(file, "a tensor cannot be named \"__metadata__\"");
      }
      if (!tensor.defined() || tensor.layout() != at::kStrided || tensor.is_meta()) {
        return safetensors_detail::error_in(file, "tensor \"" + name + "\" has no plain data to write");
      }
      const auto dtype = std::find_if(kDtypes.begin(), kDtypes.end(),
                                      [type = tensor.scalar_type()](const auto& known) { return known.type == type; });
      if (dtype == kDtypes.end()) {
        return safetensors_detail::error_in(file, "tensor \"" + name + "\" is of type " +
                                                      c10::toString(tensor.scalar_type()) +
                                                      ", for which safetensors has no name here");
      }
      items.push_back({&name, &tensor, dtype->name});
    }
    // `tensors` gives the order of names.
    std::stable_sort(items.begin(), items.end(), [](const Item& a, const Item& b) {
      return a.tensor->element_size() > b.tensor->element_size();
    });
    // The JSON library only writes strings here: an ordered object of it looks keys up one by one.
    const auto json_string = [](std::string_view string) { return nlohmann::json(string).dump(); };
    std::string text = "{";
    if (!metadata.empty()) {
      text += "\"__metadata__\":" + nlohmann::json(metadata).dump() + ",";
    }
    uint64_t end = 0;
    for (const Item& item : items) {
      const uint64_t begin = end;
      end += static_cast<uint64_t>(item.tensor->numel()) * item.tensor->element_size();
      text += json_string(*item.name) + ":{\"dtype\":" + json_string(item.dtype) +
              ",\"shape\":" + nlohmann::json(item.tensor->sizes().vec()).dump() + ",\"data_offsets\":[" +
              std::to_string(begin) + "," + std::to_string(end) + "]},";
    }
    if (text.back() == ',') {
      text.pop_back();
    }
    text += '}';
    text.resize((text.size() + 7) / 8 * 8, ' ');
    if (text.size() > safetensors_detail::kLargestHeader) {
      return safetensors_detail::error_in(file, "the header would have " + std::to_string(text.size()) +
                                                    " bytes, more than the 100 MB the format allows");
    }
    const uint64_t length = text.size();
    ASSIGN_OR_RETURN(AtomicFile output, AtomicFile::create(path));
    RETURN_IF_ERROR(output.write({reinterpret_cast<const char*>(&length), sizeof(length)}));
    RETURN_IF_ERROR(output.write(text));
    for (const Item& item : items) {
      const Tensor plain = item.tensor->detach().to(at::kCPU).resolve_neg().contiguous();
      RETURN_IF_ERROR(output.write({static_cast<const char*>(plain.const_data_ptr()), plain.nbytes()}));
    }
    return output.commit();
  } catch (const nlohmann::json::exception&) {
    return safetensors_detail::error_in(file, "a tensor name or the metadata is not UTF-8 text");
  } catch (const std::exception& error) {
    const std::string reason = error.what();
    return absl::ResourceExhaustedError("cannot write " + file + ": " + reason.substr(0, reason.find('\n')));
  }
}

}  // namespace hippodrome

#include "core/io/safetensors.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <exception>
#include <limits>
#include <memory>
#include <set>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include "core/io/atomic_file.h"
#include "nlohmann/json.hpp"

namespace hippodrome {
namespace safetensors_detail {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian and is used as it is");

constexpr size_t kLengthBytes = 8;
// The limit of the format's own library.
constexpr uint64_t kLargestHeader = 100'000'000;
// What LibTorch's iterators carry.
constexpr size_t kLargestRank = 64;
constexpr std::string_view kMetadata = "__metadata__";

struct DtypeName {
  std::string_view name;
  at::ScalarType type;
};
constexpr std::array<DtypeName, 10> kDtypes = {{{"F64", at::kDouble},
                                                {"F32", at::kFloat},
                                                {"F16", at::kHalf},
                                                {"BF16", at::kBFloat16},
                                                {"I64", at::kLong},
                                                {"I32", at::kInt},
                                                {"I16", at::kShort},
                                                {"I8", at::kChar},
                                                {"U8", at::kByte},
                                                {"BOOL", at::kBool}}};

// `text` in quotes for a message: short, on one line. Only valid UTF-8 comes here, and it is cut between characters.
std::string in_quotes(std::string_view text) {
  constexpr size_t kLongest = 120;
  size_t end = text.size();
  if (end > kLongest) {
    end = kLongest;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) {
      --end;
    }
  }
  std::string result = "\"";
  for (const char character : text.substr(0, end)) {
    result += static_cast<unsigned char>(character) < 0x20 ? ' ' : character;
  }
  return result + (end < text.size() ? "…\"" : "\"");
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  }
  return text + "]";
}

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

// Takes the header apart as it is read, so that nothing the format does not know is ever held in memory.
class HeaderReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::vector<Entry> entries;
  std::map<std::string, std::string> metadata;
  std::string error;

  bool null() override { return refuse_value(); }
  bool boolean(bool) override { return refuse_value(); }
  bool number_integer(number_integer_t) override {
    return in_list() ? fail(list_subject() + " holds a negative number") : refuse_value();
  }
  bool number_float(number_float_t, const string_t&) override {
    return in_list() ? fail(list_subject() + " holds a number that is no 64-bit integer") : refuse_value();
  }
  bool binary(binary_t&) override { return refuse_value(); }

  bool number_unsigned(number_unsigned_t value) override {
    if (!in_list()) {
      return refuse_value();
    }
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return fail(list_subject() + " holds a number that is no 64-bit integer");
    }
    Entry& entry = entries.back();
    std::vector<int64_t>& list = place_ == Place::kShape ? entry.shape : entry.offsets;
    if (list.size() == (place_ == Place::kShape ? kLargestRank : 2)) {
      return fail(place_ == Place::kShape ? list_subject() + " has more than " + std::to_string(kLargestRank) + " axes"
                                          : list_subject() + " holds more than two numbers");
    }
    list.push_back(static_cast<int64_t>(value));
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::kMetadata) {
      metadata[key_] = std::move(value);
      return true;
    }
    if (place_ == Place::kTensor && key_ == "dtype") {
      entries.back().dtype = std::move(value);
      return true;
    }
    return refuse_value();
  }

  bool start_object(size_t) override {
    switch (place_) {
      case Place::kOutside:
        place_ = Place::kTop;
        return true;
      case Place::kTop:
        keys_.clear();
        if (key_ == kMetadata) {
          place_ = Place::kMetadata;
        } else {
          place_ = Place::kTensor;
          entries.emplace_back().name = key_;
        }
        return true;
      default:
        return refuse_value();
    }
  }

  bool key(string_t& value) override {
    std::set<std::string>& seen = place_ == Place::kTop ? names_ : keys_;
    if (!seen.insert(value).second) {
      return fail(place_ == Place::kTop ? "the header names " + in_quotes(value) + " twice"
                                        : subject() + " has the key " + in_quotes(value) + " twice");
    }
    if (place_ == Place::kTensor && value != "dtype" && value != "shape" && value != "data_offsets") {
      return fail(subject() + " has the unknown key " + in_quotes(value));
    }
    key_ = std::move(value);
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kTensor) {
      const Entry& entry = entries.back();
      const char* missing = entry.dtype.empty()        ? "dtype"
                            : !entry.has_shape         ? "shape"
                            : entry.offsets.size() < 2 ? "data_offsets"
                                                       : nullptr;
      if (missing != nullptr) {
        return fail(subject() + " has no proper \"" + missing + "\"");
      }
    }
    place_ = place_ == Place::kTop ? Place::kOutside : Place::kTop;
    return true;
  }

  bool start_array(size_t) override {
    if (place_ == Place::kTensor && key_ == "shape") {
      place_ = Place::kShape;
      entries.back().has_shape = true;
      return true;
    }
    if (place_ == Place::kTensor && key_ == "data_offsets") {
      place_ = Place::kOffsets;
      return true;
    }
    return refuse_value();
  }

  bool end_array() override {
    place_ = Place::kTensor;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
    return fail("the header is not valid JSON near its byte " + std::to_string(position));
  }

 private:
  enum class Place { kOutside, kTop, kMetadata, kTensor, kShape, kOffsets };

  bool fail(std::string message) {
    error = std::move(message);
    return false;
  }
  bool in_list() const { return place_ == Place::kShape || place_ == Place::kOffsets; }
  std::string subject() const {
    return place_ == Place::kMetadata || entries.empty() ? "the metadata" : "tensor " + in_quotes(entries.back().name);
  }
  std::string list_subject() const {
    return std::string(place_ == Place::kShape ? "the shape" : "\"data_offsets\"") + " of tensor " +
           in_quotes(entries.back().name);
  }
  // A value of a kind that does not belong where it stands.
  bool refuse_value() {
    switch (place_) {
      case Place::kOutside:
        return fail("the header is not a JSON object");
      case Place::kTop:
        return fail("the header's entry " + in_quotes(key_) + " is not an object");
      case Place::kMetadata:
        return fail("the metadata's entry " + in_quotes(key_) + " is not a string");
      case Place::kTensor:
        return fail("tensor " + in_quotes(entries.back().name) + " has no proper " + in_quotes(key_));
      default:
        return fail(list_subject() + " holds something that is no number");
    }
  }

  Place place_ = Place::kOutside;
  std::string key_;
  std::set<std::string> names_;
  std::set<std::string> keys_;
};

struct Layout {
  std::vector<Entry> entries;  // in the order of their data
  std::map<std::string, std::string> metadata;
  size_t data_begin = 0;
};

absl::Status error_in(const std::string& file, const std::string& message) {
  return absl::InvalidArgumentError(file + ": " + message);
}

// Checks that type, shape and offsets of `entry` agree, and stores the type.
absl::Status check_entry(Entry& entry, const std::string& file) {
  const auto dtype = std::find_if(kDtypes.begin(), kDtypes.end(), [&](const DtypeName& d) { return d.name == entry.dtype; });
  const std::string subject = "tensor " + in_quotes(entry.name);
  if (dtype == kDtypes.end()) {
    return error_in(file, subject + " has the dtype " + in_quotes(entry.dtype) +
                              "; read are F64, F32, F16, BF16, I64, I32, I16, I8, U8 and BOOL");
  }
  entry.type = dtype->type;
  // LibTorch multiplies axes of an empty tensor too (for strides), so none may overflow even beside a zero.
  int64_t bytes = static_cast<int64_t>(c10::elementSize(entry.type));
  bool empty = false;
  for (const int64_t size : entry.shape) {
    empty = empty || size == 0;
    if (__builtin_mul_overflow(bytes, std::max<int64_t>(size, 1), &bytes)) {
      return error_in(file, subject + " has the shape " + shape_text(entry.shape) + ", more than 64 bits count");
    }
  }
  bytes = empty ? 0 : bytes;
  if (entry.begin() > entry.end() || entry.end() - entry.begin() != bytes) {
    return error_in(file, subject + " of shape " + shape_text(entry.shape) + " in " + entry.dtype + " needs " +
                              std::to_string(bytes) + " bytes, but its offsets are " + std::to_string(entry.begin()) +
                              " to " + std::to_string(entry.end()));
  }
  return absl::OkStatus();
}

absl::StatusOr<Layout> read_layout(std::string_view bytes, const std::string& file) {
  if (bytes.size() < kLengthBytes) {
    return error_in(file, "this is no safetensors file: it has " + std::to_string(bytes.size()) + " bytes");
  }
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), kLengthBytes);
  if (header_bytes > kLargestHeader) {
    return error_in(file, "this is no safetensors file: its header would have " + std::to_string(header_bytes) +
                              " bytes, more than the 100 MB the format allows");
  }
  if (header_bytes > bytes.size() - kLengthBytes) {
    return error_in(file, "the file is cut off inside its header: it has " + std::to_string(bytes.size()) +
                              " bytes, and the header ends at " + std::to_string(kLengthBytes + header_bytes));
  }
  const std::string_view header = bytes.substr(kLengthBytes, header_bytes);
  HeaderReader reader;
  if (header.empty() || header.front() != '{') {
    return error_in(file, "the header is not a JSON object");
  }
  if (header.find('\0') != std::string_view::npos) {
    return error_in(file, "the header is not valid JSON: it holds a zero byte");  // where the parser would just stop
  }
  if (!nlohmann::json::sax_parse(header.begin(), header.end(), &reader)) {
    return error_in(file, reader.error);
  }
  Layout layout{std::move(reader.entries), std::move(reader.metadata), kLengthBytes + header_bytes};
  for (Entry& entry : layout.entries) {
    RETURN_IF_ERROR(check_entry(entry, file));
  }
  // In order of place every tensor begins where the last one ends.
  std::sort(layout.entries.begin(), layout.entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.offsets, a.name) < std::tie(b.offsets, b.name);
  });
  const int64_t available = static_cast<int64_t>(bytes.size() - layout.data_begin);
  int64_t end = 0;
  for (const Entry& entry : layout.entries) {
    const std::string subject = "tensor " + in_quotes(entry.name);
    if (entry.begin() < end) {
      return error_in(file, subject + " overlaps the tensor before it");
    }
    if (entry.begin() > end) {
      return error_in(file, "the " + std::to_string(entry.begin() - end) + " bytes before tensor " + in_quotes(entry.name) +
                                " belong to no tensor");
    }
    end = entry.end();
    if (end > available) {
      return error_in(file, "the file is cut off inside tensor " + in_quotes(entry.name) + ": it holds " +
                                std::to_string(available) + " bytes of data, and the tensor ends at " +
                                std::to_string(end));
    }
  }
  if (end < available) {
    return error_in(file, "the last " + std::to_string(available - end) + " bytes belong to no tensor");
  }
  return layout;
}

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

#include "core/io/safetensors_layout.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <set>
#include <tuple>
#include <utility>

#include "nlohmann/json.hpp"

namespace hippodrome::safetensors_detail {
namespace {

// What LibTorch's iterators carry.
constexpr size_t kLargestRank = 64;

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  }
  return text + "]";
}

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

}  // namespace

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

absl::Status error_in(const std::string& file, const std::string& message) {
  return absl::InvalidArgumentError(file + ": " + message);
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

}  // namespace hippodrome::safetensors_detail

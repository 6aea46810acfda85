#include "core/data/tokenizer/json_keys.h"

namespace hippodrome {
namespace json_keys_detail {
namespace {

constexpr size_t kLongest = 120;

// Of a file's words as much as a message bears, on one line and in ASCII.
std::string shown(std::string text) {
  const bool long_one = text.size() > kLongest;
  if (long_one) text.resize(kLongest);
  for (char& byte : text) {
    if (byte < ' ' || byte == 0x7F) byte = '?';
  }
  return text + (long_one ? "…" : "");
}

}  // namespace
}  // namespace json_keys_detail

absl::StatusOr<Json> parse_json(std::string_view text, const std::string& name) {
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& error) {
    return absl::DataLossError(name + ": the file is not JSON from byte " + std::to_string(error.byte) + " on");
  } catch (const Json::exception&) {
    return absl::DataLossError(name + ": the file is not JSON: a number in it is out of range");
  }
}

std::string quoted(const std::string& text) {
  return json_keys_detail::shown(Json(text).dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace));
}

const Json& JsonKeys::get(const Json& object, const char* key) const {
  static const Json kNull;
  if (!object.is_object()) {
    return kNull;
  }
  const auto found = object.find(key);
  return found == object.end() ? kNull : *found;
}

std::string JsonKeys::type(const Json& object) const {
  const Json& type = get(object, "type");
  return type.is_string() ? type.get<std::string>() : "none";
}

absl::StatusOr<bool> JsonKeys::flag(const Json& object, const std::string& path, const char* key, bool otherwise) const {
  const Json& value = get(object, key);
  if (value.is_null()) {
    return otherwise;
  }
  if (!value.is_boolean()) {
    return malformed((path.empty() ? "" : path + ".") + key, "must be true or false");
  }
  return value.get<bool>();
}

absl::Status JsonKeys::malformed(const std::string& key, const std::string& message) const {
  return absl::DataLossError(name_ + ": " + key + (key.empty() ? "" : " ") + message);
}

absl::Status JsonKeys::unsupported(const std::string& key, const std::string& what, const std::string& instead) const {
  return absl::UnimplementedError(name_ + ": " + key + " " + json_keys_detail::shown(what) + " is not supported; " +
                                  instead);
}

}  // namespace hippodrome

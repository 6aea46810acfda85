#include "core/base/config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "core/base/text.h"

namespace hippodrome {
namespace config_detail {
namespace {

void append_json_string(std::string_view text, std::string& out) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  out += '"';
  for (const char character : text) {
    const unsigned char byte = static_cast<unsigned char>(character);
    if (character == '"' || character == '\\') {
      out += '\\';
      out += character;
    } else if (character == '\n') {
      out += "\\n";
    } else if (character == '\t') {
      out += "\\t";
    } else if (byte < 0x20 || byte == 0x7F) {
      out += "\\u00";
      out += kDigits[byte >> 4];
      out += kDigits[byte & 15];
    } else {
      out += character;
    }
  }
  out += '"';
}

// The shortest text that reads back as the same double; always with a point or exponent, so that it stays a real.
std::string real_text(double value) {
  std::array<char, 32> buffer;
  const std::to_chars_result end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  std::string text(buffer.data(), end.ptr);
  if (text.find_first_of(".en") == std::string::npos) {
    text += ".0";
  }
  return text;
}

// In messages numbers are as people write them: "1", "0.5".
std::string message_text(int64_t value) { return std::to_string(value); }
std::string message_text(double value) {
  std::string text = real_text(value);
  if (text.ends_with(".0")) {
    text.resize(text.size() - 2);
  }
  return text;
}

void append_json(const ConfigValue& value, std::string& out) {
  if (const bool* boolean = value.boolean()) {
    out += *boolean ? "true" : "false";
  } else if (const int64_t* integer = value.integer()) {
    out += std::to_string(*integer);
  } else if (const double* real = value.real()) {
    // JSON has no infinities and no NaN; a string names them.
    out += std::isfinite(*real) ? real_text(*real) : "\"" + real_text(*real) + "\"";
  } else if (const std::string* string = value.string()) {
    append_json_string(*string, out);
  } else if (const ConfigValue::List* list = value.list()) {
    out += '[';
    for (size_t i = 0; i < list->size(); ++i) {
      out += i > 0 ? ", " : "";
      append_json((*list)[i], out);
    }
    out += ']';
  } else if (const ConfigValue::Table* table = value.table()) {
    out += '{';
    for (size_t i = 0; i < table->size(); ++i) {
      out += i > 0 ? ", " : "";
      append_json_string((*table)[i].first, out);
      out += ": ";
      append_json((*table)[i].second, out);
    }
    out += '}';
  }
}

// `the string "four"`, `the integer 3`, `a table`.
std::string described(const ConfigValue& value) {
  if (value.list() != nullptr || value.table() != nullptr) {
    return std::string(value.kind());
  }
  if (const std::string* string = value.string(); string != nullptr && string->size() > 60) {
    return "a string of " + std::to_string(string->size()) + " bytes";
  }
  const std::string_view kind = value.kind();
  std::string text = "the " + std::string(kind.substr(kind.find(' ') + 1)) + " ";
  if (const double* real = value.real()) {
    return text + real_text(*real);
  }
  append_json(value, text);
  return text;
}

std::string quoted(std::string_view key) {
  std::string text;
  append_json_string(key, text);
  return text;
}

std::string place(const std::string& path) { return path.empty() ? "at the top level" : "in [" + path + "]"; }

std::string item_subject(size_t index, std::string_view key) {
  return "item " + std::to_string(index + 1) + " of " + quoted(key);
}

// "must be between 1 and 1024, not 0", or empty when `value` is inside; a NaN is outside of every range.
template <class T>
std::string range_error(T value, Fields::Range<T> range) {
  if (value >= range.low && value <= range.high) {
    return "";
  }
  constexpr bool kHasInfinity = std::numeric_limits<T>::has_infinity;
  constexpr T kHighest = kHasInfinity ? std::numeric_limits<T>::infinity() : std::numeric_limits<T>::max();
  constexpr T kLowest = kHasInfinity ? -std::numeric_limits<T>::infinity() : std::numeric_limits<T>::lowest();
  const std::string not_value = ", not " + message_text(value);
  if (range.low <= kLowest && range.high >= kHighest) {
    return "must be a number" + not_value;
  }
  if (range.high >= kHighest) {
    return "must be at least " + message_text(range.low) + not_value;
  }
  if (range.low <= kLowest) {
    return "must be at most " + message_text(range.high) + not_value;
  }
  return "must be between " + message_text(range.low) + " and " + message_text(range.high) + not_value;
}

std::string wrong_kind(std::string_view wanted, const ConfigValue& value) {
  return "must be " + std::string(wanted) + ", not " + described(value);
}

template <class T>
std::string range_text(std::string_view kind, Fields::Range<T> range) {
  const bool low = range.low > std::numeric_limits<T>::lowest();
  const bool high = range.high < std::numeric_limits<T>::max();
  std::string text(kind);
  if (low && high) {
    return text + " in [" + message_text(range.low) + ", " + message_text(range.high) + "]";
  }
  if (low) {
    return text + " ≥ " + message_text(range.low);
  }
  if (high) {
    return text + " ≤ " + message_text(range.high);
  }
  return text;
}

template <class T>
ConfigValue list_value(const std::vector<T>& values) {
  ConfigValue::List list;
  for (const T& value : values) {
    list.emplace_back(value);
  }
  return ConfigValue(std::move(list));
}

}  // namespace
}  // namespace config_detail

std::string SourceLocation::text() const { return line > 0 ? file + ":" + std::to_string(line) : file; }

std::string_view ConfigValue::kind() const {
  static constexpr std::array<std::string_view, 6> kKinds = {"a boolean", "an integer", "a number",
                                                             "a string",  "a list",     "a table"};
  return kKinds[data_.index()];
}

const ConfigValue* ConfigValue::find(std::string_view key) const {
  if (const Table* entries = table()) {
    for (const auto& [name, value] : *entries) {
      if (name == key) {
        return &value;
      }
    }
  }
  return nullptr;
}

ConfigValue* ConfigValue::find(std::string_view key) {
  return const_cast<ConfigValue*>(std::as_const(*this).find(key));
}

ConfigValue& ConfigValue::set(std::string_view key, ConfigValue value) {
  if (ConfigValue* present = find(key)) {
    *present = std::move(value);
    return *present;
  }
  if (table() == nullptr) {
    data_ = Table{};
  }
  return table()->emplace_back(std::string(key), std::move(value)).second;
}

bool ConfigValue::erase(std::string_view key) {
  Table* entries = table();
  return entries != nullptr && std::erase_if(*entries, [key](const auto& entry) { return entry.first == key; }) > 0;
}

void ConfigValue::merge(const ConfigValue& over) {
  if (&over == this) {
    return;
  }
  if (table() == nullptr || over.table() == nullptr) {
    *this = ConfigValue(over);
    return;
  }
  for (const auto& [key, value] : *over.table()) {
    if (ConfigValue* present = find(key)) {
      present->merge(value);
    } else {
      set(key, value);
    }
  }
}

std::string ConfigValue::json() const {
  std::string text;
  config_detail::append_json(*this, text);
  return text;
}

// ---- reading -------------------------------------------------------------------------------------------------------------

ReadFields::ReadFields(const ConfigValue& table, std::string path) : table_(table), path_(std::move(path)) {
  if (table.table() == nullptr) {
    const std::string subject = path_.empty() ? "this" : "[" + path_ + "]";
    const std::string where = table.where().text();
    status_ = absl::InvalidArgumentError((where.empty() ? "" : where + ": ") + subject + " " +
                                         config_detail::wrong_kind("a table", table));
  }
}

const ConfigValue* ReadFields::take(std::string_view key) {
  known_.emplace_back(key);
  return table_.find(key);
}

void ReadFields::fail(const ConfigValue& at, const std::string& subject, const std::string& message) {
  if (status_.ok()) {
    const std::string where = at.where().text();
    status_ = absl::InvalidArgumentError((where.empty() ? "" : where + ": ") + subject + " " +
                                         config_detail::place(path_) + " " + message);
  }
}

void ReadFields::flag(std::string_view key, bool& value, std::string_view) {
  if (const ConfigValue* given = take(key)) {
    if (const bool* boolean = given->boolean()) {
      value = *boolean;
    } else {
      fail(*given, config_detail::quoted(key), config_detail::wrong_kind("true or false", *given));
    }
  }
}

void ReadFields::integer(std::string_view key, int64_t& value, Range<int64_t> range, std::string_view) {
  if (const ConfigValue* given = take(key)) {
    read_integer(*given, config_detail::quoted(key), value, range);
  }
}

bool ReadFields::read_integer(const ConfigValue& given, const std::string& subject, int64_t& value,
                              Range<int64_t> range) {
  const int64_t* integer = given.integer();
  const std::string error =
      integer == nullptr ? config_detail::wrong_kind("an integer", given) : config_detail::range_error(*integer, range);
  if (!error.empty()) {
    fail(given, subject, error);
    return false;
  }
  value = *integer;
  return true;
}

void ReadFields::number(std::string_view key, double& value, Range<double> range, std::string_view) {
  const ConfigValue* given = take(key);
  if (given == nullptr) {
    return;
  }
  double number = 0.0;
  if (const double* real = given->real()) {
    number = *real;
  } else if (const int64_t* integer = given->integer()) {
    number = static_cast<double>(*integer);
  } else if (const std::string* text = given->string(); text && (*text == "inf" || *text == "-inf")) {
    number = *text == "inf" ? std::numeric_limits<double>::infinity() : -std::numeric_limits<double>::infinity();  // as json() writes them
  } else {
    fail(*given, config_detail::quoted(key), config_detail::wrong_kind("a number", *given));
    return;
  }
  if (const std::string error = config_detail::range_error(number, range); !error.empty()) {
    fail(*given, config_detail::quoted(key), error);
    return;
  }
  value = number;
}

void ReadFields::text(std::string_view key, std::string& value, std::string_view) {
  if (const ConfigValue* given = take(key)) {
    if (const std::string* string = given->string()) {
      value = *string;
    } else {
      fail(*given, config_detail::quoted(key), config_detail::wrong_kind("a string", *given));
    }
  }
}

void ReadFields::choice(std::string_view key, std::string& value, const std::vector<std::string>& options,
                        std::string_view) {
  const ConfigValue* given = take(key);
  if (given == nullptr) {
    return;
  }
  const std::string* string = given->string();
  if (string != nullptr && std::find(options.begin(), options.end(), *string) != options.end()) {
    value = *string;
    return;
  }
  std::vector<std::string> names;
  for (const std::string& option : options) {
    names.push_back(config_detail::quoted(option));
  }
  std::string message = config_detail::wrong_kind((names.size() > 1 ? "one of " : "") + join(names, ", "), *given);
  if (string != nullptr) {
    if (const std::string nearest = nearest_name(*string, options); !nearest.empty()) {
      message += "; did you mean " + config_detail::quoted(nearest) + "?";
    }
  }
  fail(*given, config_detail::quoted(key), message);
}

void ReadFields::integers(std::string_view key, std::vector<int64_t>& values, Range<int64_t> range,
                          std::string_view) {
  const ConfigValue* given = take(key);
  if (given == nullptr) {
    return;
  }
  const ConfigValue::List* list = given->list();
  if (list == nullptr) {
    fail(*given, config_detail::quoted(key), config_detail::wrong_kind("a list of integers", *given));
    return;
  }
  std::vector<int64_t> read(list->size());
  for (size_t i = 0; i < list->size(); ++i) {
    if (!read_integer((*list)[i], config_detail::item_subject(i, key), read[i], range)) {
      return;
    }
  }
  values = std::move(read);
}

void ReadFields::texts(std::string_view key, std::vector<std::string>& values, std::string_view) {
  const ConfigValue* given = take(key);
  if (given == nullptr) {
    return;
  }
  const ConfigValue::List* list = given->list();
  if (list == nullptr) {
    fail(*given, config_detail::quoted(key), config_detail::wrong_kind("a list of strings", *given));
    return;
  }
  std::vector<std::string> read;
  for (size_t i = 0; i < list->size(); ++i) {
    const ConfigValue& item = (*list)[i];
    if (item.string() == nullptr) {
      fail(item, config_detail::item_subject(i, key), config_detail::wrong_kind("a string", item));
      return;
    }
    read.push_back(*item.string());
  }
  values = std::move(read);
}

void ReadFields::tree(std::string_view key, ConfigValue& value, std::string_view) {
  if (const ConfigValue* given = take(key)) {
    value = *given;
  }
}

absl::Status ReadFields::finish() const {
  if (!status_.ok()) {
    return status_;
  }
  for (const auto& [key, value] : *table_.table()) {
    if (std::find(known_.begin(), known_.end(), key) == known_.end()) {
      const std::string where = value.where().text();
      return absl::InvalidArgumentError((where.empty() ? "" : where + ": ") + "unknown key " +
                                        config_detail::quoted(key) + " " + config_detail::place(path_) +
                                        suggestion(key, known_));
    }
  }
  return absl::OkStatus();
}

// ---- writing -------------------------------------------------------------------------------------------------------------

void WriteFields::flag(std::string_view key, bool& value, std::string_view) { result.set(key, ConfigValue(value)); }

void WriteFields::integer(std::string_view key, int64_t& value, Range<int64_t>, std::string_view) {
  result.set(key, ConfigValue(value));
}

void WriteFields::number(std::string_view key, double& value, Range<double>, std::string_view) {
  result.set(key, ConfigValue(value));
}

void WriteFields::text(std::string_view key, std::string& value, std::string_view) {
  result.set(key, ConfigValue(value));
}

void WriteFields::choice(std::string_view key, std::string& value, const std::vector<std::string>&,
                         std::string_view) {
  result.set(key, ConfigValue(value));
}

void WriteFields::integers(std::string_view key, std::vector<int64_t>& values, Range<int64_t>, std::string_view) {
  result.set(key, config_detail::list_value(values));
}

void WriteFields::texts(std::string_view key, std::vector<std::string>& values, std::string_view) {
  result.set(key, config_detail::list_value(values));
}

void WriteFields::tree(std::string_view key, ConfigValue& value, std::string_view) { result.set(key, value); }

// ---- describing ----------------------------------------------------------------------------------------------------------

void DescribeFields::flag(std::string_view key, bool& value, std::string_view doc) {
  result.push_back({std::string(key), "boolean", value ? "true" : "false", std::string(doc)});
}

void DescribeFields::integer(std::string_view key, int64_t& value, Range<int64_t> range, std::string_view doc) {
  result.push_back({std::string(key), config_detail::range_text("integer", range), std::to_string(value),
                    std::string(doc)});
}

void DescribeFields::number(std::string_view key, double& value, Range<double> range, std::string_view doc) {
  result.push_back({std::string(key), config_detail::range_text("number", range), config_detail::message_text(value),
                    std::string(doc)});
}

void DescribeFields::text(std::string_view key, std::string& value, std::string_view doc) {
  result.push_back({std::string(key), "string", config_detail::quoted(value), std::string(doc)});
}

void DescribeFields::choice(std::string_view key, std::string& value, const std::vector<std::string>& options,
                            std::string_view doc) {
  result.push_back({std::string(key), join(options, " | "), config_detail::quoted(value), std::string(doc)});
}

void DescribeFields::integers(std::string_view key, std::vector<int64_t>& values, Range<int64_t> range,
                              std::string_view doc) {
  result.push_back({std::string(key), config_detail::range_text("list of integers", range),
                    config_detail::list_value(values).json(), std::string(doc)});
}

void DescribeFields::texts(std::string_view key, std::vector<std::string>& values, std::string_view doc) {
  result.push_back({std::string(key), "list of strings", config_detail::list_value(values).json(), std::string(doc)});
}

void DescribeFields::tree(std::string_view key, ConfigValue& value, std::string_view doc) {
  result.push_back({std::string(key), value.list() != nullptr ? "list" : "table", value.json(), std::string(doc)});
}

}  // namespace hippodrome

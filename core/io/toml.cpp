#include "core/io/toml.h"

#include <toml++/toml.h>

#include <algorithm>
#include <charconv>
#include <exception>
#include <optional>
#include <utility>
#include <vector>

#include "core/base/text.h"
#include "core/io/atomic_file.h"
#include "core/io/toml_guard.h"

namespace hippodrome {
namespace toml_detail {
namespace {

// A recipe is a page or two; this keeps a stray file from costing much.
constexpr size_t kLargestFile = size_t{16} << 20;
constexpr size_t kLongestKey = 32;  // of an assignment, in parts: a.b.c has three

// Where values stand: in a file by line, or all in one place.
struct Origin {
  std::string name;
  std::optional<SourceLocation> fixed;

  SourceLocation at(const toml::source_region& region) const {
    return fixed ? *fixed : SourceLocation{name, static_cast<int>(region.begin.line)};
  }
  // "recipe.toml:3:7", or the name alone.
  std::string text(size_t line, size_t column) const {
    return fixed ? name : name + ":" + std::to_string(line) + ":" + std::to_string(column);
  }
};

absl::StatusOr<ConfigValue> convert(const toml::node& node, const Origin& origin, const SourceLocation& where) {
  if (const auto* boolean = node.as_boolean()) {
    return ConfigValue(boolean->get(), where);
  }
  if (const auto* integer = node.as_integer()) {
    return ConfigValue(integer->get(), where);
  }
  if (const auto* real = node.as_floating_point()) {
    return ConfigValue(real->get(), where);
  }
  if (const auto* string = node.as_string()) {
    return ConfigValue(string->get(), where);
  }
  if (const toml::array* array = node.as_array()) {
    ConfigValue::List list;
    list.reserve(array->size());
    for (const toml::node& item : *array) {
      ASSIGN_OR_RETURN(ConfigValue value, convert(item, origin, origin.at(item.source())));
      list.push_back(std::move(value));
    }
    return ConfigValue(std::move(list), where);
  }
  if (const toml::table* table = node.as_table()) {
    // toml++ sorts keys by name; their positions give back the order written.
    std::vector<std::pair<const toml::key*, const toml::node*>> entries;
    for (const auto& [key, value] : *table) {
      entries.emplace_back(&key, &value);
    }
    std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
      return a.first->source().begin < b.first->source().begin;
    });
    ConfigValue::Table result;
    result.reserve(entries.size());
    for (const auto& [key, value] : entries) {
      ASSIGN_OR_RETURN(ConfigValue converted, convert(*value, origin, origin.at(key->source())));
      result.emplace_back(std::string(key->str()), std::move(converted));
    }
    return ConfigValue(std::move(result), where);
  }
  return absl::UnimplementedError(where.text() + ": dates and times have no use in a recipe; write it in quotes");
}

// "error while parsing integer: expected digit, saw 'x'", on one line.
std::string one_sentence(std::string_view description) {
  std::string text(description);
  if (!text.empty() && text[0] == 'E') {
    text[0] = 'e';
  }
  for (char& character : text) {
    if (static_cast<unsigned char>(character) < 0x20) {
      character = ' ';
    }
  }
  return text;
}

absl::StatusOr<ConfigValue> parse(std::string_view text, const Origin& origin) {
  const std::string& name = origin.name;
  if (text.size() > kLargestFile) {
    return absl::InvalidArgumentError(name + ": " + format_bytes(static_cast<double>(text.size())) +
                                      " is more than a recipe may have (" + format_bytes(kLargestFile) + ")");
  }
  RETURN_IF_ERROR(guard_toml(text, [&](size_t line, size_t column) { return origin.text(line, column); }));
  try {
    const toml::table table = toml::parse(text, name);
    return convert(table, origin, origin.fixed ? *origin.fixed : SourceLocation{name, 1});
  } catch (const toml::parse_error& error) {
    const toml::source_position at = error.source().begin;
    return absl::InvalidArgumentError(origin.text(at.line, at.column) + ": not valid TOML: " +
                                      one_sentence(error.description()));
  } catch (const std::exception& error) {
    return absl::InternalError(name + ": cannot be read as TOML: " + error.what());
  }
}

// The steps of `a.b."c.d".0`, or an error that begins with `name`.
absl::StatusOr<std::vector<std::string>> split_key(std::string_view key, const std::string& name) {
  std::vector<std::string> steps;
  size_t i = 0;
  const auto skip_spaces = [&] {
    while (i < key.size() && (key[i] == ' ' || key[i] == '\t')) {
      ++i;
    }
  };
  while (true) {
    skip_spaces();
    std::string step;
    if (i < key.size() && (key[i] == '"' || key[i] == '\'')) {
      const size_t end = key.find(key[i], i + 1);
      if (end == std::string_view::npos) {
        return absl::InvalidArgumentError(name + ": a quote in the key is not closed");
      }
      step = key.substr(i + 1, end - i - 1);
      i = end + 1;
    } else {
      const size_t end = std::min(key.find_first_of(". \t\"'", i), key.size());
      step = key.substr(i, end - i);
      i = end;
      if (step.empty()) {
        return absl::InvalidArgumentError(name + ": the key has an empty part; write it like training.steps");
      }
    }
    steps.push_back(std::move(step));
    skip_spaces();
    if (i == key.size()) {
      break;
    }
    if (key[i] != '.') {
      return absl::InvalidArgumentError(name + ": the parts of a key are joined by dots, as in training.steps");
    }
    ++i;
  }
  if (steps.size() > kLongestKey) {
    return absl::InvalidArgumentError(name + ": the key has more than " + std::to_string(kLongestKey) + " parts");
  }
  return steps;
}

// The first '=' outside of quotes.
size_t find_equals(std::string_view assignment) {
  char quote = '\0';
  for (size_t i = 0; i < assignment.size(); ++i) {
    const char character = assignment[i];
    if (quote != '\0') {
      quote = character == quote ? '\0' : quote;
    } else if (character == '"' || character == '\'') {
      quote = character;
    } else if (character == '=') {
      return i;
    }
  }
  return std::string_view::npos;
}

// The value as TOML; a bare string when it is none, unless it is a date or begins as a list, table or quoted string does.
absl::StatusOr<ConfigValue> parse_value(std::string_view text, const Origin& origin) {
  const size_t begin = text.find_first_not_of(" \t");
  text.remove_prefix(std::min(begin, text.size()));
  absl::StatusOr<ConfigValue> parsed = parse("value = " + std::string(text), origin);
  if (parsed.ok()) {
    if (parsed->table()->size() == 1 && parsed->table()->front().first == "value") {
      return std::move(parsed->table()->front().second);
    }
  } else if (parsed.status().code() == absl::StatusCode::kUnimplemented ||
             (!text.empty() && std::string_view("[{\"'").find(text[0]) != std::string_view::npos)) {
    return parsed.status();
  }
  return ConfigValue(std::string(text), *origin.fixed);
}

// The entry of `list` that `step` names by index or by its key "name".
absl::StatusOr<ConfigValue*> find_item(ConfigValue::List& list, const std::string& step, const std::string& path,
                                       const std::string& name) {
  size_t index = 0;
  const std::from_chars_result number = std::from_chars(step.data(), step.data() + step.size(), index);
  if (number.ec == std::errc() && number.ptr == step.data() + step.size() && index < list.size()) {
    return &list[index];
  }
  std::vector<std::string> names;
  for (ConfigValue& item : list) {
    const ConfigValue* item_name = item.find("name");
    if (item_name == nullptr || item_name->string() == nullptr) {
      continue;
    }
    if (*item_name->string() == step) {
      return &item;
    }
    names.push_back(*item_name->string());
  }
  std::string message = name + ": \"" + path + "\" has no entry \"" + step + "\"";
  if (list.empty()) {
    message += "; it is empty";
  } else if (names.empty()) {
    message += "; its entries are 0 to " + std::to_string(list.size() - 1);
  } else {
    message += suggestion(step, names);
  }
  return absl::InvalidArgumentError(message);
}

}  // namespace
}  // namespace toml_detail

absl::StatusOr<ConfigValue> parse_toml(std::string_view text, std::string name) {
  return toml_detail::parse(text, {std::move(name), std::nullopt});
}

absl::StatusOr<ConfigValue> read_toml_file(const std::filesystem::path& path) {
  ASSIGN_OR_RETURN(const std::string text, read_file(path, toml_detail::kLargestFile));
  return parse_toml(text, path.string());
}

absl::Status apply_override(ConfigValue& root, std::string_view assignment) {
  // A JSON string is a TOML string, so the parser itself judges whether the bytes are text.
  if (!parse_toml("text = " + ConfigValue(std::string(assignment)).json(), "").ok()) {
    return absl::InvalidArgumentError("--set: the assignment is not UTF-8 text");
  }
  const std::string name = "--set " + std::string(assignment);
  const SourceLocation where{name, 0};
  const size_t equals = toml_detail::find_equals(assignment);
  if (equals == std::string_view::npos) {
    return absl::InvalidArgumentError(name + ": write key=value, as in --set training.steps=100");
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> steps, toml_detail::split_key(assignment.substr(0, equals), name));
  ASSIGN_OR_RETURN(ConfigValue value, toml_detail::parse_value(assignment.substr(equals + 1), {name, where}));

  ConfigValue* at = &root;
  std::string path;
  for (size_t i = 0; i < steps.size(); ++i) {
    const std::string& step = steps[i];
    const bool last = i + 1 == steps.size();
    if (ConfigValue::List* list = at->list()) {
      ASSIGN_OR_RETURN(at, toml_detail::find_item(*list, step, path, name));
    } else if (at->table() == nullptr) {
      const std::string place = at->where().text();
      return absl::InvalidArgumentError(name + ": \"" + path + "\" is " + std::string(at->kind()) +
                                        (place.empty() ? "" : " (" + place + ")") + ", so \"" + step +
                                        "\" cannot be set inside of it");
    } else if (ConfigValue* present = at->find(step)) {
      at = present;
    } else {
      // Nothing can fail from here on: what follows is made of new tables.
      at = &at->set(step, last ? ConfigValue(0) : ConfigValue(ConfigValue::Table{}, where));
    }
    path += (path.empty() ? "" : ".") + step;
  }
  *at = std::move(value);
  return absl::OkStatus();
}

}  // namespace hippodrome

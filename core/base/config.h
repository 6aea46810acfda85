#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/base/status.h"

// Configuration: a tree of values that remember where they were written, and `Fields`, the one visitor by which a config
// struct is read, echoed and documented. core/io/toml.h makes trees from recipes.
namespace hippodrome {

// "recipe.toml:12", or "--set model.width=3" for an override, or a preset's name.
struct SourceLocation {
  std::string file;
  int line = 0;  // 0: not a line of a file
  std::string text() const;
};

class ConfigValue {
 public:
  using List = std::vector<ConfigValue>;
  using Table = std::vector<std::pair<std::string, ConfigValue>>;  // in the order written

  ConfigValue() : data_(Table{}) {}
  template <class T>
  explicit ConfigValue(T data, SourceLocation where = {}) : data_(std::move(data)), where_(std::move(where)) {}

  const bool* boolean() const { return std::get_if<bool>(&data_); }
  const int64_t* integer() const { return std::get_if<int64_t>(&data_); }
  const double* real() const { return std::get_if<double>(&data_); }
  const std::string* string() const { return std::get_if<std::string>(&data_); }
  const List* list() const { return std::get_if<List>(&data_); }
  const Table* table() const { return std::get_if<Table>(&data_); }
  List* list() { return std::get_if<List>(&data_); }
  Table* table() { return std::get_if<Table>(&data_); }
  // "a boolean", "an integer", … for messages.
  std::string_view kind() const;
  const SourceLocation& where() const { return where_; }

  // Of a table: the entry, or null.
  const ConfigValue* find(std::string_view key) const;
  ConfigValue* find(std::string_view key);
  // Of a table: adds or replaces an entry and returns it (any other value becomes a table first).
  ConfigValue& set(std::string_view key, ConfigValue value);
  bool erase(std::string_view key);
  // Of tables: lays `over` onto this one, table by table; other values replace.
  void merge(const ConfigValue& over);

  // One line of JSON, keys in order; infinities and NaN as strings.
  std::string json() const;

 private:
  std::variant<bool, int64_t, double, std::string, List, Table> data_;
  SourceLocation where_;
};

// Visits the fields of a config struct. A struct has `void bind(Fields& fields)` that names each field once:
//   fields.number("heads", heads, {1, 1024}, "query heads");
class Fields {
 public:
  template <class T>
  struct Range {
    T low;
    T high;
  };
  virtual ~Fields() = default;
  virtual void flag(std::string_view key, bool& value, std::string_view doc) = 0;
  virtual void integer(std::string_view key, int64_t& value, Range<int64_t> range, std::string_view doc) = 0;
  virtual void number(std::string_view key, double& value, Range<double> range, std::string_view doc) = 0;
  virtual void text(std::string_view key, std::string& value, std::string_view doc) = 0;
  // A string that must be one of `options`.
  virtual void choice(std::string_view key, std::string& value, const std::vector<std::string>& options,
                      std::string_view doc) = 0;
  virtual void integers(std::string_view key, std::vector<int64_t>& values, Range<int64_t> range,
                        std::string_view doc) = 0;
  virtual void texts(std::string_view key, std::vector<std::string>& values, std::string_view doc) = 0;
  // A sub-tree that its owner reads later by other means (a layer's table, for example).
  virtual void tree(std::string_view key, ConfigValue& value, std::string_view doc) = 0;
};

// Reads a table into a struct. Errors name file:line, the key, and for an unknown key the nearest valid one:
//   recipe.toml:7: unknown key "head" in [models.blocks.attention]; did you mean "heads"?
class ReadFields final : public Fields {
 public:
  // `table` must outlive the reader; `path` is how messages call the table, e.g. "models.blocks.attention".
  ReadFields(const ConfigValue& table, std::string path);

  void flag(std::string_view key, bool& value, std::string_view doc) override;
  void integer(std::string_view key, int64_t& value, Range<int64_t> range, std::string_view doc) override;
  void number(std::string_view key, double& value, Range<double> range, std::string_view doc) override;
  void text(std::string_view key, std::string& value, std::string_view doc) override;
  void choice(std::string_view key, std::string& value, const std::vector<std::string>& options,
              std::string_view doc) override;
  void integers(std::string_view key, std::vector<int64_t>& values, Range<int64_t> range,
                std::string_view doc) override;
  void texts(std::string_view key, std::vector<std::string>& values, std::string_view doc) override;
  void tree(std::string_view key, ConfigValue& value, std::string_view doc) override;

  // The first error met: a wrong type or range, else the first key of the table that no field claimed.
  absl::Status finish() const;

 private:
  const ConfigValue* take(std::string_view key);
  bool read_integer(const ConfigValue& given, const std::string& subject, int64_t& value, Range<int64_t> range);
  // Keeps the first error: "<where>: <subject> in [<path>] <message>".
  void fail(const ConfigValue& at, const std::string& subject, const std::string& message);

  const ConfigValue& table_;
  std::string path_;
  std::vector<std::string> known_;
  absl::Status status_;
};

// Echoes a struct as a tree with every field, defaults included: the resolved recipe.
class WriteFields final : public Fields {
 public:
  void flag(std::string_view key, bool& value, std::string_view doc) override;
  void integer(std::string_view key, int64_t& value, Range<int64_t> range, std::string_view doc) override;
  void number(std::string_view key, double& value, Range<double> range, std::string_view doc) override;
  void text(std::string_view key, std::string& value, std::string_view doc) override;
  void choice(std::string_view key, std::string& value, const std::vector<std::string>& options,
              std::string_view doc) override;
  void integers(std::string_view key, std::vector<int64_t>& values, Range<int64_t> range,
                std::string_view doc) override;
  void texts(std::string_view key, std::vector<std::string>& values, std::string_view doc) override;
  void tree(std::string_view key, ConfigValue& value, std::string_view doc) override;

  ConfigValue result;
};

// Lists the fields for `--help`-like output: key, type and range or options, default, doc.
struct FieldDescription {
  std::string key;
  std::string type;
  std::string default_value;
  std::string doc;
};

class DescribeFields final : public Fields {
 public:
  void flag(std::string_view key, bool& value, std::string_view doc) override;
  void integer(std::string_view key, int64_t& value, Range<int64_t> range, std::string_view doc) override;
  void number(std::string_view key, double& value, Range<double> range, std::string_view doc) override;
  void text(std::string_view key, std::string& value, std::string_view doc) override;
  void choice(std::string_view key, std::string& value, const std::vector<std::string>& options,
              std::string_view doc) override;
  void integers(std::string_view key, std::vector<int64_t>& values, Range<int64_t> range,
                std::string_view doc) override;
  void texts(std::string_view key, std::vector<std::string>& values, std::string_view doc) override;
  void tree(std::string_view key, ConfigValue& value, std::string_view doc) override;

  std::vector<FieldDescription> result;
};

// Reads `table` into a default-constructed T through T::bind; all of the table must be used.
template <class T>
absl::StatusOr<T> read_config(const ConfigValue& table, std::string path) {
  T config;
  ReadFields fields(table, std::move(path));
  config.bind(fields);
  if (absl::Status status = fields.finish(); !status.ok()) {
    return status;
  }
  return config;
}

template <class T>
ConfigValue write_config(T config) {
  WriteFields fields;
  config.bind(fields);
  return std::move(fields.result);
}

}  // namespace hippodrome

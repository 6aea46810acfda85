#include "experiments/race/summary.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/base/text.h"
#include "core/measure/timing.h"

namespace hippodrome {

using nlohmann::json;

namespace {

std::string fixed(double value, int digits) {
  char text[48];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

size_t characters(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

// The values of `key` in order of first appearance.
std::vector<std::string> names(const std::vector<json>& rows, const std::string& kind, const char* key) {
  std::vector<std::string> result;
  for (const json& row : rows) {
    if (row.value("kind", "") != kind) continue;
    const std::string name = row.value(key, "");
    if (std::find(result.begin(), result.end(), name) == result.end()) result.push_back(name);
  }
  return result;
}

std::vector<const json*> select(const std::vector<json>& rows, const std::string& kind, const char* key1,
                                const std::string& value1, const char* key2, const std::string& value2) {
  std::vector<const json*> result;
  for (const json& row : rows) {
    if (row.value("kind", "") == kind && row.value(key1, "") == value1 && row.value(key2, "") == value2) {
      result.push_back(&row);
    }
  }
  return result;
}

// "0.912 (0.88–0.95)": the median and, when there are several values, the range.
std::string median_and_range(const std::vector<double>& values, int digits) {
  std::string text = fixed(quantile(values, 0.5), digits);
  if (values.size() > 1) text += " (" + fixed(quantile(values, 0.0), digits) + "–" + fixed(quantile(values, 1.0), digits) + ")";
  return text;
}

std::string task_table(const std::vector<json>& rows, const std::string& task) {
  std::vector<std::vector<std::string>> table;
  std::string heading;
  for (const std::string& model : names(rows, "trial", "model")) {
    const auto trials = select(rows, "trial", "task", task, "model", model);
    std::vector<double> metrics, rates;
    std::map<int64_t, std::vector<double>> by_length;
    const json* example = nullptr;
    std::string trouble;
    for (const json* trial : trials) {
      if (trial->value("status", "") != "ok") {
        trouble = trial->value("status", "") + ": " + trial->value("message", "");
        continue;
      }
      example = trial;
      metrics.push_back((*trial)["metric"]["value"]);
      rates.push_back((*trial)["tokens_per_second"]);
      for (const json& point : (*trial)["by_length"]) {
        if (point["value"].is_number()) by_length[point["length"]].push_back(point["value"]);
      }
    }
    if (!example) {
      if (!trials.empty()) table.push_back({model, trouble});
      continue;
    }
    if (heading.empty()) {
      heading = task + ": " + (*example)["metric"]["name"].get<std::string>() + ", chance " +
                fixed((*example)["chance"], 3);
      if ((*example)["floor"].is_object()) {
        heading += ", " + (*example)["floor"]["name"].get<std::string>() + " " + fixed((*example)["floor"]["value"], 3);
      }
      std::vector<std::string> titles = {"model"};
      for (const auto& [length, values] : by_length) titles.push_back("at " + std::to_string(length));
      for (const char* title : {"parameters", "FLOPs/token", "state", "tokens/s", "peak memory"}) titles.push_back(title);
      table.insert(table.begin(), titles);
    }
    std::vector<std::string> line = {model};
    for (const auto& [length, values] : by_length) line.push_back(median_and_range(values, 3));
    line.push_back(format_count((*example)["parameters"]));
    line.push_back(format_count((*example)["flops_per_token"]));
    line.push_back(format_bytes((*example)["state_bytes"]));
    line.push_back(format_count(quantile(rates, 0.5)));
    line.push_back(format_bytes((*example)["peak_memory_bytes"]));
    table.push_back(line);
  }
  return heading + "\n" + aligned_table(table) + "\n";
}

std::string scale_table(const std::vector<json>& rows, const std::string& phase, const char* quantity) {
  const bool is_rate = std::string(quantity) == "tokens_per_second";
  std::set<int64_t> lengths;
  for (const json& row : rows) {
    if (row.value("kind", "") == "scale" && row.value("phase", "") == phase) lengths.insert(row["length"].get<int64_t>());
  }
  std::vector<std::vector<std::string>> table = {{phase + (is_rate ? ", tokens/s" : ", peak memory")}};
  for (const int64_t length : lengths) table[0].push_back(std::to_string(length));
  table[0].push_back("slope");
  for (const std::string& model : names(rows, "scale", "model")) {
    std::map<int64_t, std::string> cells;
    for (const json* row : select(rows, "scale", "phase", phase, "model", model)) {
      std::string text = row->value("status", "");
      if (text == "ok") text = is_rate ? format_count((*row)[quantity]) : format_bytes((*row)[quantity]);
      cells[(*row)["length"].get<int64_t>()] = text;
    }
    std::string slope = "–";
    for (const json* row : select(rows, "slope", "phase", phase, "model", model)) {
      if ((*row)["quantity"] == (is_rate ? "seconds" : "peak_bytes")) slope = fixed((*row)["exponent"], 2);
    }
    std::vector<std::string> line = {model};
    for (const int64_t length : lengths) line.push_back(cells.count(length) ? cells[length] : "–");
    line.push_back(slope);
    table.push_back(line);
  }
  return aligned_table(table) + "\n";
}

std::string crossover_table(const std::vector<json>& rows) {
  std::vector<std::vector<std::string>> table = {{"crossovers", "phase", "is ahead of", "from length"}};
  for (const json& row : rows) {
    if (row.value("kind", "") != "crossover" || !row["length"].is_number()) continue;
    table.push_back({row["faster"].get<std::string>() + (row["quantity"] == "peak_bytes" ? " (memory)" : " (speed)"),
                     row["phase"], row["slower"], std::to_string(row["length"].get<int64_t>())});
  }
  return table.size() > 1 ? aligned_table(table) : std::string();
}

}  // namespace

std::string aligned_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    // A line of two cells under a wider heading is a sentence, which sets no width.
    if (row.size() == 2 && rows[0].size() > 4) continue;
    widths.resize(std::max(widths.size(), row.size()), 0);
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], characters(row[i]));
  }
  std::string text;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      const size_t shown = characters(row[i]), width = i < widths.size() ? widths[i] : shown;
      const std::string space(width > shown ? width - shown : 0, ' ');
      const bool left = i == 0 || (row.size() == 2 && rows[0].size() > 4);
      text += (i ? "  " : "") + (left ? row[i] + space : space + row[i]);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    text += "\n";
  }
  return text;
}

std::string summary_tables(const std::vector<json>& rows) {
  std::string text;
  for (const std::string& task : names(rows, "trial", "task")) text += task_table(rows, task);
  for (const std::string& phase : names(rows, "scale", "phase")) {
    text += scale_table(rows, phase, "tokens_per_second") + scale_table(rows, phase, "peak_bytes");
  }
  return text + crossover_table(rows);
}

}  // namespace hippodrome

#include "experiments/report/attention_page.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace hippodrome {
namespace attention_page_detail {
namespace {

constexpr int kCell = 22;           // pixels
constexpr double kCharacter = 7.2;  // pixels of a monospaced letter at 12 px

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

// Characters, not bytes.
size_t length_of(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

int widest(const nlohmann::json& labels) {
  size_t most = 1;
  for (const auto& label : labels) most = std::max(most, length_of(label.get<std::string>()));
  return static_cast<int>(kCharacter * static_cast<double>(most)) + 10;
}

template <class... Args>
std::string format(const char* pattern, Args... args) {
  char buffer[256];
  std::snprintf(buffer, sizeof(buffer), pattern, args...);
  return buffer;
}

std::string map_of(const nlohmann::json& sample) {
  const auto &source = sample["source"], &target = sample["target"], &weights = sample["weights"];
  const int left = widest(target), top = widest(source);
  const int columns = static_cast<int>(source.size()), rows = static_cast<int>(weights.size());
  std::string svg =
      format("<svg width=\"%d\" height=\"%d\" role=\"img\">\n", left + columns * kCell + 8, top + rows * kCell + 8);
  for (int j = 0; j < columns; ++j) {
    const int x = left + j * kCell + kCell / 2 + 4;
    svg += format("<text transform=\"translate(%d %d) rotate(-90)\">", x, top - 5) +
           escaped(source[j].get<std::string>()) + "</text>\n";
  }
  for (int i = 0; i < rows; ++i) {
    const int y = top + i * kCell;
    // A hypothesis that was cut off has a row without a word.
    const std::string word = i < static_cast<int>(target.size()) ? target[i].get<std::string>() : "";
    svg += format("<text x=\"%d\" y=\"%d\" text-anchor=\"end\">", left - 5, y + kCell / 2 + 4) + escaped(word) +
           "</text>\n";
    for (int j = 0; j < columns && j < static_cast<int>(weights[i].size()); ++j) {
      const double weight = std::clamp(weights[i][j].get<double>(), 0.0, 1.0);
      svg += format("<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill-opacity=\"%.3f\"><title>",
                    left + j * kCell, y, kCell - 1, kCell - 1, weight) +
             escaped(word) + " ← " + escaped(source[j].get<std::string>()) + format(": %.3f</title></rect>\n", weight);
    }
  }
  return svg + "</svg>\n";
}

}  // namespace
}  // namespace attention_page_detail

std::string attention_page(const std::string& title, const nlohmann::json& samples) {
  using namespace attention_page_detail;
  std::string page =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>" + escaped(title) +
      ": attention</title>\n<style>\n"
      "body { font: 14px system-ui, sans-serif; margin: 24px; color: #1b1f24; }\n"
      "svg { display: block; margin: 0 0 32px; max-width: 100%; }\n"
      "svg text { font: 12px ui-monospace, monospace; fill: #1b1f24; }\n"
      "svg rect { fill: #0b5cad; stroke: #d8dee4; stroke-width: 0.5; }\n"
      "</style></head><body>\n<h1>" +
      escaped(title) +
      "</h1>\n"
      "<p>Source tokens along the top, target tokens down the side. The darker a square, the more the target token "
      "attended to the source token; point at one for its weight.</p>\n";
  for (const auto& sample : samples) page += map_of(sample);
  return page + "</body></html>\n";
}

}  // namespace hippodrome

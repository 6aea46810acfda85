#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "core/measure/timing.h"
#include "experiments/race/summary.h"

namespace hippodrome {

using nlohmann::json;

namespace {

// A quantity of one model in one phase over lengths, in rising order.
using Curve = std::map<int64_t, double>;
// By model, in order of first appearance.
using Curves = std::vector<std::pair<std::string, Curve>>;

Curves curves_of(const std::vector<json>& rows, const std::string& phase, const char* quantity) {
  Curves result;
  for (const json& row : rows) {
    if (row.value("kind", "") != "scale" || row.value("phase", "") != phase || row.value("status", "") != "ok") continue;
    const std::string model = row["model"];
    auto found = result.begin();
    while (found != result.end() && found->first != model) ++found;
    if (found == result.end()) found = result.insert(found, {model, {}});
    const double value = row[quantity].get<double>();
    if (value > 0.0) found->second[row["length"].get<int64_t>()] = value;
  }
  return result;
}

// The lengths both curves have, with what is to be low: seconds per token, or bytes.
struct CurvePair {
  std::vector<double> lengths, first, second;
};

CurvePair common(const Curve& first, const Curve& second, bool invert) {
  CurvePair pair;
  for (const auto& [length, value] : first) {
    const auto other = second.find(length);
    if (other == second.end()) continue;
    pair.lengths.push_back(static_cast<double>(length));
    pair.first.push_back(invert ? 1.0 / value : value);
    pair.second.push_back(invert ? 1.0 / other->second : other->second);
  }
  return pair;
}

json crossover_row(const std::string& phase, const char* quantity, const std::string& faster, const std::string& slower,
                   double length, const CurvePair& pair) {
  json row = {{"kind", "crossover"}, {"phase", phase}, {"quantity", quantity}, {"faster", faster}, {"slower", slower}};
  if (length > 0.0) {
    row["length"] = std::llround(length);
    row["note"] = "from about this length on";
  } else {
    row["length"] = nullptr;
    row["note"] = "at every length measured, " + std::to_string(std::llround(pair.lengths.front())) + " to " +
                  std::to_string(std::llround(pair.lengths.back()));
  }
  return row;
}

}  // namespace

std::vector<json> slopes_and_crossovers(const std::vector<json>& rows) {
  std::vector<json> result;
  for (const std::string phase : {"train", "prefill", "decode"}) {
    for (const char* quantity : {"tokens_per_second", "peak_bytes"}) {
      const bool is_rate = std::string(quantity) == "tokens_per_second";
      const Curves curves = curves_of(rows, phase, quantity);
      for (const auto& [model, curve] : curves) {
        if (curve.size() < 2) continue;
        std::vector<double> x, y;
        for (const auto& [length, value] : curve) {
          x.push_back(static_cast<double>(length));
          // Time of a whole sequence, except that decoding is timed token by token at its depth.
          y.push_back(!is_rate ? value : (phase == "decode" ? 1.0 : static_cast<double>(length)) / value);
        }
        result.push_back({{"kind", "slope"},
                          {"model", model},
                          {"phase", phase},
                          {"quantity", is_rate ? "seconds" : "peak_bytes"},
                          {"exponent", power_law_exponent(x, y)},
                          {"from", curve.begin()->first},
                          {"to", curve.rbegin()->first}});
      }
      for (size_t i = 0; i < curves.size(); ++i) {
        for (size_t j = i + 1; j < curves.size(); ++j) {
          const CurvePair pair = common(curves[i].second, curves[j].second, is_rate);
          if (pair.lengths.size() < 2) continue;
          const double first_wins = crossover(pair.lengths, pair.first, pair.second);
          const double second_wins = crossover(pair.lengths, pair.second, pair.first);
          if (!std::isnan(first_wins)) {
            result.push_back(crossover_row(phase, quantity, curves[i].first, curves[j].first, first_wins, pair));
          } else if (!std::isnan(second_wins)) {
            result.push_back(crossover_row(phase, quantity, curves[j].first, curves[i].first, second_wins, pair));
          }
        }
      }
    }
  }
  return result;
}

}  // namespace hippodrome

#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace hippodrome {

// The rows of a run as tables for a terminal: per task the models with median and range over seeds, then speed and memory
// over sequence lengths, slopes and crossovers.
std::string summary_tables(const std::vector<nlohmann::json>& rows);

// What follows from the scale rows: "slope" rows (exponent of time, or of memory, against length, per model and
// phase) and "crossover" rows (the length from which one model is faster, or smaller, than another).
std::vector<nlohmann::json> slopes_and_crossovers(const std::vector<nlohmann::json>& rows);

// Columns aligned by width in characters; the first row is the heading. Numbers (all columns but the first) stand right.
std::string aligned_table(const std::vector<std::vector<std::string>>& rows);

}  // namespace hippodrome

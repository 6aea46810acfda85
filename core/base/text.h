#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hippodrome {

// The candidate closest to `word` by edit distance, or empty when none is close enough to be meant.
std::string nearest_name(std::string_view word, const std::vector<std::string>& candidates);

// ", did you mean \"x\"?" or empty; `candidates` are listed when none is near and there are at most eight.
std::string suggestion(std::string_view word, const std::vector<std::string>& candidates);

std::string join(const std::vector<std::string>& words, std::string_view separator);

// "1.50 MiB", "12 B": binary units. "1.23 M", "980": decimal units, three digits.
std::string format_bytes(double bytes);
std::string format_count(double count);
// "3.2 s", "4 min 10 s", "2 h 5 min".
std::string format_duration(double seconds);

// Lower-case hexadecimal SHA-256 of `bytes`.
std::string sha256(std::string_view bytes);

}  // namespace hippodrome

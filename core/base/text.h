#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hippodrome {

// The candidate closest to `word` by edit distance, or empty when none is close enough to be meant.
std::string nearest_name(std::string_view word, const std::vector<std::string>& candidates);

// The end of a message: `; did you mean "x"?`, or `; valid: x, y` when none is near and there are at most eight, or empty.
std::string suggestion(std::string_view word, const std::vector<std::string>& candidates);

std::string join(const std::vector<std::string>& words, std::string_view separator);

// Three digits: "1.50 MiB", "12 B" in binary units; "1.23 M", "980" in decimal units (k, M, G, T, P).
std::string format_bytes(double bytes);
std::string format_count(double count);
// "3.2 s", "4 min 10 s", "2 h 5 min"; below a second "850 ms" or "12.5 µs".
std::string format_duration(double seconds);

// Lower-case hexadecimal SHA-256 of `bytes`.
std::string sha256(std::string_view bytes);

}  // namespace hippodrome

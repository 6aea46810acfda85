#include "core/base/text.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <stdexcept>

namespace hippodrome {
namespace text_detail {
namespace {

// Longer words are not typing slips, and the distance costs the product of both lengths.
constexpr size_t kLongestName = 128;

// Names compared without case and with '-' as '_', as people write them.
std::string folded(std::string_view word) {
  std::string result(word);
  for (char& character : result) {
    if (character >= 'A' && character <= 'Z') {
      character = static_cast<char>(character - 'A' + 'a');
    } else if (character == '-') {
      character = '_';
    }
  }
  return result;
}

// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours cost one each.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before_previous(b.size() + 1), previous(b.size() + 1), current(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) {
    previous[j] = j;
  }
  for (size_t i = 1; i <= a.size(); ++i) {
    current[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = previous[j - 1] + (a[i - 1] != b[j - 1] ? 1 : 0);
      current[j] = std::min({substituted, previous[j] + 1, current[j - 1] + 1});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        current[j] = std::min(current[j], before_previous[j - 2] + 1);
      }
    }
    std::swap(before_previous, previous);
    std::swap(previous, current);
  }
  return previous[b.size()];
}

std::string printed(const char* format, double value) {
  std::array<char, 64> buffer;
  const int length = std::snprintf(buffer.data(), buffer.size(), format, value);
  return std::string(buffer.data(), std::clamp<int>(length, 0, static_cast<int>(buffer.size()) - 1));
}

// `value` with three digits and the largest of `units` that keeps it at 1 or above; units[0] is for values below `step`.
template <size_t kUnits>
std::string scaled(double value, double step, const std::array<std::string_view, kUnits>& units) {
  if (!std::isfinite(value)) {
    return printed("%g", value);
  }
  size_t unit = 0;
  // 999.5 prints as "1000", which belongs to the next decimal unit; with 1,024 to the unit the same holds at 1023.5.
  while (unit + 1 < kUnits && std::abs(value) >= step - 0.5) {
    value /= step;
    ++unit;
  }
  const double magnitude = std::abs(value);
  const bool whole = unit == 0 && value == std::round(value);
  std::string text = printed(whole || magnitude >= 99.95 ? "%.0f" : magnitude >= 9.995 ? "%.1f" : "%.2f", value);
  if (!units[unit].empty()) {
    text += ' ';
    text += units[unit];
  }
  return text;
}

}  // namespace
}  // namespace text_detail

std::string nearest_name(std::string_view word, const std::vector<std::string>& candidates) {
  if (word.empty() || word.size() > text_detail::kLongestName) {
    return "";
  }
  const std::string wanted = text_detail::folded(word);
  std::string best;
  size_t best_distance = 0;
  for (const std::string& candidate : candidates) {
    if (candidate.empty() || candidate.size() > text_detail::kLongestName) {
      continue;
    }
    const std::string offered = text_detail::folded(candidate);
    size_t distance = text_detail::edit_distance(wanted, offered);
    const size_t shorter = std::min(wanted.size(), offered.size());
    // "param" means "parameters" although half of the word is missing.
    if (shorter >= 3 && wanted.compare(0, shorter, offered, 0, shorter) == 0) {
      distance = std::min<size_t>(distance, 1);
    }
    const size_t allowed = std::max<size_t>(1, (std::max(wanted.size(), offered.size()) + 1) / 3);
    // A distance of the whole word would make any short word near to any other.
    if (distance <= allowed && distance < shorter + (wanted == offered ? 1 : 0) &&
        (best.empty() || distance < best_distance)) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

std::string suggestion(std::string_view word, const std::vector<std::string>& candidates) {
  if (const std::string nearest = nearest_name(word, candidates); !nearest.empty()) {
    return "; did you mean \"" + nearest + "\"?";
  }
  if (candidates.empty() || candidates.size() > 8) {
    return "";
  }
  return "; valid: " + join(candidates, ", ");
}

std::string join(const std::vector<std::string>& words, std::string_view separator) {
  std::string result;
  for (size_t i = 0; i < words.size(); ++i) {
    if (i > 0) {
      result += separator;
    }
    result += words[i];
  }
  return result;
}

std::string format_bytes(double bytes) {
  static constexpr std::array<std::string_view, 6> kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  return text_detail::scaled(bytes, 1024.0, kUnits);
}

std::string format_count(double count) {
  static constexpr std::array<std::string_view, 6> kUnits = {"", "k", "M", "G", "T", "P"};
  return text_detail::scaled(count, 1000.0, kUnits);
}

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0.0 || seconds >= 1e9) {
    return text_detail::printed("%g s", seconds);
  }
  if (seconds == 0.0) {
    return "0 s";
  }
  if (seconds < 0.9995e-3) {
    return text_detail::printed("%.3g µs", seconds * 1e6);
  }
  if (seconds < 0.9995) {
    return text_detail::printed("%.3g ms", seconds * 1e3);
  }
  if (seconds < 59.95) {
    return text_detail::printed("%.1f s", seconds);
  }
  if (const int64_t whole = std::llround(seconds); whole < 3600) {
    return std::to_string(whole / 60) + " min " + std::to_string(whole % 60) + " s";
  }
  const int64_t minutes = std::llround(seconds / 60.0);
  return std::to_string(minutes / 60) + " h " + std::to_string(minutes % 60) + " min";
}

std::string sha256(std::string_view bytes) {
  std::array<unsigned char, 32> digest;
  unsigned int length = 0;
  if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), &length, EVP_sha256(), nullptr) != 1 ||
      length != digest.size()) {
    throw std::runtime_error("this machine's OpenSSL offers no SHA-256");
  }
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  text.reserve(2 * digest.size());
  for (const unsigned char byte : digest) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

}  // namespace hippodrome

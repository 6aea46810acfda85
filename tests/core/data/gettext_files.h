#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

// Compiled message catalogues, written by hand.
namespace hippodrome::gettext_files {

using Messages = std::vector<std::pair<std::string, std::string>>;

inline std::string number(uint32_t value, bool big_endian) {
  std::string bytes;
  for (int i = 0; i < 4; ++i) bytes += static_cast<char>(value >> 8 * (big_endian ? 3 - i : i));
  return bytes;
}

// A .mo file of these messages and a header that names `charset`.
inline std::string catalogue(Messages messages, const std::string& charset = "UTF-8", bool big_endian = false,
                             uint32_t revision = 0) {
  messages.emplace_back("", "Language: de\nContent-Type: text/plain; charset=" + charset + "\n");
  std::sort(messages.begin(), messages.end());
  const auto count = static_cast<uint32_t>(messages.size());
  std::string data, tables;
  for (const bool translated : {false, true}) {
    for (const auto& [original, translation] : messages) {
      const std::string& text = translated ? translation : original;
      tables += number(static_cast<uint32_t>(text.size()), big_endian);
      tables += number(static_cast<uint32_t>(28 + 16 * count + data.size()), big_endian);
      data += text + '\0';
    }
  }
  std::string file;
  for (const uint32_t value : {0x950412DEu, revision, count, 28u, 28 + 8 * count, 0u, 0u})
    file += number(value, big_endian);
  return file + tables + data;
}

}  // namespace hippodrome::gettext_files

#pragma once

#include <string>
#include <vector>

#include "core/base/random.h"

// A parallel corpus small enough to make anew for each test.
namespace hippodrome::translated_lines {

// `count` lines of a .tsv: sentences of 1 … 24 words of a made-up language, each word of it translated by itself.
inline std::string lines(int count) {
  const std::vector<std::pair<std::string, std::string>> words = {{"open",
                                                                   "\xC3\xB6"
                                                                   "ffnen"},
                                                                  {"the", "die"},
                                                                  {"file", "Datei"},
                                                                  {"window", "Anzeige"},
                                                                  {"save", "sichern"},
                                                                  {"close",
                                                                   "schlie\xC3\x9F"
                                                                   "en"},
                                                                  {"new", "neue"},
                                                                  {"old", "alte"},
                                                                  {"and", "und"},
                                                                  {"or", "oder"},
                                                                  {"never", "nie"},
                                                                  {"always", "immer"}};
  std::string text;
  for (int line = 0; line < count; ++line) {
    RandomStream random = RandomStream(1, "lines").fork(static_cast<uint64_t>(line));
    std::string source, target;
    for (int64_t i = 0, size = 1 + random.below(24); i < size; ++i) {
      const auto& [word, translation] = words[static_cast<size_t>(random.below(static_cast<int64_t>(words.size())))];
      source += (i > 0 ? " " : "") + word;
      target += (i > 0 ? " " : "") + translation;
    }
    text += source + "\t" + target + "\n";
  }
  return text;
}

}  // namespace hippodrome::translated_lines

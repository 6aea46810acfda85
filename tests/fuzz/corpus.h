#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include "tests/test_folder.h"
#include "core/base/random.h"

// What a fuzzer would do, in a second and the same on every machine: the corpus, then mutations of it.
namespace hippodrome::fuzz_corpus {

struct Seed {
  std::string name;
  std::string bytes;
};

inline std::vector<Seed> corpus(const std::string& folder) {
  std::vector<Seed> seeds;
  for (const auto& entry :
       std::filesystem::directory_iterator(testing_folder::source_folder() / "tests/fuzz/corpus" / folder)) {
    std::ifstream file(entry.path(), std::ios::binary);
    seeds.push_back({entry.path().filename().string(),
                     {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()}});
  }
  // Folders list their files in any order.
  std::sort(seeds.begin(), seeds.end(), [](const Seed& a, const Seed& b) { return a.name < b.name; });
  return seeds;
}

inline size_t below(RandomStream& stream, size_t bound) {
  return static_cast<size_t>(stream.below(static_cast<int64_t>(std::max<size_t>(bound, 1))));
}

// One to four changes: a bit, a byte, a word of the format, a piece cut out, doubled or taken from another seed.
inline std::string mutated(std::string bytes, const std::vector<Seed>& seeds, const std::vector<std::string>& words,
                           RandomStream& stream) {
  for (size_t change = 0, changes = 1 + below(stream, 4); change < changes; ++change) {
    const size_t at = below(stream, bytes.size() + 1), left = bytes.size() - at;
    switch (below(stream, 7)) {
      case 0:
        if (left > 0) {
          bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(stream, 8)));
        }
        break;
      case 1:
        bytes.insert(at, 1, static_cast<char>(stream.bits()));
        break;
      case 2:
        bytes.erase(at, 1 + below(stream, 16));
        break;
      case 3:
        bytes.insert(at, bytes.substr(at, 1 + below(stream, 64)));
        break;
      case 4:
        bytes.resize(at);
        break;
      case 5:
        bytes.replace(at, std::min(left, below(stream, 4)), words[below(stream, words.size())]);
        break;
      default: {
        const std::string& other = seeds[below(stream, seeds.size())].bytes;
        bytes.insert(at, other, below(stream, other.size()), 1 + below(stream, 32));
      }
    }
  }
  return bytes;
}

inline void run(const std::string& folder, const std::vector<std::string>& words,
                const std::function<void(std::string_view)>& target, int mutations = 5000) {
  const std::vector<Seed> seeds = corpus(folder);
  ASSERT_GE(seeds.size(), 10u);
  for (const Seed& seed : seeds) {
    SCOPED_TRACE(seed.name);
    ASSERT_NO_THROW(target(seed.bytes));
  }
  RandomStream stream(1, "fuzz " + folder);
  for (int i = 0; i < mutations; ++i) {
    const Seed& seed = seeds[below(stream, seeds.size())];
    const std::string bytes = mutated(seed.bytes, seeds, words, stream);
    SCOPED_TRACE(seed.name + ", mutation " + std::to_string(i));
    ASSERT_NO_THROW(target(bytes)) << bytes;
  }
}

}  // namespace hippodrome::fuzz_corpus

#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace hippodrome {

// A sentence and its translation, in one line each.
struct Sentences {
  std::string source, target;
};

// A program's message and its translation as plain text; none where there is no sentence to learn from:
// * format specifiers, markup and variables drop the pair: any of % { } < > $ | on either side, or an entity as &lt;
// * mnemonics go: "_File", "&File" and a final "(_F)"; within a word that both sides have (LC_ALL, R&D) the sign stays
// * white space is squeezed to single spaces and taken off the ends, and so are a final "..." and "…"
// * a source without a letter, two sides that are the same, and control characters drop the pair
std::optional<Sentences> cleaned(std::string_view original, std::string_view translation);

// White space squeezed to single spaces, and none at the ends.
std::string squeezed(std::string_view text);

}  // namespace hippodrome

#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace hippodrome {

// The words that BLEU is counted in: sacreBLEU's tokenizer "13a" (Post 2018, arXiv 1804.08771), which is that of NIST's
// mteval-v13a.pl without its SGML. Punctuation and symbols of ASCII become words, except the apostrophe, '.' and ','
// between digits, and '-' after anything but a digit; &quot; &amp; &lt; &gt; are read as what they stand for.
std::vector<std::string> words_13a(std::string_view sentence);

}  // namespace hippodrome

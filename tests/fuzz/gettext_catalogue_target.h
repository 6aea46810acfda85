#pragma once

#include <string>
#include <string_view>

#include "core/data/gettext_catalogue.h"
#include "core/data/message_text.h"
#include "core/data/tokenizer/unicode.h"
#include "tests/fuzz/check.h"

namespace hippodrome {

// `bytes`: a .mo file. What is read of it is cleaned, too.
inline void fuzz_gettext_catalogue(std::string_view bytes) {
  const absl::StatusOr<GettextCatalogue> catalogue = parse_gettext_catalogue(bytes, "de.mo");
  if (!catalogue.ok()) {
    fuzz_check_sentence(std::string(catalogue.status().message()), "de.mo: ");
    return;
  }
  size_t total = 0;
  for (const Message& message : catalogue->messages) {
    total += message.original.size() + message.translation.size();
    for (const std::string& text : {message.original, message.translation}) {
      fuzz_check(is_utf8(text), "messages are UTF-8");
      fuzz_check(text.find('\0') == std::string::npos, "messages end at their plural forms");
    }
    const std::optional<Sentences> pair = cleaned(message.original, message.translation);
    if (!pair) continue;
    fuzz_check(!pair->source.empty() && !pair->target.empty() && pair->source != pair->target,
               "pairs have two sides that differ");
    for (const std::string& text : {pair->source, pair->target}) {
      fuzz_check(is_utf8(text), "sentences are UTF-8");
      fuzz_check(text.find_first_of("\t\n\r") == std::string::npos, "sentences are one line without tabs");
      fuzz_check(squeezed(text) == text, "sentences are squeezed");
    }
  }
  // A character of an 8-bit set takes up to three bytes of UTF-8.
  fuzz_check(total <= 3 * bytes.size(), "messages are no longer than their file");
}

}  // namespace hippodrome

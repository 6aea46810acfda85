#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"

namespace hippodrome {

// A message and its translation, in UTF-8.
struct Message {
  std::string original, translation;
};

struct GettextCatalogue {
  std::vector<Message> messages;  // in the order of the file, the header (the message "") left out
  int64_t undecodable = 0;        // messages that are not text in the catalogue's character set
};

// Reads a compiled catalogue of translated messages, a .mo file (GNU gettext's manual, "The Format of GNU MO Files"):
// either byte order, revisions 0 and 1 (the strings that revision 1 makes for a machine's integer types are left out).
// Of a message with plural forms the singular pair is taken, of one with a context the message without it. Other
// character sets than UTF-8 are converted where they are 8-bit ones in use for languages or East Asian ones; a
// catalogue in any other is Unimplemented, a malformed one DataLoss, and the sentence begins with `name`.
absl::StatusOr<GettextCatalogue> parse_gettext_catalogue(std::string_view bytes, const std::string& name);

}  // namespace hippodrome

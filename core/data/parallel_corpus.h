#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/data/message_text.h"
#include "core/data/task.h"

namespace hippodrome {

struct ParallelCorpus {
  std::string source;    // "translated messages of 91 catalogues below /usr/share/locale", or the path given
  std::string split_by;  // "catalogue" or "sentence"
  std::array<std::vector<Sentences>, 3> splits;  // by Split
  int64_t files = 0;
  int64_t unreadable_files = 0;
  int64_t dropped = 0;     // messages that are no sentences, or not translated
  int64_t duplicates = 0;  // whose source came before

  const std::vector<Sentences>& split(Split which) const { return splits[static_cast<size_t>(which)]; }
};

// Reads sentences and their translations.
//
// * path empty: what programs on this machine say to their users, English and `language` ("de", "pt_BR"): the
// catalogues of
//   GNU gettext in /usr/share/locale and /usr/share/locale-langpack.
// * a folder: catalogues below it, laid out the same way: LANGUAGE/LC_MESSAGES/*.mo.
// * a file *.tsv: a source, a tab and its translation in each line, taken as they are but for white space, which is
//   squeezed. An error names file and line.
//
// Messages are cleaned (message_text.h). Catalogues of names (iso_639-3, …: lists of languages and countries) are left
// out. Of pairs with the same source only the first counts, in the order of training, validation and test, so nothing
// that is tested was trained on. Catalogues go to splits as a whole, in the order of a hash of their names (digits
// aside, so that a new version stays where it was): to test until it holds a twentieth of all pairs, then to validation
// until it does, and the rest to training. Lines of a .tsv go to splits (90, 5, 5 %) by a hash of their source.
absl::StatusOr<ParallelCorpus> read_parallel_corpus(const std::string& path, const std::string& language);

}  // namespace hippodrome

#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/data/task.h"
#include "core/data/tokenizer/tokenizer.h"

namespace hippodrome {

// The symbols of one split, one after the other: bytes, or 16-bit ids.
struct SymbolStream {
  std::string bytes;
  bool wide = false;  // two bytes a symbol, little-endian
  int64_t files = 0;
  std::string sha256;  // of `bytes`

  int64_t size() const { return static_cast<int64_t>(bytes.size()) / (wide ? 2 : 1); }
  void copy(int64_t start, int64_t count, int64_t* out) const;
  std::vector<uint16_t> first(int64_t count) const;  // at most `count` symbols
};

struct Corpus {
  std::string source;    // "headers of LibTorch 2.11.0", or the path given
  std::string split_by;  // "file" or "position"
  int64_t vocabulary = 256;
  std::array<SymbolStream, 3> splits;  // by Split
  int64_t binary_files = 0;            // skipped, because they hold a zero byte
  int64_t files_left_out = 0;          // beyond max_bytes

  const SymbolStream& split(Split which) const { return splits[static_cast<size_t>(which)]; }
};

// Reads a corpus.
//
// * path empty: the C++ headers that LibTorch ships (folders ATen, c10 and torch beside the loaded library). Left out:
//   ATen/ops, seven thousand machine-written files that repeat each other (each operator's schema in up to six files,
//   so a split by file would show the answers in training), and files above 256 KiB, which are machine-written lists of
//   the same operators. Of the rest, as many as fit into max_bytes (0: 8 MB).
// * a folder: all regular files below it, except hidden ones and binary ones (those that hold a zero byte).
// * a folder with train.bin and val.bin, as nanoGPT writes: training is train.bin; the halves of val.bin are
//   validation and test.
// * a .bin file: 16-bit little-endian token ids. `vocabulary` 0 means the largest id plus one.
// * any other file: its bytes.
//
// Folders are split by file: a file belongs to train, validation or test (90, 5, 5 %) by a hash of its relative path,
// so that a split holds whole files and adding a file moves no other. Within a split files stand in the order of their
// paths, each followed by one zero byte, which occurs nowhere else. A single file is split by position, the first 90 %
// for training. max_bytes > 0 bounds what is read: of a folder, files in the order of another hash of their paths,
// passing over those that no longer fit; of a single file, its beginning.
absl::StatusOr<Corpus> read_corpus(const std::string& path, int64_t max_bytes, int64_t vocabulary);

// A corpus of bytes as tokens, each split encoded by itself, as 16-bit ids. Fails where the tokenizer has more than 65,536.
absl::StatusOr<Corpus> tokenized(Corpus corpus, const Tokenizer& tokenizer);

}  // namespace hippodrome

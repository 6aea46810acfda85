#pragma once

#include "core/data/task.h"

namespace hippodrome {

// Language modelling on real text, byte by byte (V = 256): the next byte at every position. corpus.h says what is read
// by default, how files are split and how a path is taken. With L = 8 and the text "int64_t size() const;":
//
//   tokens   i n t 6 4 _ t ·
//   labels   n t 6 4 _ t · s
//
// Training draws windows at uniformly random places, by (seed, step); validation and test are consecutive windows that
// do not overlap, the same for every model and seed. Windows begin with an empty context. Rows that would not fill a
// batch are left out, so evaluation at the same rows and length is always on the same bytes.
//
// With `tokenizer` the symbols are its tokens instead of bytes, each split encoded as one text.
//
// Metric: bits per byte, mean cross-entropy to the base of 2 (of tokens: bits per token; provenance has `unit`). Chance is
// log2 V. Plateaus are count-based: "unigram" knows how frequent bytes are, "bigram" the previous byte too. The floor is a
// 5-gram model (count_model.h: interpolated modified Kneser-Ney, exact contexts) trained on the training split (at most its
// first 2^24 symbols) and measured on the test split (at most its first 2^22) as one stream, without windows.
TaskEntry text_task();

}  // namespace hippodrome

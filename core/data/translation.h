#pragma once

#include "core/data/task.h"

namespace hippodrome {

// Translation of sentences: a task of pairs (pairs.h) on real text. parallel_corpus.h says what is read by default
// (what this machine's programs say in English and in `language`), how it is cleaned and split, and how a path is
// taken.
//
// Symbols are tokens of a vocabulary that both sides share, ids from 2 on:
//   tokens = "bpe"     byte pairs learned from the training split, `merges` of them (tokenizer/bpe_trainer.h). With
//                      `tokenizer`, a file: read where it exists, otherwise learned and written there, so that a
//                      trained model keeps its vocabulary where other catalogues are installed.
//   tokens = "bytes"   V = 258
//
// Training draws pairs whose source has at most `length` tokens, and whose target at most 2·length + 10, uniformly by
// (seed, step); batches hold pairs of similar length. Validation goes through all such pairs once, in the order of a
// hash, and the test split at a length through those whose source is longer than the test length before it.
//
// Metric: bits per byte of the target, its end counted as one byte, so that vocabularies compare. Chance is log2 V a
// token. Plateaus, of models that do not look at the source: "unigram" knows how frequent target tokens are, "bigram"
// the token before, too (count_model.h, of the training split).
TaskEntry translate_task();

}  // namespace hippodrome

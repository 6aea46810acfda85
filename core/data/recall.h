#pragma once

#include "core/data/task.h"

namespace hippodrome {

// Multi-query associative recall, MQAR (Arora, Eyuboglu et al. 2023, "Zoology"): kv pairs of key and value, then every
// key is asked once, in random places; at the query, say its value.
//
// Ids: 0 filler, 1 … V/2−1 keys, V/2 … V−1 values. A row of even length T: key, value, key, value, …; then from 2·kv
// on, queries at even offsets 2g, g in 0 … (T−2kv)/2 − 1, drawn one after the other without replacement, each with
// probability ∝ (g+1)^(a−1), a = 0.01: about 1/gap, so early places are much likelier. Keys, and values, of a row are
// distinct. The label stands on the query's own position. Every other place of the second part holds filler: "zero" (id
// 0; the paper's figure 2), or "random" (a uniform draw from the whole vocabulary, keys and values included; the later
// "Based" paper). Two tasks that share a name, so results name the filler. With V = 14, kv = 2, T = 12, filler "zero":
//
//   tokens   2 8 4 7 4 0 0 0 2 0 0 0
//   labels   . . . . 7 . . . 8 . . .
//
// Needs T even, V > T and 4·kv ≤ T. Accuracy over queries: chance is guessing among the values, 1/(V − V/2). The
// plateau on which models stay for long is "a value of this row" without knowing which: 1/kv.
TaskEntry recall_task();

}  // namespace hippodrome

#pragma once

#include "core/data/task.h"

namespace hippodrome {

// Three tasks of pairs (pairs.h) that are drawn: A symbols, uniform, repeats allowed, become
//
//   reverse   d a b -> b a d
//   copy      d a b -> d a b
//   sort      d a b -> a b d
//
// Ids are those of pairs.h, the symbols a, b, … z, aa, ab, … from 2 on. Training and validation draw the length of a
// row uniformly from min_length … the request's, and training batches hold rows of similar length; test rows have
// exactly the request's. The target is as long as the source, so what a model must carry grows with it: log2 A bits a
// symbol. Reading through a vector of fixed size, accuracy falls with the length, and with attention it need not
// (Bahdanau et al. 2015, figure 2, shows it in translation).
//
// Accuracy of symbols and ends: chance is 1/(A + 1). Plateaus at a source length n, of a model that knows where the
// target ends: "the end, and any symbol" (1 + n/A)/(n + 1); of sort also "the last symbol again", which begins with the
// smallest symbol and then repeats the last one: with p = 1 − (1 − 1/A)^n, (1 + p + n − A p)/(n + 1), as A p symbols of
// the row are distinct on average.
TaskEntry reverse_task();
TaskEntry copy_task();
TaskEntry sort_task();

}  // namespace hippodrome

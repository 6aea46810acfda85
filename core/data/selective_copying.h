#pragma once

#include "core/data/task.h"

namespace hippodrome {

// Selective copying (Gu and Dao 2023, table 1, after Jing et al. 2019; the layout is that of the S4 repository's
// `copying` with scattered tokens): M data tokens at random places among noise, then M markers; at the markers, say the
// data tokens in their order. Where things stand is different in every row, so a fixed convolution cannot solve it.
//
// Ids: 0 noise, 1 … A−2 data (uniform, repeats allowed), A−1 marker. A row of length L is L − 2M noise, the M data
// tokens in uniformly drawn places among them, and the M markers. The model is never shown the answers. With A = 6, M =
// 3, L = 12:
//
//   tokens   0 4 0 0 1 4 0 0 0 5 5 5        (5 is the marker)
//   labels   . . . . . . . . . 4 1 4
//
// Noise and marker are ids of the output too but never right. Accuracy per answer: chance is 1/(A−2), guessing among
// data tokens; the plateau "a token of this row" names a data token of the row without its place: 1/M + (1 −
// 1/M)/(A−2).
TaskEntry selective_copying_task();

}  // namespace hippodrome

#pragma once

#include "core/data/task.h"

namespace hippodrome {

// Induction heads (Gu and Dao 2023, section 4.1.2 and table 11): one special token stands somewhere, followed by a
// symbol; the special token stands again at the end; say the symbol that followed it.
//
// Ids: 0 … V−2 are symbols, uniform and independent; V−1 is the special token, in exactly two places: a uniformly drawn
// place p in 0 … L−3, and L−1. Symbols are drawn without it, so it occurs nowhere else. As in the paper V counts the
// special token (V = 16 there). With V = 6 and L = 9:
//
//   tokens   3 0 5 2 2 4 0 1 5
//   labels   . . . . . . . . 2
//
// Accuracy over rows: chance is 1/(V−1), the symbols. Beyond the trained length T, the plateau "as far back as trained"
// is solving the rows whose special token is among the last T tokens, a share (T−2)/(L−2), and guessing in the others.
TaskEntry induction_task();

}  // namespace hippodrome

#pragma once

#include "core/data/task.h"

namespace hippodrome {

// Parity: is the number of ones so far even (0) or odd (1)? Bits are fair coins; the ids are the bits themselves
// (V = 2: rows of one length need no padding id). xLSTM (Beck et al. 2024) and "Unlocking state-tracking" (Grazzi et
// al. 2025) train at up to 40 bits and test at 40 … 256; here training is at one length, and with a label at every
// position each row trains all shorter lengths too.
//
//   bits                       1 0 1 1 0
//   labels, label = "every"    1 1 0 1 1
//   labels, label = "last"     . . . . 1
//
// Accuracy: chance 1/2. Plateaus: "the bit itself" answers with its input, right at the first position and half the
// time after it; beyond the trained length T, "no further than trained" is exact for T positions and guesses after.
TaskEntry parity_task();

}  // namespace hippodrome

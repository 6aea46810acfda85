// Which instruction sets the Highway files are compiled for. Include first in every file that includes
// hwy/foreach_target.h.
#pragma once

// Portable code, AVX2 and AVX-512 (NEON on ARM): SSE4 machines are too rare and AVX3_DL adds nothing that these kernels
// use, and each target costs a compilation of the whole file. Vectors of SVE have no size known to the compiler, so
// they cannot be held in arrays, which is how the kernels keep windows and states in registers.
#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#endif

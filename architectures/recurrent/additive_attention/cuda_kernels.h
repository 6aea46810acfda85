// The CUDA kernels of additive attention, and how their launches follow one another.
#pragma once

#include "architectures/recurrent/additive_attention/cuda_backward.h"  // IWYU pragma: export
#include "architectures/recurrent/additive_attention/cuda_forward.h"   // IWYU pragma: export

#pragma once

#include <string>

namespace hippodrome {

class Accelerator;

// Loads libhippodrome_cuda.so (beside libhippodrome.so), and with it LibTorch's CUDA side, when this machine has an NVIDIA GPU.
// Must come before every other call into LibTorch: a single CPU backward() freezes LibTorch's CUDA hooks as stubs. Prints one
// sentence when a GPU is there but the library is not or does not load. Returns whether it is loaded.
bool load_cuda_library();

// The GPU of this number, as the loaded library sees it; null with a sentence in `why_not` when there is none.
Accelerator* cuda_accelerator(int index, std::string& why_not);

}  // namespace hippodrome

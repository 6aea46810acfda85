#pragma once

namespace hippodrome::gpu_benchmark {

// Loads libhippodrome_rivals.so (rivals_op.cpp), which lies beside libhippodrome.so. Prints a sentence and returns
// false where it does not: then there is no rival for wkv4.
bool load_rivals();

}  // namespace hippodrome::gpu_benchmark

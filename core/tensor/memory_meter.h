#pragma once

#include <cstdint>

namespace hippodrome {

// Counts the CPU memory of tensors at the allocator, on all threads: resident-set size alone also counts what the C library
// keeps, and misses what it reuses.
namespace memory_meter {

// Puts the meter in the place of LibTorch's CPU allocator. At the start of main: what lives before is not counted.
void install();
// Freed memory is kept for reuse rather than returned to the kernel: a first touch of a page costs more than most kernels spend
// on its contents. Once, at the start of main.
void keep_freed_memory();

int64_t current_bytes();
int64_t peak_bytes();  // since start or the last reset
void reset_peak();

// An allocation that would pass this many bytes fails with c10::OutOfMemoryError. 0: no limit.
void set_limit(int64_t bytes);

}  // namespace memory_meter
}  // namespace hippodrome

// How a GPU's launch cuts the sequences of a scan: each segment is some blocks' work, from the state that enters it.
#pragma once

#include <cstdint>

#include "core/cuda/block.h"

namespace hippodrome {

struct ScanSegments {
  int64_t count = 1, length = 0;
};

// When a scan is cut, and how finely.
struct SegmentRule {
  int64_t enough;          // blocks of a launch that need no more of them
  int64_t wanted;          // blocks to cut for
  int64_t least_tokens;    // of a segment
  int64_t least_segments;  // fewer are not worth the passes that find the states between them
};

// `blocks` are those of the launch without a cut. Of the shape only, so that the same call gives the same bits on any
// GPU; made for the 132 multiprocessors of a Hopper.
inline ScanSegments scan_segments(int64_t blocks, int64_t length, const SegmentRule& rule) {
  constexpr int64_t kMultiple = 32;  // of tokens
  if (blocks == 0 || blocks >= rule.enough) return {1, length};
  const int64_t by_blocks = cuda::ceil_div(rule.wanted, blocks), by_tokens = length / rule.least_tokens;
  const int64_t count = by_blocks < by_tokens ? by_blocks : by_tokens;
  if (count < rule.least_segments) return {1, length};
  const int64_t segment = cuda::ceil_div(cuda::ceil_div(length, count), kMultiple) * kMultiple;
  return {cuda::ceil_div(length, segment), segment};
}

}  // namespace hippodrome

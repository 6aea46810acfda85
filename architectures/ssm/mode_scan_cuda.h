// What the CUDA kernels of the scans over complex modes (diagonal_scan, dplr_scan) have in common: their problem, and
// how a block finds its tokens and states. To a kernel a segment is a row of its own, with a state that enters it and
// an adjoint that comes from behind it; only what is the whole sequence's asks which segment it is.
#pragma once

#include <cstdint>

#include "architectures/ssm/scan_segments.h"
#include "core/cuda/block.h"

namespace hippodrome {

// Device pointers; states are of the type that kernels compute in.
struct ModeScanProblem {
  cuda::Element element = cuda::Element::kFloat;
  int64_t batch = 0, channels = 0, length = 0, states = 0;  // B, D, L, N
  ScanSegments segments;
  const void* state = nullptr;            // [B, D, N, 2] or null for zeros
  const int64_t* positions = nullptr;     // [B, L] or null
  const void* grad_last_state = nullptr;  // [B, D, N, 2]; of backward
  // Scratch [B, segments, D, N, 2] where there are several segments, else null: x before each, λ behind each.
  void* before = nullptr;
  void* behind = nullptr;  // of backward
};

namespace mode_scan {

using cuda::ceil_div;
using Problem = ModeScanProblem;

inline constexpr int kTile = 32;                                 // tokens that are staged in shared memory at once
inline constexpr int kPadding = -1, kFresh = 0, kContinues = 1;  // codes of positions

// What a block works on.
struct Place {
  int64_t row, segment, channel, begin, end;  // the first channel; tokens [begin, end)
};
HIPPODROME_HOST_DEVICE int64_t places(const Problem& p, int64_t channels_of_block) {
  return p.batch * p.segments.count * ceil_div(p.channels, channels_of_block);
}
HIPPODROME_HOST_DEVICE Place place(const Problem& p, int64_t block, int64_t channels_of_block) {
  const int64_t groups = ceil_div(p.channels, channels_of_block), rest = block / groups;
  Place at;
  at.channel = block % groups * channels_of_block;
  at.segment = rest % p.segments.count;
  at.row = rest / p.segments.count;
  at.begin = at.segment * p.segments.length;
  at.end = at.begin + p.segments.length < p.length ? at.begin + p.segments.length : p.length;
  return at;
}

// f(first token, tokens) for the tiles of a segment, first to last or last to first.
template <class F>
HIPPODROME_KERNEL void for_each_tile(const Place& at, const F& f) {
  for (int64_t begin = at.begin; begin < at.end; begin += kTile) {
    f(begin, static_cast<int>(at.end - begin < kTile ? at.end - begin : kTile));
  }
}
template <class F>
HIPPODROME_KERNEL void for_each_tile_backwards(const Place& at, const F& f) {
  for (int64_t tile = ceil_div(at.end - at.begin, kTile) - 1; tile >= 0; --tile) {
    const int64_t begin = at.begin + tile * kTile;
    f(begin, static_cast<int>(at.end - begin < kTile ? at.end - begin : kTile));
  }
}

HIPPODROME_HOST_DEVICE void load_codes(const Problem& p, const Place& at, int64_t begin, int count, int thread,
                                       int* codes) {
  if (thread >= count) return;
  const int64_t position = p.positions != nullptr ? p.positions[at.row * p.length + begin + thread] : 1;
  codes[thread] = position < 0 ? kPadding : position == 0 ? kFresh : kContinues;
}

// ---- states ----

// A thread's states of its channel: n = first + k kStride.
template <int kStride>
struct Mine {
  int64_t channel, first, states;
  bool inside;  // whether there is such a channel
  HIPPODROME_HOST_DEVICE int64_t n(int k) const { return first + k * kStride; }
  HIPPODROME_HOST_DEVICE bool has(int k) const { return inside && n(k) < states; }
};

// Row of a channel's states in [B, D, N, 2], and in [B, segments, D, N, 2].
HIPPODROME_HOST_DEVICE int64_t row_of(const Problem& p, const Place& at, int64_t channel) {
  return at.row * p.channels + channel;
}
HIPPODROME_HOST_DEVICE int64_t segment_row_of(const Problem& p, const Place& at, int64_t channel) {
  return (at.row * p.segments.count + at.segment) * p.channels + channel;
}

// The states that enter the segments and the adjoints from behind them, both [B, segments, D, N, 2].
HIPPODROME_HOST_DEVICE const void* entering(const Problem& p) { return p.before != nullptr ? p.before : p.state; }
HIPPODROME_HOST_DEVICE const void* from_behind(const Problem& p) {
  return p.behind != nullptr ? p.behind : p.grad_last_state;
}

HIPPODROME_HOST_DEVICE bool is_first(const Place& at) { return at.segment == 0; }
HIPPODROME_HOST_DEVICE bool is_last(const Problem& p, const Place& at) { return at.segment == p.segments.count - 1; }

}  // namespace mode_scan
}  // namespace hippodrome

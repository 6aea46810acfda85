// What the scans over channels share: a group of channels is a work item, its tokens are gathered a chunk at a time
// (padding left out), so that the loops over time see runs without a branch. Include after hwy/highway.h in files
// compiled through hwy/foreach_target.h.

#if defined(HIPPODROME_ARCHITECTURES_SSM_CHANNEL_GROUP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HIPPODROME_ARCHITECTURES_SSM_CHANNEL_GROUP_INL_H_
#undef HIPPODROME_ARCHITECTURES_SSM_CHANNEL_GROUP_INL_H_
#else
#define HIPPODROME_ARCHITECTURES_SSM_CHANNEL_GROUP_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <vector>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::channel_group {
namespace HWY_NAMESPACE {

// Channels of a group, whatever the vector width: one AVX-512 vector of float.
constexpr int64_t kGroup = 16;

// Tokens [begin, end) of a gathered chunk that follow each other; `fresh` when the first starts from a zero state.
struct Run {
  int64_t begin, end;
  bool fresh;
};

// The tokens of one chunk of one row that are not padding: their indices, and the runs they form.
struct Chunk {
  std::vector<int64_t> tokens;
  std::vector<Run> runs;

  // Tokens [first, first + size) of the row.
  void read(const int64_t* positions, int64_t row, int64_t length, int64_t first, int64_t size) {
    tokens.clear();
    runs.clear();
    for (int64_t t = first; t < std::min(first + size, length); ++t) {
      const int64_t position = positions != nullptr ? positions[row * length + t] : 1;
      if (position < 0) continue;
      const int64_t at = static_cast<int64_t>(tokens.size());
      if (position == 0 || runs.empty()) {
        if (!runs.empty()) runs.back().end = at;
        runs.push_back({at, at, position == 0});
      }
      tokens.push_back(row * length + t);
    }
    if (!runs.empty()) runs.back().end = static_cast<int64_t>(tokens.size());
  }
};

// Copies the group's channels of the chunk's tokens from [B, L, D] into rows of kGroup, times `scale`.
template <class T>
void Gather(const Chunk& chunk, const T* HWY_RESTRICT from, int64_t channels, int64_t channel, int64_t width, T scale,
            T* HWY_RESTRICT to) {
  for (const int64_t token : chunk.tokens) {
    const T* row = from + token * channels + channel;
    if (width == kGroup) {
      for (int64_t i = 0; i < kGroup; ++i) to[i] = scale * row[i];
    } else {
      for (int64_t i = 0; i < width; ++i) to[i] = scale * row[i];
    }
    to += kGroup;
  }
}

template <class T>
void Scatter(const Chunk& chunk, const T* HWY_RESTRICT from, int64_t channels, int64_t channel, int64_t width, T scale,
             T* HWY_RESTRICT to) {
  for (const int64_t token : chunk.tokens) {
    T* row = to + token * channels + channel;
    for (int64_t i = 0; i < width; ++i) row[i] = scale * from[i];
    from += kGroup;
  }
}

template <class T>
void ZeroPadding(const int64_t* positions, int64_t row, int64_t length, int64_t channels, int64_t channel,
                 int64_t width, T* to) {
  if (positions == nullptr) return;
  for (int64_t token = row * length; token < (row + 1) * length; ++token) {
    if (positions[token] < 0) std::fill_n(to + token * channels + channel, width, T(0));
  }
}

// `width` rows of `count` numbers ↔ [count][kGroup], zeros in the lanes behind the last row. Null: zeros.
template <class T>
void LoadLanes(const T* rows, int64_t count, int64_t width, T* lanes) {
  std::fill_n(lanes, count * kGroup, T(0));
  if (rows == nullptr) return;
  for (int64_t lane = 0; lane < width; ++lane) {
    for (int64_t i = 0; i < count; ++i) lanes[i * kGroup + lane] = rows[lane * count + i];
  }
}
template <class T>
void StoreLanes(const T* lanes, int64_t count, int64_t width, T* rows) {
  for (int64_t lane = 0; lane < width; ++lane) {
    for (int64_t i = 0; i < count; ++i) rows[lane * count + i] = lanes[i * kGroup + lane];
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace hippodrome::channel_group
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard

// What the forward and the backward kernels share: a block of channels (one lane each), a chunk of steps, loads and
// stores at the ragged edge. Compiled once per instruction set.
#if defined(HIPPODROME_SELECTIVE_SCAN_BLOCK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HIPPODROME_SELECTIVE_SCAN_BLOCK_INL_H_
#undef HIPPODROME_SELECTIVE_SCAN_BLOCK_INL_H_
#else
#define HIPPODROME_SELECTIVE_SCAN_BLOCK_INL_H_
#endif

#include <algorithm>
#include <cstring>
#include <numbers>

#include "architectures/ssm/selective_scan/op.h"
#include "core/tensor/vector_math-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

// The state loops must unroll completely, so that arrays of vectors become registers.
#if defined(__clang__)
#define HIPPODROME_UNROLL _Pragma("clang loop unroll(full)")
#else
#define HIPPODROME_UNROLL _Pragma("GCC unroll 16")
#endif

HWY_BEFORE_NAMESPACE();
namespace hippodrome::s6 {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using hippodrome::HWY_NAMESPACE::vector_exp;
using hippodrome::HWY_NAMESPACE::vector_exp2;
using hippodrome::HWY_NAMESPACE::vector_sigmoid;
using hippodrome::HWY_NAMESPACE::vector_softplus;

template <class T>
using Tag = hn::ScalableTag<T>;
template <class T>
using Vector = hn::Vec<Tag<T>>;
// Constant on every instruction set this file is compiled for (the scalable ones are disabled in cpu.cpp).
template <class T>
inline constexpr int64_t kLanes = HWY_TARGET == HWY_SCALAR ? 1 : HWY_MAX_BYTES / sizeof(T);

// One lane per channel: channels [first, first + count) of group `group` in batch row `batch`; count <= lanes.
struct Block {
  int64_t batch = 0;
  int64_t group = 0;
  int64_t first = 0;
  int64_t count = 0;
};

template <class T>
HWY_INLINE Vector<T> load_channels(const T* from, int64_t count) {
  const Tag<T> d;
  if (HWY_LIKELY(count == kLanes<T>)) return hn::LoadU(d, from);
  HWY_ALIGN T buffer[kLanes<T>] = {};
  std::memcpy(buffer, from, count * sizeof(T));
  return hn::Load(d, buffer);
}

template <class T>
HWY_INLINE void store_channels(Vector<T> v, T* to, int64_t count) {
  const Tag<T> d;
  if (HWY_LIKELY(count == kLanes<T>)) {
    hn::StoreU(v, d, to);
    return;
  }
  HWY_ALIGN T buffer[kLanes<T>];
  hn::Store(v, d, buffer);
  std::memcpy(to, buffer, count * sizeof(T));
}

// [count, states] with rows of `states` in memory -> [states][lanes], lanes past count zero, times `factor`. Null:
// zeros.
template <class T>
void load_states(const T* from, int64_t count, int64_t states, T factor, T* to) {
  std::fill(to, to + states * kLanes<T>, T(0));
  for (int64_t j = 0; j < count && from != nullptr; ++j) {
    for (int64_t n = 0; n < states; ++n) to[n * kLanes<T> + j] = from[j * states + n] * factor;
  }
}

template <class T>
void store_states(const T* from, int64_t count, int64_t states, T* to) {
  for (int64_t j = 0; j < count; ++j) {
    for (int64_t n = 0; n < states; ++n) to[j * states + n] = from[n * kLanes<T> + j];
  }
}

// The steps of a chunk that are not padding. Padding is left out of every loop, so that nothing in it can leak.
struct Steps {
  int64_t begin = 0;  // first step of the chunk
  int64_t end = 0;
  int64_t count = 0;
  int16_t row[kChunk];   // step begin + row[i]
  bool reset[kChunk];    // a sequence starts at this step
  bool padding[kChunk];  // by row, not by i

  template <class T>
  void find(const Params<T>& p, int64_t batch, int64_t chunk) {
    begin = chunk * kChunk;
    end = std::min(begin + kChunk, p.length);
    count = 0;
    for (int64_t r = 0; r < end - begin; ++r) {
      const int64_t position = p.positions != nullptr ? p.positions[batch * p.length + begin + r] : 1;
      padding[r] = position < 0;
      if (position < 0) continue;
      row[count] = static_cast<int16_t>(r);
      reset[count] = position == 0;
      ++count;
    }
  }
};

// Step size before and after softplus.
template <class T>
HWY_INLINE Vector<T> raw_step_size(const Params<T>& p, const Block& block, Vector<T> bias, int64_t t) {
  const T* row = p.delta.data + block.batch * p.delta.batch + t * p.delta.time + block.first;
  return hn::Add(load_channels(row, block.count), bias);
}

}  // namespace HWY_NAMESPACE
}  // namespace hippodrome::s6
HWY_AFTER_NAMESPACE();
#endif

// A tile of steps as the forward and the backward kernels see it: rows gathered without padding, step sizes, decays.
// Compiled once per instruction set.
#if defined(HIPPODROME_SSD_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HIPPODROME_SSD_TILE_INL_H_
#undef HIPPODROME_SSD_TILE_INL_H_
#else
#define HIPPODROME_SSD_TILE_INL_H_
#endif

#include <algorithm>
#include <cstring>

#include "architectures/ssm/ssd/op.h"
#include "architectures/ssm/ssd/product-inl.h"
#include "core/tensor/vector_math-inl.h"
#include "hwy/aligned_allocator.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::ssd_kernel {
namespace HWY_NAMESPACE {
using hippodrome::HWY_NAMESPACE::vector_exp;
using hippodrome::HWY_NAMESPACE::vector_sigmoid;
using hippodrome::HWY_NAMESPACE::vector_softplus;

template <class T>
int64_t padded(int64_t count) {
  return (count + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

// Aligned arrays out of one allocation, zero at first: what a product reads beyond a matrix must be finite.
template <class T>
class Arena {
 public:
  explicit Arena(int64_t size) : memory_(hwy::AllocateAligned<T>(size)), size_(size) {
    std::fill(memory_.get(), memory_.get() + size, T(0));
  }
  T* take(int64_t size) {
    T* from = memory_.get() + taken_;
    taken_ += size;
    HWY_DASSERT(taken_ <= size_);
    return from;
  }

 private:
  hwy::AlignedFreeUniquePtr<T[]> memory_;
  int64_t size_;
  int64_t taken_ = 0;
};

// One work item: heads [first, first + count) of group `group` in batch row `batch`.
struct Item {
  int64_t batch;
  int64_t group;
  int64_t first;
  int64_t count;
};

template <class T>
Item item_of(const Params<T>& p, int64_t index) {
  const int64_t per_group = p.heads / p.groups, blocks = head_blocks(p.heads, p.groups);
  const int64_t group = index / blocks % p.groups, begin = index % blocks * kHeadBlock;
  return {index / (blocks * p.groups), group, group * per_group + begin, std::min(kHeadBlock, per_group - begin)};
}

// The steps of a tile that are not padding. Padding is left out of every matrix, so that nothing in it can leak.
struct Steps {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t count = 0;
  int64_t carried = 0;   // leading steps that continue the state before the tile
  int64_t time[kTile];   // of step i
  int64_t start[kTile];  // step of the tile at which the sequence of step i starts, 0 if before the tile
  bool padding[kTile];   // by time - begin, not by i

  template <class T>
  void find(const Params<T>& p, int64_t batch, int64_t tile_begin, int64_t tile_end) {
    begin = tile_begin, end = tile_end, count = 0;
    int64_t current = 0;
    bool reset = false;
    carried = 0;
    for (int64_t t = begin; t < end; ++t) {
      const int64_t position = p.positions != nullptr ? p.positions[batch * p.length + t] : 1;
      padding[t - begin] = position < 0;
      if (position < 0) continue;
      if (position == 0) current = count, reset = true;
      time[count] = t;
      start[count] = current;
      ++count;
      if (!reset) carried = count;
    }
  }
  bool starts(int64_t i) const { return i >= carried && start[i] == i; }
  // The first step of the sequence that goes on behind the tile.
  int64_t last_start() const { return start[count - 1]; }
};

template <class T>
HWY_INLINE Vector<T> load_part(const T* from, int64_t count) {
  const Tag<T> d;
  if (HWY_LIKELY(count >= kLanes<T>)) return hn::LoadU(d, from);
  HWY_ALIGN T buffer[kLanes<T>] = {};
  std::memcpy(buffer, from, count * sizeof(T));
  return hn::Load(d, buffer);
}

template <class T>
HWY_INLINE void store_part(Vector<T> v, T* to, int64_t count) {
  const Tag<T> d;
  if (HWY_LIKELY(count >= kLanes<T>)) {
    hn::StoreU(v, d, to);
    return;
  }
  HWY_ALIGN T buffer[kLanes<T>];
  hn::Store(v, d, buffer);
  std::memcpy(to, buffer, count * sizeof(T));
}

// to[c][r] = from[r][c] for 4 rows and columns.
#if HWY_TARGET != HWY_SCALAR
template <class T>
HWY_INLINE void transpose_block(const T* from, int64_t from_row, T* to, int64_t to_row) {
  const hn::FixedTag<T, 4> d;
  const auto a = hn::LoadU(d, from), b = hn::LoadU(d, from + from_row);
  const auto c = hn::LoadU(d, from + 2 * from_row), e = hn::LoadU(d, from + 3 * from_row);
  const auto ac_low = hn::InterleaveLower(d, a, c), be_low = hn::InterleaveLower(d, b, e);
  const auto ac_high = hn::InterleaveUpper(d, a, c), be_high = hn::InterleaveUpper(d, b, e);
  hn::StoreU(hn::InterleaveLower(d, ac_low, be_low), d, to);
  hn::StoreU(hn::InterleaveUpper(d, ac_low, be_low), d, to + to_row);
  hn::StoreU(hn::InterleaveLower(d, ac_high, be_high), d, to + 2 * to_row);
  hn::StoreU(hn::InterleaveUpper(d, ac_high, be_high), d, to + 3 * to_row);
}
#endif

// to[c][r] = from[r][c].
template <class T>
void transpose(const T* from, int64_t from_row, int64_t rows, int64_t columns, T* to, int64_t to_row) {
  constexpr int64_t kSide = 16;  // a cache line of floats each way
  for (int64_t r0 = 0; r0 < rows; r0 += kSide) {
    const int64_t r_end = std::min(r0 + kSide, rows);
    int64_t c = 0;
#if HWY_TARGET != HWY_SCALAR
    // Doubles are for checking: right, but four to a block of 128 bits they are not.
    if constexpr (sizeof(T) == 4) {
      const int64_t whole_end = r0 + (r_end - r0) / 4 * 4;
      for (; c + 4 <= columns; c += 4) {
        int64_t r = r0;
        for (; r < whole_end; r += 4) transpose_block(from + r * from_row + c, from_row, to + c * to_row + r, to_row);
        for (; r < r_end; ++r) {
          for (int64_t k = c; k < c + 4; ++k) to[k * to_row + r] = from[r * from_row + k];
        }
      }
    }
#endif
    for (; c < columns; ++c) {
      for (int64_t r = r0; r < r_end; ++r) to[c * to_row + r] = from[r * from_row + c];
    }
  }
}

// Columns [first, first + width) of the tile's steps -> [count][padded width].
template <class T>
void gather(const Strided<const T>& source, int64_t batch, const Steps& steps, int64_t first, int64_t width, T* to) {
  const int64_t row = padded<T>(width);
  for (int64_t i = 0; i < steps.count; ++i) {
    std::memcpy(to + i * row, source.data + batch * source.batch + steps.time[i] * source.time + first,
                width * sizeof(T));
  }
}

// A state in memory, [P, N], and in a kernel, [N][padded P]; null: zeros.
template <class T>
void load_state(const Params<T>& p, const T* from, T* to) {
  const int64_t row = padded<T>(p.head_size);
  if (from == nullptr) {
    std::fill(to, to + p.states * row, T(0));
  } else {
    transpose(from, p.states, p.head_size, p.states, to, row);
  }
}
template <class T>
void store_state(const Params<T>& p, const T* from, T* to) {
  transpose(from, padded<T>(p.head_size), p.states, p.head_size, to, p.states);
}

// The state before `chunk` of head h among the checkpoints, [N][P].
template <class T>
T* checkpoint(const Params<T>& p, int64_t batch, int64_t chunk, int64_t h) {
  return p.checkpoints + ((batch * chunks(p.length, p.chunk) + chunk) * p.heads + h) * p.states * p.head_size;
}

// Step sizes and decays of one head over a tile.
template <class T>
struct Decays {
  HWY_ALIGN T raw[kTile];  // before softplus
  HWY_ALIGN T unclamped[kTile];
  HWY_ALIGN T dt[kTile];
  HWY_ALIGN T high[kTile];  // time passed since the tile's start, the sum of dt up to i: high + low
  HWY_ALIGN T low[kTile];
  HWY_ALIGN T into[kTile];  // exp(s_i): of the state before the tile in step i
  HWY_ALIGN T out[kTile];   // exp(s_Q - s_j): of step j in the state behind the tile
  T whole;                  // exp(s_Q): of the state before the tile in the state behind it
  T A;

  void find(const Params<T>& p, const Item& item, int64_t h, const Steps& steps) {
    const Tag<T> d;
    const int64_t count = steps.count;
    const T* source = p.dt.data + item.batch * p.dt.batch + h;
    const T bias = p.dt_bias != nullptr ? p.dt_bias[h] : T(0);
    for (int64_t i = 0; i < count; ++i) raw[i] = source[steps.time[i] * p.dt.time] + bias;
    std::fill(raw + count, raw + kTile, T(0));
    for (int64_t i = 0; i < count; i += kLanes<T>) {
      const Vector<T> r = hn::Load(d, raw + i);
      const Vector<T> step = p.dt_softplus ? vector_softplus(d, r, static_cast<T>(kSoftplusThreshold)) : r;
      hn::Store(step, d, unclamped + i);
      const auto low_limit = hn::Set(d, static_cast<T>(p.dt_low)), high_limit = hn::Set(d, static_cast<T>(p.dt_high));
      hn::Store(hn::Min(hn::Max(step, low_limit), high_limit), d, dt + i);
    }
    A = p.A[h];
    double sum = 0.0;
    for (int64_t i = 0; i < count; ++i) {
      sum += static_cast<double>(dt[i]);
      high[i] = static_cast<T>(sum);
      low[i] = static_cast<T>(sum - static_cast<double>(high[i]));
    }
    std::fill(high + count, high + kTile, high[count - 1]);
    std::fill(low + count, low + kTile, low[count - 1]);
    for (int64_t i = 0; i < count; i += kLanes<T>) {
      hn::Store(vector_exp(d, hn::Mul(hn::Set(d, A), hn::Load(d, high + i))), d, into + i);
      hn::Store(vector_exp(d, hn::Mul(hn::Set(d, A), time_between(count - 1, i))), d, out + i);
    }
    whole = steps.carried == count ? into[count - 1] : T(0);
    std::fill(into + steps.carried, into + kTile, T(0));
    std::fill(out, out + steps.last_start(), T(0));
    std::fill(out + count, out + kTile, T(0));
  }

  // Time from steps j, j + 1, ... to step i.
  HWY_INLINE Vector<T> time_between(int64_t i, int64_t j) const {
    const Tag<T> d;
    return hn::Add(hn::Sub(hn::Set(d, high[i]), hn::Load(d, high + j)),
                   hn::Sub(hn::Set(d, low[i]), hn::Load(d, low + j)));
  }

  // exp(s_i - s_j) for columns j, j + 1, ... of row i; zero above the diagonal, where it may overflow, and before the
  // sequence of step i.
  HWY_INLINE Vector<T> row(const Steps& steps, int64_t i, int64_t j) const {
    const Tag<T> d;
    Vector<T> decay = vector_exp(d, hn::Mul(hn::Set(d, A), time_between(i, j)));
    const int64_t inside = i + 1 - j, before = steps.start[i] - j;
    if (inside < kLanes<T>) {
      decay = inside <= 0 ? hn::Zero(d) : hn::IfThenElseZero(hn::FirstN(d, static_cast<size_t>(inside)), decay);
    }
    if (before > 0) {
      decay = before >= kLanes<T> ? hn::Zero(d) : hn::IfThenZeroElse(hn::FirstN(d, static_cast<size_t>(before)), decay);
    }
    return decay;
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace hippodrome::ssd_kernel
HWY_AFTER_NAMESPACE();
#endif

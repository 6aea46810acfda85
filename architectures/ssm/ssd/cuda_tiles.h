// What the CUDA kernels of SSD load into shared memory: rows of steps, facts about steps, parts of a state.
#pragma once

#include "architectures/ssm/ssd/cuda.h"
#include "core/cuda/block.h"
#include "core/cuda/math.h"
#include "core/cuda/tile_product.h"

namespace hippodrome::ssd_kernel::gpu {

using cuda::ceil_div;
using cuda::ScalarOf;

// Side of the tiles: four tiles of 64 x 64 float64 would not fit.
template <class T>
inline constexpr int kSideOf = sizeof(T) == 8 ? 32 : 64;

// What kernels of both passes read.
HIPPODROME_HOST_DEVICE const CudaParams& inputs_of(const CudaParams& p) { return p; }
HIPPODROME_HOST_DEVICE const CudaParams& inputs_of(const CudaGradients& p) { return p.in; }
// dy, the gradient before the gate.
HIPPODROME_HOST_DEVICE Strided<const void> output_gradient(const CudaGradients& p) {
  if (p.before_gate == nullptr) return p.y;
  Strided<const void> dy;
  dy.data = p.before_gate;
  dy.batch = p.in.length * p.in.heads * p.in.head_size;
  dy.time = p.in.heads * p.in.head_size;
  return dy;
}

HIPPODROME_HOST_DEVICE Units units_of(const CudaParams& p) { return ssd_kernel::units_of(p.length, p.chunk); }
// Tiles of `side` steps that a unit takes.
HIPPODROME_HOST_DEVICE int64_t tiles_of(const Units& units, int64_t side) {
  return ceil_div(units.unit < units.length ? units.unit : units.length, side);
}

// The columns of one head or group in one batch row: step t is data[t * time + column]. Null: zeros.
template <class T>
struct Rows {
  const T* data;
  int64_t time;
  int width;

  HIPPODROME_HOST_DEVICE void skip(int64_t steps) { data = data == nullptr ? nullptr : data + steps * time; }
};

template <class T>
HIPPODROME_HOST_DEVICE Rows<T> rows_of(const Strided<const void>& from, int64_t batch, int64_t index, int64_t width) {
  const T* const data = static_cast<const T*>(from.data);
  return {data == nullptr ? nullptr : data + batch * from.batch + index * width, from.time, static_cast<int>(width)};
}

// Place of (b, unit, h) among what there is one of per unit and head.
HIPPODROME_HOST_DEVICE int64_t unit_index(const CudaParams& p, const Units& units, int64_t b, int64_t unit, int64_t h) {
  return (b * units.count + unit) * p.heads + h;
}
// Place of (row, b, h, t) in a work space [rows, B, H, L].
HIPPODROME_HOST_DEVICE int64_t step_index(const CudaParams& p, int64_t row, int64_t b, int64_t h, int64_t t) {
  return ((row * p.batch + b) * p.heads + h) * p.length + t;
}

// A tile's steps in shared memory.
template <class S, int kSide>
struct StepTile {
  S size[kSide];  // dt
  S high[kSide];  // time
  S low[kSide];
  S edge[kSide];            // decay from or to the unit's edge
  int32_t sequence[kSide];  // negative for padding and for what is behind the unit

  // Time from step j to step i of `earlier`, exact to the working precision however long the unit.
  HIPPODROME_HOST_DEVICE S since(int i, const StepTile& earlier, int j) const {
    return (high[i] - earlier.high[j]) + (low[i] - earlier.low[j]);
  }
};

template <class S, int kSide>
HIPPODROME_HOST_DEVICE void load_steps(int thread, int threads, const CudaParams& p, int64_t b, int64_t h,
                                       int64_t begin, int64_t end, StepFact edge, StepTile<S, kSide>& to) {
  const S* const facts = static_cast<const S*>(p.steps);
  for (int i = thread; i < kSide; i += threads) {
    const int64_t t = begin + i;
    const bool inside = t < end;
    to.sequence[i] = inside ? p.sequences[b * p.length + t] : -1;
    to.size[i] = inside ? facts[step_index(p, kStepSize, b, h, t)] : S(0);
    to.high[i] = inside ? facts[step_index(p, kTimeHigh, b, h, t)] : S(0);
    to.low[i] = inside ? facts[step_index(p, kTimeLow, b, h, t)] : S(0);
    to.edge[i] = inside ? facts[step_index(p, edge, b, h, t)] : S(0);
  }
}

template <class T>
struct alignas(16) Vector {
  static constexpr int kSize = 16 / static_cast<int>(sizeof(T));
  T value[kSize];
};

// Columns [column, column + kSide) of kSide steps from `begin`, each step times its weight unless `weight` is null;
// zeros for steps whose sequence is negative and for columns that there are none of. Sixteen bytes at once where the
// layout allows.
template <class T, int kSide>
HIPPODROME_HOST_DEVICE void load_rows(int thread, const Rows<T>& rows, int64_t begin, int column,
                                      const int32_t* sequence, const ScalarOf<T>* weight, T* to) {
  using Layout = cuda::TileLayout<T, kSide>;
  constexpr int kSize = Vector<T>::kSize, kAcross = kSide / kSize;
  const bool whole = rows.width % kSize == 0 && (rows.time * static_cast<int64_t>(sizeof(T))) % 16 == 0 &&
                     reinterpret_cast<uintptr_t>(rows.data) % 16 == 0;
  const T* const from = rows.data == nullptr ? nullptr : rows.data + begin * rows.time + column;
  constexpr int kAhead = 4;  // loads in flight
  if (whole) {
    for (int first = thread; first < kSide * kAcross; first += kAhead * Layout::kThreads) {
      Vector<T> v[kAhead];
      HIPPODROME_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        const int at = first + i * Layout::kThreads, r = at / kAcross, c = at % kAcross * kSize;
        v[i] = Vector<T>{};
        if (from != nullptr && sequence[r] >= 0 && column + c < rows.width)
          v[i] = *reinterpret_cast<const Vector<T>*>(from + r * rows.time + c);
      }
      HIPPODROME_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        const int at = first + i * Layout::kThreads, r = at / kAcross, c = at % kAcross * kSize;
        if (weight != nullptr) {
          HIPPODROME_UNROLL
          for (int k = 0; k < kSize; ++k) cuda::store(cuda::load(v[i].value[k]) * weight[r], &v[i].value[k]);
        }
        *reinterpret_cast<Vector<T>*>(to + r * Layout::kRow + c) = v[i];
      }
    }
    return;
  }
  for (int first = thread; first < kSide * kSide; first += kAhead * Layout::kThreads) {
    T v[kAhead];
    HIPPODROME_UNROLL
    for (int i = 0; i < kAhead; ++i) {
      const int at = first + i * Layout::kThreads, r = at / kSide, c = at % kSide;
      v[i] = T{};
      if (from != nullptr && sequence[r] >= 0 && column + c < rows.width) v[i] = from[r * rows.time + c];
    }
    HIPPODROME_UNROLL
    for (int i = 0; i < kAhead; ++i) {
      const int at = first + i * Layout::kThreads, r = at / kSide;
      if (weight != nullptr) cuda::store(cuda::load(v[i]) * weight[r], &v[i]);
      to[r * Layout::kRow + at % kSide] = v[i];
    }
  }
}

// States [n, n + kSide) and channels [c, c + kSide) of a state [N, P], rounded to T; zeros outside. Sixteen bytes at
// once where the layout allows.
template <class T, int kSide>
HIPPODROME_HOST_DEVICE void load_state(int thread, const ScalarOf<T>* state, const CudaParams& p, int n, int c, T* to) {
  using Layout = cuda::TileLayout<T, kSide>;
  using S = ScalarOf<T>;
  const int64_t width = p.head_size;
  const S* const from = state + n * width + c;
  constexpr int kAhead = 4;  // loads in flight
  constexpr int kSize = Vector<S>::kSize, kAcross = kSide / kSize;
  if (width % kSize == 0 && reinterpret_cast<uintptr_t>(state) % 16 == 0) {
    for (int first = thread; first < kSide * kAcross; first += kAhead * Layout::kThreads) {
      Vector<S> v[kAhead];
      HIPPODROME_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        const int at = first + i * Layout::kThreads, row = at / kAcross, column = at % kAcross * kSize;
        v[i] = Vector<S>{};
        if (n + row < p.states && c + column < width)
          v[i] = *reinterpret_cast<const Vector<S>*>(from + row * width + column);
      }
      HIPPODROME_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        const int at = first + i * Layout::kThreads;
        T* const place = to + at / kAcross * Layout::kRow + at % kAcross * kSize;
        HIPPODROME_UNROLL
        for (int k = 0; k < kSize; ++k) cuda::store(v[i].value[k], &place[k]);
      }
    }
    return;
  }
  for (int first = thread; first < kSide * kSide; first += kAhead * Layout::kThreads) {
    S v[kAhead];
    HIPPODROME_UNROLL
    for (int i = 0; i < kAhead; ++i) {
      const int at = first + i * Layout::kThreads, row = at / kSide, column = at % kSide;
      v[i] = n + row < p.states && c + column < width ? from[row * width + column] : S(0);
    }
    HIPPODROME_UNROLL
    for (int i = 0; i < kAhead; ++i) {
      const int at = first + i * Layout::kThreads;
      cuda::store(v[i], &to[at / kSide * Layout::kRow + at % kSide]);
    }
  }
}

// The sum of the products of row i of two tiles, one of sums and one of elements. It begins at column i, so that the
// threads of a warp, which have neighbouring rows, read different banks: in one column rows meet in eight of 32.
template <class T, int kSide>
HIPPODROME_HOST_DEVICE ScalarOf<T> dot_row(int i, const ScalarOf<T>* sums, const T* elements) {
  ScalarOf<T> sum(0);
  for (int k = 0; k < kSide; ++k) {
    const int c = (i + k) % kSide;
    sum += sums[c] * cuda::load(elements[c]);
  }
  return sum;
}

}  // namespace hippodrome::ssd_kernel::gpu

// A tile of pairs of queries and keys in a block's shared memory: what the CUDA kernels of additive attention are made
// of.
//
// The limit is one special function per pair and feature. tanhf takes two (an exponential and a reciprocal) and some
// twenty other instructions; here a pair takes one reciprocal: tanh(a + b) = 1 - 2r, r = 1 / (1 + e^{2a} e^{2b}), whose
// exponentials are taken once for a tile, with an error of a few 1e-7 as tanhf's where numbers are moderate.
// tanh.approx would cost as much and be a thousand times coarser. Where exponentials would overflow, and where tanh is
// so small that 1 - 2r loses its digits, tanhf itself is called.
//
// Rows of a tile are the side that a block stands for and keeps; columns are the side that it walks over. In forward
// and for the gradients of queries rows are queries; for those of keys and values they are keys.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/cuda/block.h"
#include "core/cuda/element.h"
#include "core/cuda/math.h"

namespace hippodrome::additive_cuda {

// At most 1 unit in the last place off.
HIPPODROME_HOST_DEVICE float reciprocal(float x) {
#ifdef __CUDA_ARCH__
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return 1.0f / x;
#endif
}
HIPPODROME_HOST_DEVICE double reciprocal(double x) { return 1.0 / x; }

// Up to what |a| + |b| the exponentials of 2a and 2b can be multiplied.
HIPPODROME_HOST_DEVICE bool too_large(float sum) { return sum > 40.0f; }
HIPPODROME_HOST_DEVICE bool too_large(double sum) { return sum > 340.0; }
// Where 1 - 2r would lose digits of tanh.
template <class S>
HIPPODROME_HOST_DEVICE bool too_small(S sum) {
  return sum < S(0.5);
}
template <class S>
HIPPODROME_HOST_DEVICE S absolute(S x) {
  return x < S(0) ? -x : x;
}
template <class S>
HIPPODROME_HOST_DEVICE S exponential(S x) {
  return cuda::exp_of(S(2) * x);
}

// kCount neighbours at once; fours are aligned to 16 bytes.
template <int kCount, class S>
HIPPODROME_HOST_DEVICE void read(const S* from, S (&to)[kCount]) {
  if constexpr (kCount % 4 == 0) {
    memcpy(to, __builtin_assume_aligned(from, 16), sizeof to);
  } else {
    HIPPODROME_UNROLL
    for (int i = 0; i < kCount; ++i) to[i] = from[i];
  }
}

// A block's place in the grid: some rows of a batch entry, and the part [begin, end) of its columns.
struct Place {
  int64_t batch, first, split, begin, end;
  int rows;
};
HIPPODROME_HOST_DEVICE Place place(int64_t index, int64_t rows, int kRows, int64_t columns, int kColumns,
                                   int64_t splits) {
  const int64_t blocks = cuda::ceil_div(rows, kRows), share = cuda::ceil_div(cuda::ceil_div(columns, kColumns), splits);
  Place result;
  result.split = index % splits;
  result.batch = index / splits / blocks;
  result.first = index / splits % blocks * kRows;
  result.rows = static_cast<int>(rows - result.first < kRows ? rows - result.first : kRows);
  result.begin = result.split * share * kColumns;
  result.end = result.begin + share * kColumns < columns ? result.begin + share * kColumns : columns;
  return result;
}

// kByLanes: the lanes of a warp share the sum of one pair, for few rows or few columns. Otherwise a thread sums 4 × 4
// pairs over features staged in shared memory.
template <class T_, int kRows_, int kColumns_, bool kByLanes_>
struct Tile {
  using T = T_;
  using S = cuda::ScalarOf<T>;
  static constexpr int kRows = kRows_, kColumns = kColumns_;
  static constexpr bool kByLanes = kByLanes_;
  static constexpr int kThreads = kByLanes ? 256 : 128, kWarps = kThreads / 32;
  static constexpr int kDepth = 32;  // features staged at once
  // 16 rows begin at multiples of 16 bytes and in different banks.
  static constexpr int kStride = kRows == 1 ? 1 : kRows + 4;
  static constexpr int kColumnStride = kColumns + 1;
  static constexpr int kGroups = kColumns / 32;
  static_assert(kByLanes || (kRows == 4 * kWarps && kColumns == 32 * kGroups), "4 x 4 pairs a thread");
  static_assert(kColumns % 4 == 0, "columns are taken four at a time");

  S *rows, *columns;                  // [kDepth][kStride], [kDepth][kColumnStride]; not by lanes
  S *v, *extents;                     // [kDepth], [2 kWarps]
  S* weights;                         // [kColumns][kStride]
  int *row_visible, *column_visible;  // [kRows], [kColumns]: 0 for padding and beyond the end

  static int64_t shared_bytes() {
    using cuda::shared_size;
    const int64_t staged = shared_size<S>(kDepth * kStride) + shared_size<S>(kDepth * kColumnStride) +
                           shared_size<S>(kDepth) + shared_size<S>(2 * kWarps);
    return (kByLanes ? 0 : staged) + shared_size<S>(kColumns * kStride) + shared_size<int>(kRows) +
           shared_size<int>(kColumns);
  }
  template <class Block>
  explicit HIPPODROME_KERNEL Tile(Block& block) {
    if (!kByLanes) {
      rows = block.template shared<S>(kDepth * kStride);
      columns = block.template shared<S>(kDepth * kColumnStride);
      v = block.template shared<S>(kDepth);
      extents = block.template shared<S>(2 * kWarps);
    }
    weights = block.template shared<S>(kColumns * kStride);
    row_visible = block.template shared<int>(kRows);
    column_visible = block.template shared<int>(kColumns);
  }

  // Notes which of `count` entries, of these positions or none, are visible; returns the number up to the last of them.
  template <int kCount, class Block>
  HIPPODROME_KERNEL int show(Block& block, const int64_t* positions, int count, int* visible) const {
    block.each([&](int thread) {
      for (int i = thread; i < kCount; i += kThreads) {
        visible[i] = i < count && (positions == nullptr || positions[i] >= 0) ? 1 : 0;
      }
    });
    while (count > 0 && visible[count - 1] == 0) --count;
    return count;
  }

  // finish(row, column, sum, visible) for every pair, by the same thread in every call: the sum over `depth` features
  // of v_h tanh(a_h + b_h), where kScores, or of a_h b_h. a [rows, depth], b [columns, depth]. Padding is not read.
  template <bool kScores, class Block, class Finish>
  HIPPODROME_KERNEL void sum_pairs(Block& block, const T* a, const T* b, const T* of_v, int64_t depth, int row_count,
                                   int column_count, const Finish& finish) const {
    if constexpr (kByLanes) {
      sum_by_lanes<kScores>(block, a, b, of_v, depth, row_count, column_count, finish);
    } else {
      sum_by_threads<kScores>(block, a, b, of_v, depth, row_count, column_count, finish);
    }
  }

 private:
  struct Sums {
    S at[kGroups > 0 ? kGroups : 1][4];
  };

  // Four pairs of a warp at a time. Columns up to the next multiple of 4 are finished, too.
  template <bool kScores, class Block, class Finish>
  HIPPODROME_KERNEL void sum_by_lanes(Block& block, const T* a, const T* b, const T* of_v, int64_t depth, int row_count,
                                      int column_count, const Finish& finish) const {
    const int pairs = row_count * ((column_count + 3) / 4 * 4);
    for (int first = 0; first < pairs; first += 4 * kWarps) {
      typename Block::template PerThread<S> sums[4];
      block.alone([&](int thread) {
        const T *row[4], *column[4];
        S sum[4];
        HIPPODROME_UNROLL
        for (int i = 0; i < 4; ++i) {
          const int pair = first + 4 * (thread / 32) + i, r = pair % row_count, c = pair / row_count;
          const bool there = pair < pairs && row_visible[r] != 0 && column_visible[c] != 0;
          row[i] = there ? a + r * depth : nullptr;
          column[i] = there ? b + c * depth : nullptr;
          sum[i] = S(0);
        }
        for (int64_t h = thread % 32; h < depth; h += 32) {
          const S factor = kScores ? cuda::load(of_v[h]) : S(1);
          HIPPODROME_UNROLL
          for (int i = 0; i < 4; ++i) {
            if (row[i] == nullptr) continue;
            const S x = cuda::load(row[i][h]), y = cuda::load(column[i][h]);
            sum[i] += kScores ? factor * cuda::tanh_of(x + y) : x * y;
          }
        }
        HIPPODROME_UNROLL
        for (int i = 0; i < 4; ++i) sums[i][thread] = sum[i];
      });
      HIPPODROME_UNROLL
      for (int i = 0; i < 4; ++i) block.template sum_over_lanes<32>(sums[i]);
      block.alone([&](int thread) {
        if (thread % 32 != 0) return;
        HIPPODROME_UNROLL
        for (int i = 0; i < 4; ++i) {
          const int pair = first + 4 * (thread / 32) + i, r = pair % row_count, c = pair / row_count;
          if (pair < pairs) finish(r, c, sums[i][thread], row_visible[r] != 0 && column_visible[c] != 0);
        }
      });
    }
    block.each([](int) {});
  }

  template <bool kScores, class Block, class Finish>
  HIPPODROME_KERNEL void sum_by_threads(Block& block, const T* a, const T* b, const T* of_v, int64_t depth,
                                        int row_count, int column_count, const Finish& finish) const {
    typename Block::template PerThread<Sums> sums;
    block.alone([&](int thread) {
      HIPPODROME_UNROLL
      for (int j = 0; j < kGroups; ++j) {
        HIPPODROME_UNROLL
        for (int i = 0; i < 4; ++i) sums[thread].at[j][i] = S(0);
      }
    });
    for (int64_t begin = 0; begin < depth; begin += kDepth) {
      const int steps = static_cast<int>(depth - begin < kDepth ? depth - begin : kDepth);
      typename Block::template PerThread<S> row_extent, column_extent;
      block.alone([&](int thread) {
        row_extent[thread] = stage<kStride>(thread, a + begin, depth, steps, row_count, row_visible, rows);
        column_extent[thread] =
            stage<kColumnStride>(thread, b + begin, depth, steps, column_count, column_visible, columns);
        if (kScores && thread < steps) v[thread] = cuda::load(of_v[begin + thread]);
      });
      if constexpr (kScores) {
        block.template max_over_lanes<32>(row_extent);
        block.template max_over_lanes<32>(column_extent);
      }
      block.each([&](int thread) {
        if (!kScores || thread % 32 != 0) return;
        extents[thread / 32] = row_extent[thread];
        extents[kWarps + thread / 32] = column_extent[thread];
      });
      bool product = true;
      if constexpr (kScores) {
        S of_rows = extents[0], of_columns = extents[kWarps];
        for (int i = 1; i < kWarps; ++i) {
          of_rows = cuda::larger(of_rows, extents[i]);
          of_columns = cuda::larger(of_columns, extents[kWarps + i]);
        }
        product = !too_large(of_rows + of_columns) && !too_small(of_rows + of_columns);
        if (product) {
          block.each([&](int thread) {
            raise<kStride>(thread, steps, row_count, rows);
            raise<kColumnStride>(thread, steps, column_count, columns);
          });
        }
      }
      block.each([&](int thread) {
        if (thread / 32 * 4 >= row_count) return;
        if (!product) {
          add<kGroups, kScores, false>(thread, steps, sums[thread]);
        } else if (column_count <= 32) {
          add<1, kScores, true>(thread, steps, sums[thread]);
        } else if (column_count <= 64) {
          add<2, kScores, true>(thread, steps, sums[thread]);
        } else {
          add<kGroups, kScores, true>(thread, steps, sums[thread]);
        }
      });
    }
    block.each([&](int thread) {
      HIPPODROME_UNROLL
      for (int j = 0; j < kGroups; ++j) {
        HIPPODROME_UNROLL
        for (int i = 0; i < 4; ++i) {
          const int row = thread / 32 * 4 + i, column = thread % 32 + 32 * j;
          finish(row, column, sums[thread].at[j][i], row_visible[row] != 0 && column_visible[column] != 0);
        }
      }
    });
  }

  // `steps` features of `count` vectors into to[feature][vector]; 0 for padding. Returns the largest size of this
  // thread's. Neighbouring threads take neighbouring features.
  template <int kTo>
  static HIPPODROME_KERNEL S stage(int thread, const T* from, int64_t depth, int steps, int count, const int* visible,
                                   S* to) {
    constexpr int kAhead = 4;
    S largest(0);
    for (int first = thread; first < count * kDepth; first += kAhead * kThreads) {
      S x[kAhead];
      HIPPODROME_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        const int n = first + i * kThreads, vector = n / kDepth, feature = n % kDepth;
        const bool there = n < count * kDepth && feature < steps && visible[vector] != 0;
        x[i] = there ? cuda::load(from[vector * depth + feature]) : S(0);
      }
      HIPPODROME_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        const int n = first + i * kThreads;
        if (n < count * kDepth) to[n % kDepth * kTo + n / kDepth] = x[i];
        largest = cuda::larger(largest, absolute(x[i]));
      }
    }
    return largest;
  }

  // What stage wrote, each by the thread that did: x becomes e^{2x}.
  template <int kTo>
  static HIPPODROME_KERNEL void raise(int thread, int steps, int count, S* at) {
    for (int n = thread; n < count * kDepth; n += kThreads) {
      S& x = at[n % kDepth * kTo + n / kDepth];
      if (n % kDepth < steps) x = exponential(x);
    }
  }

  template <int kUsed, bool kScores, bool kProduct>
  HIPPODROME_KERNEL void add(int thread, int steps, Sums& sums) const {
    const int lane = thread % 32, first = thread / 32 * 4;
    for (int h = 0; h < steps; ++h) {
      S a[4];
      read(rows + h * kStride + first, a);
      const S factor = kScores ? v[h] : S(0);
      HIPPODROME_UNROLL
      for (int j = 0; j < kUsed; ++j) {
        const S b = columns[h * kColumnStride + lane + 32 * j];
        HIPPODROME_UNROLL
        for (int i = 0; i < 4; ++i) {
          if constexpr (!kScores) {
            sums.at[j][i] += a[i] * b;
          } else if constexpr (kProduct) {
            sums.at[j][i] += factor * (S(1) - S(2) * reciprocal(S(1) + a[i] * b));
          } else {
            sums.at[j][i] += factor * cuda::tanh_of(a[i] + b);
          }
        }
      }
    }
  }
};

// Few queries on many keys, few queries' keys, and all others.
template <class T>
using LoneQuery = Tile<T, 1, kTileColumns, true>;
template <class T>
using FewQueries = Tile<T, kTileRows, 4, true>;
template <class T>
using ManyPairs = Tile<T, kTileRows, kTileColumns, false>;

// Of one thread: to[row][m] = (to[row][m] scale[row] + Σ_column weights[column][row] from[column][m]) last[row] for its
// m; null factors are 1. from [columns, width], to [rows, width].
template <class Tile, class S = typename Tile::S>
HIPPODROME_KERNEL void add_products(int thread, const Tile& tile, const typename Tile::T* from, int64_t width,
                                    int row_count, int column_count, const S* scale, const S* last, S* to) {
  for (int64_t m = thread; m < width; m += Tile::kThreads) {
    S sums[Tile::kRows];
    HIPPODROME_UNROLL
    for (int r = 0; r < Tile::kRows; ++r) sums[r] = S(0);
    for (int first = 0; first < column_count; first += 4) {
      S x[4];  // loaded ahead
      HIPPODROME_UNROLL
      for (int i = 0; i < 4; ++i) {
        x[i] = tile.column_visible[first + i] != 0 ? cuda::load(from[(first + i) * width + m]) : S(0);
      }
      HIPPODROME_UNROLL
      for (int i = 0; i < 4; ++i) {
        S weight[Tile::kRows];
        read(tile.weights + (first + i) * Tile::kStride, weight);
        HIPPODROME_UNROLL
        for (int r = 0; r < Tile::kRows; ++r) sums[r] += weight[r] * x[i];
      }
    }
    HIPPODROME_UNROLL
    for (int r = 0; r < Tile::kRows; ++r) {
      if (r >= row_count) continue;
      S& at = to[r * width + m];
      const S sum = (scale != nullptr ? at * scale[r] : at) + sums[r];
      at = last != nullptr ? sum * last[r] : sum;
    }
  }
}

}  // namespace hippodrome::additive_cuda

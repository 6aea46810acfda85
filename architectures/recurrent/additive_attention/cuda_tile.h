// A tile of pairs of queries and keys in a block's shared memory: what the CUDA kernels of additive attention are made
// of.
//
// The limit is special functions. tanhf takes two per pair and feature (an exponential and a reciprocal) and some
// fifteen other instructions. Here tanh(a + b) = 1 - 2 / x, x = 1 + e^{2a} e^{2b}, whose exponentials are taken once
// for a tile, and two features share a reciprocal:
//
//   v tanh + v' tanh' = ((v + v') x x' - 2 (v x' + v' x)) / (x x')
//
// That is half a special function and four other instructions for a pair and feature, with an error of a few 1e-7 as
// tanhf's where numbers are moderate; tanh.approx would take a whole one and be a thousand times coarser. Where
// products of exponentials would overflow, and where tanh is so small that the difference loses its digits, tanhf
// itself is called.
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

// Up to what |a| + |b| the fourth power of e^{a + b} can be taken, and multiplied with any sane v.
HIPPODROME_HOST_DEVICE bool too_large(float sum) { return sum > 16.0f; }
HIPPODROME_HOST_DEVICE bool too_large(double sum) { return sum > 150.0; }
// Where 1 - 2 / x would lose digits of tanh.
template <class S>
HIPPODROME_HOST_DEVICE bool too_small(S sum) {
  return sum < S(0.5);
}
// The larger of a and |x|; a where x is not a number.
HIPPODROME_HOST_DEVICE float larger_size(float a, float x) { return ::fmaxf(a, cuda::absolute_of(x)); }
HIPPODROME_HOST_DEVICE double larger_size(double a, double x) { return ::fmax(a, cuda::absolute_of(x)); }
template <class S>
HIPPODROME_HOST_DEVICE S exponential(S x) {
  return cuda::exp_of(S(2) * x);
}

// 1 / x and 1 / y.
template <class S>
HIPPODROME_HOST_DEVICE void reciprocals(S x, S y, S& of_x, S& of_y) {
  const S of_both = cuda::reciprocal_of(x * y);
  of_x = y * of_both;
  of_y = x * of_both;
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
  static constexpr int kDepth = 32;                      // features staged at once, one a lane
  static constexpr int kAhead = 4;                       // numbers that a thread loads before it uses them
  static constexpr int kTogether = kRows == 1 ? 16 : 4;  // columns whose numbers are loaded together
  // 16 rows begin at multiples of 16 bytes and in different banks.
  static constexpr int kStride = kRows == 1 ? 1 : kRows + 4;
  static constexpr int kColumnStride = kColumns + 1;
  static constexpr int kGroups = kColumns / 32;
  static_assert(kByLanes || (kRows == 4 * kWarps && kColumns == 32 * kGroups), "4 x 4 pairs a thread");
  static_assert(kColumns % kTogether == 0 && kDepth % 2 == 0, "no remainders");
  static_assert(kByLanes || (kRows % (kAhead * kWarps) == 0 && kColumns % (kAhead * kWarps) == 0), "whole groups");

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
    block.each([](int) {});  // all have counted before any notes others
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

  // Four pairs of a warp at a time, four features of a lane. Columns up to the next multiple of kTogether are finished,
  // too.
  template <bool kScores, class Block, class Finish>
  HIPPODROME_KERNEL void sum_by_lanes(Block& block, const T* a, const T* b, const T* of_v, int64_t depth, int row_count,
                                      int column_count, const Finish& finish) const {
    constexpr int kPairs = 4;
    const int pairs = row_count * ((column_count + kTogether - 1) / kTogether * kTogether);
    for (int first = 0; first < pairs; first += kPairs * kWarps) {
      typename Block::template PerThread<S> sums[kPairs];
      block.alone([&](int thread) {
        // Pairs that are none take the first row and column, where there are others; their sums are dropped.
        const T *row[kPairs], *column[kPairs], *factors = of_v + thread % 32;
        S sum[kPairs];
        int64_t left = -1;
        HIPPODROME_UNROLL
        for (int i = 0; i < kPairs; ++i) {
          const int pair = first + kPairs * (thread / 32) + i, r = pair % row_count, c = pair / row_count;
          const bool there = pair < pairs && row_visible[r] != 0 && column_visible[c] != 0;
          row[i] = a + (there ? r * depth : 0) + thread % 32;
          column[i] = b + (there ? c * depth : 0) + thread % 32;
          sum[i] = S(0);
          if (there) left = depth - thread % 32;
        }
        for (; left > 0; left -= 32 * kAhead) {
          const int features = static_cast<int>(left < 32 * kAhead ? left : 32 * kAhead);
          S factor[kAhead], x[kAhead][kPairs], y[kAhead][kPairs];
          HIPPODROME_UNROLL
          for (int n = 0; n < kAhead; ++n) {
            const bool there = 32 * n < features;
            factor[n] = kScores && there ? cuda::load(factors[32 * n]) : S(0);
            HIPPODROME_UNROLL
            for (int i = 0; i < kPairs; ++i) {
              x[n][i] = there ? cuda::load(row[i][32 * n]) : S(0);
              y[n][i] = there ? cuda::load(column[i][32 * n]) : S(0);
            }
          }
          HIPPODROME_UNROLL
          for (int n = 0; n < kAhead; ++n) {
            HIPPODROME_UNROLL
            for (int i = 0; i < kPairs; ++i) {
              sum[i] += kScores ? factor[n] * cuda::tanh_of(x[n][i] + y[n][i]) : x[n][i] * y[n][i];
            }
          }
          factors += kScores ? 32 * kAhead : 0;
          HIPPODROME_UNROLL
          for (int i = 0; i < kPairs; ++i) {
            row[i] += 32 * kAhead;
            column[i] += 32 * kAhead;
          }
        }
        HIPPODROME_UNROLL
        for (int i = 0; i < kPairs; ++i) sums[i][thread] = sum[i];
      });
      HIPPODROME_UNROLL
      for (int i = 0; i < kPairs; ++i) block.template sum_over_lanes<32>(sums[i]);
      block.alone([&](int thread) {
        if (thread % 32 != 0) return;
        HIPPODROME_UNROLL
        for (int i = 0; i < kPairs; ++i) {
          const int pair = first + kPairs * (thread / 32) + i, r = pair % row_count, c = pair / row_count;
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
        if (kScores && thread < kDepth) v[thread] = thread < steps ? cuda::load(of_v[begin + thread]) : S(0);
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
          add_tanh(thread, steps, sums[thread]);
        } else if (column_count <= 32) {
          add<1, kScores>(thread, steps, sums[thread]);
        } else if (column_count <= 64) {
          add<2, kScores>(thread, steps, sums[thread]);
        } else {
          add<kGroups, kScores>(thread, steps, sums[thread]);
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

  // `steps` features of `count` vectors into to[feature][vector]; 0 for padding, and up to the next multiple of 16
  // vectors. Returns the largest size of this thread's. A thread takes one feature, its neighbours the next ones.
  template <int kTo>
  static HIPPODROME_KERNEL S stage(int thread, const T* from, int64_t depth, int steps, int count, const int* visible,
                                   S* to) {
    const int feature = thread % 32;
    const T* next = from + thread / 32 * depth + feature;
    S largest(0);
    for (int first = thread / 32; first < count; first += kAhead * kWarps) {
      S x[kAhead];
      HIPPODROME_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        x[i] = visible[first + i * kWarps] != 0 && feature < steps ? cuda::load(*next) : S(0);
        next += kWarps * depth;
      }
      HIPPODROME_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        to[feature * kTo + first + i * kWarps] = x[i];
        largest = larger_size(largest, x[i]);
      }
    }
    return largest;
  }

  // What stage wrote, each by the thread that did: x becomes e^{2x}, but for features that are none: these stay 0.
  template <int kTo>
  static HIPPODROME_KERNEL void raise(int thread, int steps, int count, S* at) {
    const int feature = thread % 32;
    if (feature >= steps) return;
    for (int first = thread / 32; first < count; first += kAhead * kWarps) {
      HIPPODROME_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        S& x = at[feature * kTo + first + i * kWarps];
        x = exponential(x);
      }
    }
  }

  // Of what `raise` left, or of products: two features at a time, the second of which may be 0.
  template <int kUsed, bool kScores>
  HIPPODROME_KERNEL void add(int thread, int steps, Sums& sums) const {
    const int lane = thread % 32, first = thread / 32 * 4;
    for (int h = 0; h < steps; h += 2) {
      S a[4], a2[4];
      read(rows + h * kStride + first, a);
      read(rows + (h + 1) * kStride + first, a2);
      const S of_1 = kScores ? v[h] : S(0), of_2 = kScores ? v[h + 1] : S(0);
      const S both = of_1 + of_2, twice_1 = S(2) * of_1, twice_2 = S(2) * of_2;
      HIPPODROME_UNROLL
      for (int j = 0; j < kUsed; ++j) {
        const S* const column = columns + h * kColumnStride + lane + 32 * j;
        const S b = column[0], b2 = column[kColumnStride];
        HIPPODROME_UNROLL
        for (int i = 0; i < 4; ++i) {
          if constexpr (kScores) {
            const S x = S(1) + a[i] * b, x2 = S(1) + a2[i] * b2, product = x * x2;
            const S over = both * product - (twice_1 * x2 + twice_2 * x);
            sums.at[j][i] += over * cuda::reciprocal_of(product);
          } else {
            sums.at[j][i] += a[i] * b;
            sums.at[j][i] += a2[i] * b2;
          }
        }
      }
    }
  }

  // Of what `stage` left.
  HIPPODROME_KERNEL void add_tanh(int thread, int steps, Sums& sums) const {
    const int lane = thread % 32, first = thread / 32 * 4;
    for (int h = 0; h < steps; ++h) {
      S a[4];
      read(rows + h * kStride + first, a);
      const S factor = v[h];
      HIPPODROME_UNROLL
      for (int j = 0; j < kGroups; ++j) {
        const S b = columns[h * kColumnStride + lane + 32 * j];
        HIPPODROME_UNROLL
        for (int i = 0; i < 4; ++i) sums.at[j][i] += factor * cuda::tanh_of(a[i] + b);
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
template <class Tile, class T = typename Tile::T, class S = typename Tile::S>
HIPPODROME_KERNEL void add_products(int thread, const Tile& tile, const T* from, int64_t width, int row_count,
                                    int column_count, const S* scale, const S* last, S* to) {
  for (int64_t m = thread; m < width; m += Tile::kThreads) {
    S sums[Tile::kRows];
    HIPPODROME_UNROLL
    for (int r = 0; r < Tile::kRows; ++r) sums[r] = S(0);
    const T* next = from + m;
    for (int first = 0; first < column_count; first += Tile::kTogether) {
      S x[Tile::kTogether];
      HIPPODROME_UNROLL
      for (int i = 0; i < Tile::kTogether; ++i) {
        x[i] = tile.column_visible[first + i] != 0 ? cuda::load(*next) : S(0);
        next += width;
      }
      HIPPODROME_UNROLL
      for (int i = 0; i < Tile::kTogether; ++i) {
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

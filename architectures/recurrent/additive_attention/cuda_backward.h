// Additive attention on the GPU: backward, in two launches that recompute the weights from the logarithms of their
// sums. The first stands for queries and walks over keys: ∂q, and ∂v as one partial sum a block. The second stands for
// keys and walks over queries: ∂k and ∂value. So nobody adds to what another block adds to. Each takes half a special
// function per pair and feature for the score and half a one for the slope; keeping the scores would save one of the
// four halves, for memory that grows with the product of both lengths.
#pragma once

#include "architectures/recurrent/additive_attention/cuda.h"
#include "architectures/recurrent/additive_attention/cuda_tile.h"

namespace hippodrome::additive_cuda {

// Of one thread, for its features: grad[row] += v Σ_column weights[column][row] (1 - t²), t = tanh(row + column), and,
// unless it is null, grad_v += Σ weights t. rows, grad [rows, size], columns [columns, size], v, grad_v [size].
template <bool kWithV, class Tile, class T = typename Tile::T, class S = typename Tile::S>
HIPPODROME_KERNEL void add_slopes(int thread, const Tile& tile, const S* weights, const T* rows, const T* columns,
                                  const T* v, int64_t size, int row_count, int column_count, S* grad, S* grad_v) {
  constexpr int kRows = Tile::kRows, kAhead = kRows == 1 ? Tile::kTogether : 1;
  for (int64_t h = thread; h < size; h += Tile::kThreads) {
    const auto row = [&](int r) {
      return r < row_count && tile.row_visible[r] != 0 ? cuda::load(rows[r * size + h]) : S(0);
    };
    S raised[kRows], sums[kRows];
    S extent(0), of_v(0);
    HIPPODROME_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const S a = row(r);
      extent = larger_size(extent, a);
      raised[r] = exponential(a);
      sums[r] = S(0);
    }
    const T* next = columns + h;
    for (int first = 0; first < column_count; first += kAhead) {
      S b[kAhead];
      HIPPODROME_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        b[i] = tile.column_visible[first + i] != 0 ? cuda::load(*next) : S(0);
        next += size;
      }
      HIPPODROME_UNROLL
      for (int i = 0; i < kAhead; ++i) {
        S weight[kRows];
        read(weights + (first + i) * Tile::kStride, weight);
        const S most = extent + cuda::absolute_of(b[i]);
        // A lone row shares its column's exponential with none.
        if (kRows == 1 || too_large(most) || (kWithV && too_small(most))) {
          HIPPODROME_UNROLL
          for (int r = 0; r < kRows; ++r) {
            const S t = cuda::tanh_of(row(r) + b[i]);
            sums[r] += weight[r] * (S(0.25) - S(0.25) * t * t);
            if (kWithV) of_v += weight[r] * t;
          }
        } else if constexpr (kRows > 1) {
          const S other = exponential(b[i]);
          HIPPODROME_UNROLL
          for (int r = 0; r < kRows; r += 2) {
            S x[2];
            reciprocals(S(1) + raised[r] * other, S(1) + raised[r + 1] * other, x[0], x[1]);
            HIPPODROME_UNROLL
            for (int n = 0; n < 2; ++n) {
              sums[r + n] += weight[r + n] * (x[n] - x[n] * x[n]);
              if (kWithV) of_v += weight[r + n] * (S(1) - S(2) * x[n]);
            }
          }
        }
      }
    }
    const S factor = S(4) * cuda::load(v[h]);
    HIPPODROME_UNROLL
    for (int r = 0; r < kRows; ++r) {
      if (r < row_count) grad[r * size + h] += factor * sums[r];
    }
    if (kWithV && grad_v != nullptr) grad_v[h] += of_v;
  }
}

template <class Tile, bool kByKeys>
struct Differentiate {
  using T = typename Tile::T;
  using S = typename Tile::S;
  static constexpr int kThreads = Tile::kThreads;

  static HIPPODROME_HOST_DEVICE int64_t rows(const Backward& p) { return kByKeys ? p.in.keys : p.in.queries; }
  static HIPPODROME_HOST_DEVICE int64_t columns(const Backward& p) { return kByKeys ? p.in.queries : p.in.keys; }
  static HIPPODROME_HOST_DEVICE int64_t splits(const Backward& p) { return kByKeys ? p.query_splits : p.key_splits; }
  static int64_t blocks(const Backward& p) { return p.in.batch * cuda::ceil_div(rows(p), Tile::kRows) * splits(p); }
  static int64_t shared_bytes(const Backward&) {
    return Tile::shared_bytes() + (kByKeys ? cuda::shared_size<S>(Tile::kColumns * Tile::kStride) : 0);
  }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Backward& p) {
    const Inputs& in = p.in;
    const Tile tile(block);
    // ∂e. Without need of the weights afterwards it takes their place.
    S* const gradients = kByKeys ? block.template shared<S>(Tile::kColumns * Tile::kStride) : tile.weights;
    const Place at = place(block.index(), rows(p), Tile::kRows, columns(p), Tile::kColumns, splits(p));
    const int64_t first = at.batch * rows(p) + at.first;
    const T* const q = static_cast<const T*>(in.q);
    const T* const k = static_cast<const T*>(in.k);
    const T* const v = static_cast<const T*>(in.v);
    const T* const values = static_cast<const T*>(in.values);
    const T* const grad_context = static_cast<const T*>(p.grad_context);
    const T* const features = (kByKeys ? k : q) + first * in.size;
    const T* const wide = (kByKeys ? values : grad_context) + first * in.width;
    const int64_t part = at.split * in.batch * rows(p) + first;
    S* const grad = static_cast<S*>(kByKeys ? p.grad_k : p.grad_q) + part * in.size;

    const int row_count = tile.template show<Tile::kRows>(
        block, kByKeys && in.positions != nullptr ? in.positions + first : nullptr, at.rows, tile.row_visible);
    if (row_count == 0) return;
    for (int64_t begin = at.begin; begin < at.end; begin += Tile::kColumns) {
      const int there = static_cast<int>(at.end - begin < Tile::kColumns ? at.end - begin : Tile::kColumns);
      const int64_t from = at.batch * columns(p) + begin;
      const int column_count = tile.template show<Tile::kColumns>(
          block, !kByKeys && in.positions != nullptr ? in.positions + from : nullptr, there, tile.column_visible);
      if (column_count == 0) continue;
      const T* const others = (kByKeys ? q : k) + from * in.size;
      const T* const other_wide = (kByKeys ? grad_context : values) + from * in.width;
      const auto of_query = [&](const void* numbers, int row, int column) {
        return static_cast<const S*>(numbers)[kByKeys ? from + column : first + row];
      };
      tile.template sum_pairs<true>(block, features, others, v, in.size, row_count, column_count,
                                    [&](int row, int column, S sum, bool visible) {
                                      tile.weights[column * Tile::kStride + row] =
                                          visible ? cuda::exp_of(sum - of_query(p.lse, row, column)) : S(0);
                                    });
      tile.template sum_pairs<false>(block, wide, other_wide, nullptr, in.width, row_count, column_count,
                                     [&](int row, int column, S sum, bool visible) {
                                       const int i = column * Tile::kStride + row;
                                       gradients[i] =
                                           visible ? tile.weights[i] * (sum - of_query(p.common, row, column)) : S(0);
                                     });
      block.each([&](int thread) {
        if constexpr (kByKeys) {
          S* const to = static_cast<S*>(p.grad_values) + part * in.width;
          add_products(thread, tile, other_wide, in.width, row_count, column_count, static_cast<const S*>(nullptr),
                       static_cast<const S*>(nullptr), to);
          add_slopes<false>(thread, tile, gradients, features, others, v, in.size, row_count, column_count, grad,
                            static_cast<S*>(nullptr));
        } else {
          add_slopes<true>(thread, tile, gradients, features, others, v, in.size, row_count, column_count, grad,
                           p.grad_v == nullptr ? nullptr : static_cast<S*>(p.grad_v) + block.index() * in.size);
        }
      });
    }
  }
};

template <class Launcher>
const char* run_additive_attention_backward(const Backward& p, const Launcher& launcher) {
  return cuda::with_element(p.in.element, [&](auto tag) -> const char* {
    using T = typename decltype(tag)::Type;
    const bool few = query_rows(p.in.queries) == 1;
    const char* const error = few ? launcher.template run<Differentiate<LoneQuery<T>, false>>(p)
                                  : launcher.template run<Differentiate<ManyPairs<T>, false>>(p);
    if (error != nullptr || (p.grad_k == nullptr && p.grad_values == nullptr)) return error;
    return few ? launcher.template run<Differentiate<FewQueries<T>, true>>(p)
               : launcher.template run<Differentiate<ManyPairs<T>, true>>(p);
  });
}

}  // namespace hippodrome::additive_cuda

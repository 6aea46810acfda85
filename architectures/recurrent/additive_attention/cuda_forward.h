// Additive attention on the GPU: the forward kernels. A block holds the scores of 16 queries (of one, where there are
// few) with 128 keys at a time and keeps the softmax's running maximum and sum; contexts are sums in global memory,
// read and written once for 128 keys, so that no width is compiled in. Where rows are few, keys are split over blocks
// and a second launch joins the parts.
#pragma once

#include "architectures/recurrent/additive_attention/cuda.h"
#include "architectures/recurrent/additive_attention/cuda_tile.h"

namespace hippodrome::additive_cuda {

// Less than any score.
template <class S>
HIPPODROME_HOST_DEVICE constexpr S lowest() {
  return S(-3.0e38);
}

// 0 without a key.
template <class S>
HIPPODROME_HOST_DEVICE S log_of_sum(S maximum, S total) {
  return total == S(0) ? S(0) : maximum + cuda::log1p_of(total - S(1));
}

template <class Tile>
struct Attend {
  using T = typename Tile::T;
  using S = typename Tile::S;
  static constexpr int kThreads = Tile::kThreads;
  // Threads that share a query's softmax.
  static constexpr int kSharing = kThreads / Tile::kRows < 32 ? kThreads / Tile::kRows : 32;

  static int64_t blocks(const Forward& p) { return p.in.batch * cuda::ceil_div(p.in.queries, Tile::kRows) * p.splits; }
  static int64_t shared_bytes(const Forward&) { return Tile::shared_bytes() + 2 * cuda::shared_size<S>(Tile::kRows); }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Forward& p) {
    using cuda::exp_of;
    const Inputs& in = p.in;
    const Tile tile(block);
    S* const scale = block.template shared<S>(Tile::kRows);
    S* const last = block.template shared<S>(Tile::kRows);
    const Place at = place(block.index(), in.queries, Tile::kRows, in.keys, Tile::kColumns, p.splits);
    const int64_t query = at.batch * in.queries + at.first, part = at.split * in.batch * in.queries + query;
    const T* const q = static_cast<const T*>(in.q) + query * in.size;
    const T* const k = static_cast<const T*>(in.k) + at.batch * in.keys * in.size;
    const T* const values = static_cast<const T*>(in.values) + at.batch * in.keys * in.width;
    const int64_t* const positions = in.positions == nullptr ? nullptr : in.positions + at.batch * in.keys;
    S* const partial = static_cast<S*>(p.partial) + part * in.width;

    typename Block::template PerThread<S> maximum, total;
    block.alone([&](int thread) { maximum[thread] = lowest<S>(), total[thread] = S(0); });
    tile.template show<Tile::kRows>(block, nullptr, at.rows, tile.row_visible);
    for (int64_t begin = at.begin; begin < at.end; begin += Tile::kColumns) {
      const int there = static_cast<int>(at.end - begin < Tile::kColumns ? at.end - begin : Tile::kColumns);
      const int columns = tile.template show<Tile::kColumns>(block, positions == nullptr ? nullptr : positions + begin,
                                                             there, tile.column_visible);
      if (columns > 0) {
        tile.template sum_pairs<true>(
            block, q, k + begin * in.size, static_cast<const T*>(in.v), in.size, at.rows, columns,
            [&](int row, int column, S sum, bool) { tile.weights[column * Tile::kStride + row] = sum; });
      }
      typename Block::template PerThread<S> largest, sum;
      block.alone([&](int thread) {
        const int row = thread / kSharing;
        S result = maximum[thread];
        for (int c = thread % kSharing; c < Tile::kColumns && row < at.rows; c += kSharing) {
          if (tile.column_visible[c] != 0) result = cuda::larger(result, tile.weights[c * Tile::kStride + row]);
        }
        largest[thread] = result;
      });
      block.template max_over_lanes<kSharing>(largest);
      block.alone([&](int thread) {
        const int row = thread / kSharing;
        sum[thread] = S(0);
        for (int c = thread % kSharing; c < Tile::kColumns && row < Tile::kRows; c += kSharing) {
          S& weight = tile.weights[c * Tile::kStride + row];
          weight = row < at.rows && tile.column_visible[c] != 0 ? exp_of(weight - largest[thread]) : S(0);
          sum[thread] += weight;
        }
      });
      block.template sum_over_lanes<kSharing>(sum);
      const bool normalise = p.splits == 1 && begin + Tile::kColumns >= at.end;
      block.each([&](int thread) {
        const S fading = exp_of(maximum[thread] - largest[thread]);
        maximum[thread] = largest[thread];
        total[thread] = total[thread] * fading + sum[thread];
        const int row = thread / kSharing;
        if (row >= Tile::kRows || thread % kSharing != 0) return;
        scale[row] = fading;
        last[row] = normalise && total[thread] != S(0) ? S(1) / total[thread] : S(1);
      });
      block.each([&](int thread) {
        add_products(thread, tile, values + begin * in.width, in.width, at.rows, columns, scale, last, partial);
      });
    }
    block.alone([&](int thread) {
      const int row = thread / kSharing;
      if (row >= at.rows || thread % kSharing != 0) return;
      if (p.splits > 1) {
        static_cast<S*>(p.maximum)[part + row] = maximum[thread];
        static_cast<S*>(p.total)[part + row] = total[thread];
      } else {
        static_cast<S*>(p.lse)[query + row] = log_of_sum(maximum[thread], total[thread]);
      }
    });
  }
};

// The parts of one query, joined: 32 numbers of its context a block, whose warps share the parts. A lone query has few
// numbers and many parts.
template <class S>
struct Join {
  static constexpr int kWidth = 32, kWarps = 4, kThreads = kWidth * kWarps;
  static HIPPODROME_HOST_DEVICE int64_t pieces(const Forward& p) {
    return p.in.width > kWidth ? cuda::ceil_div(p.in.width, kWidth) : 1;
  }
  static int64_t blocks(const Forward& p) { return p.in.batch * p.in.queries * pieces(p); }
  static int64_t shared_bytes(const Forward& p) {
    return cuda::shared_size<S>(p.splits) + cuda::shared_size<S>(kThreads);
  }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Forward& p) {
    S* const factors = block.template shared<S>(p.splits);
    S* const sums = block.template shared<S>(kThreads);
    const int64_t query = block.index() / pieces(p), first = block.index() % pieces(p) * kWidth;
    const int64_t queries = p.in.batch * p.in.queries, width = p.in.width;
    const S* const maximum = static_cast<const S*>(p.maximum) + query;
    const S* const totals = static_cast<const S*>(p.total) + query;
    typename Block::template PerThread<S> largest, total;  // the same in every warp
    block.alone([&](int thread) {
      S most = lowest<S>();
      for (int64_t i = thread % 32; i < p.splits; i += 32) most = cuda::larger(most, maximum[i * queries]);
      largest[thread] = most;
    });
    block.template max_over_lanes<32>(largest);
    block.alone([&](int thread) {
      S all(0);
      for (int64_t i = thread % 32; i < p.splits; i += 32) {
        all += totals[i * queries] * cuda::exp_of(maximum[i * queries] - largest[thread]);
      }
      total[thread] = all;
    });
    block.template sum_over_lanes<32>(total);
    block.each([&](int thread) {
      for (int64_t i = thread; i < p.splits; i += kThreads) {
        const S all = total[thread];
        factors[i] = all == S(0) ? S(0) : cuda::exp_of(maximum[i * queries] - largest[thread]) / all;
      }
    });
    block.each([&](int thread) {
      const int64_t m = first + thread % kWidth;
      const S* const partial = static_cast<const S*>(p.partial) + query * width + m;
      S sum(0);
      for (int64_t i = thread / kWidth; i < p.splits && m < width; i += kWarps) {
        sum += factors[i] * partial[i * queries * width];
      }
      sums[thread] = sum;
    });
    block.alone([&](int thread) {
      if (thread < kWidth && first + thread < width) {
        S sum(0);
        HIPPODROME_UNROLL
        for (int i = 0; i < kWarps; ++i) sum += sums[i * kWidth + thread];
        static_cast<S*>(p.context)[query * width + first + thread] = sum;
      }
      if (thread == 0 && first == 0) static_cast<S*>(p.lse)[query] = log_of_sum(largest[0], total[0]);
    });
  }
};

// The scores of 16 queries with 128 keys, where their weights will stand.
template <class Tile>
struct Score {
  using T = typename Tile::T;
  using S = typename Tile::S;
  static constexpr int kThreads = Tile::kThreads;
  static int64_t tiles(const Weights& p) { return cuda::ceil_div(p.in.keys, Tile::kColumns); }
  static int64_t blocks(const Weights& p) { return p.in.batch * cuda::ceil_div(p.in.queries, Tile::kRows) * tiles(p); }
  static int64_t shared_bytes(const Weights&) { return Tile::shared_bytes(); }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Weights& p) {
    const Inputs& in = p.in;
    const Tile tile(block);
    const Place at =
        place(block.index(), in.queries, Tile::kRows, in.keys, Tile::kColumns, cuda::ceil_div(in.keys, Tile::kColumns));
    const int64_t query = at.batch * in.queries + at.first, key = at.batch * in.keys + at.begin;
    tile.template show<Tile::kRows>(block, nullptr, at.rows, tile.row_visible);
    const int columns =
        tile.template show<Tile::kColumns>(block, in.positions == nullptr ? nullptr : in.positions + key,
                                           static_cast<int>(at.end - at.begin), tile.column_visible);
    if (columns == 0) return;
    S* const to = static_cast<S*>(p.weights) + query * in.keys + at.begin;
    tile.template sum_pairs<true>(block, static_cast<const T*>(in.q) + query * in.size,
                                  static_cast<const T*>(in.k) + key * in.size, static_cast<const T*>(in.v), in.size,
                                  at.rows, columns, [&](int row, int column, S sum, bool visible) {
                                    if (visible) to[row * in.keys + column] = sum;
                                  });
  }
};

// Softmax of a query's scores in their place, 0 at padding.
template <class S>
struct Softmax {
  static constexpr int kThreads = 128, kWarps = kThreads / 32;
  static int64_t blocks(const Weights& p) { return p.in.batch * p.in.queries; }
  static int64_t shared_bytes(const Weights&) { return 2 * cuda::shared_size<S>(kWarps); }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Weights& p) {
    S* const maxima = block.template shared<S>(kWarps);
    S* const sums = block.template shared<S>(kWarps);
    const int64_t keys = p.in.keys;
    S* const weights = static_cast<S*>(p.weights) + block.index() * keys;
    const int64_t* const positions =
        p.in.positions == nullptr ? nullptr : p.in.positions + block.index() / p.in.queries * keys;
    typename Block::template PerThread<S> largest, sum;
    block.alone([&](int thread) {
      S result = lowest<S>();
      for (int64_t j = thread; j < keys; j += kThreads) {
        if (positions == nullptr || positions[j] >= 0) result = cuda::larger(result, weights[j]);
      }
      largest[thread] = result;
    });
    block.template max_over_lanes<32>(largest);
    block.each([&](int thread) {
      if (thread % 32 == 0) maxima[thread / 32] = largest[thread];
    });
    block.alone([&](int thread) {
      S most = maxima[0], total(0);
      for (int i = 1; i < kWarps; ++i) most = cuda::larger(most, maxima[i]);
      for (int64_t j = thread; j < keys; j += kThreads) {
        const bool visible = positions == nullptr || positions[j] >= 0;
        weights[j] = visible ? cuda::exp_of(weights[j] - most) : S(0);
        total += weights[j];
      }
      sum[thread] = total;
    });
    block.template sum_over_lanes<32>(sum);
    block.each([&](int thread) {
      if (thread % 32 == 0) sums[thread / 32] = sum[thread];
    });
    block.alone([&](int thread) {
      S total(0);
      for (int i = 0; i < kWarps; ++i) total += sums[i];
      for (int64_t j = thread; j < keys; j += kThreads) weights[j] = total == S(0) ? S(0) : weights[j] / total;
    });
  }
};

template <class Launcher>
const char* run_additive_attention_forward(const Forward& p, const Launcher& launcher) {
  return cuda::with_element(p.in.element, [&](auto tag) -> const char* {
    using T = typename decltype(tag)::Type;
    const char* const error = query_rows(p.in.queries) == 1 ? launcher.template run<Attend<LoneQuery<T>>>(p)
                                                            : launcher.template run<Attend<ManyPairs<T>>>(p);
    if (error != nullptr || p.splits == 1) return error;
    return launcher.template run<Join<cuda::ScalarOf<T>>>(p);
  });
}

template <class Launcher>
const char* run_additive_attention_weights(const Weights& p, const Launcher& launcher) {
  return cuda::with_element(p.in.element, [&](auto tag) -> const char* {
    using T = typename decltype(tag)::Type;
    const char* const error = launcher.template run<Score<ManyPairs<T>>>(p);
    if (error != nullptr) return error;
    return launcher.template run<Softmax<cuda::ScalarOf<T>>>(p);
  });
}

}  // namespace hippodrome::additive_cuda

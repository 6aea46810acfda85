// Four of the five results of SSD have one form (op.h). With a tile of rows i and the steps j of its unit,
//
//   result_i = sum_j (query_i . key_j) w_ij value_j + edge_i state query_i
//
//               query  key  value  j       w_ij                     edge                state
//   y            C     B    x      <= i    exp(s_i - s_j) dt_j      exp(s_i)            before the unit
//   dX           B     C    dy     >= i    exp(s_j - s_i)           exp(s_Q - s_i)      gradient of that behind it
//   dC           dy    x    B      <= i    exp(s_i - s_j) dt_j      exp(s_i)            before the unit
//   dB           x     dy   C      >= i    exp(s_j - s_i) dt_i      exp(s_Q - s_i) dt_i gradient of that behind it
//
// so that they share a kernel: scores in tiles of (rows, steps), masked and weighed, times values. Inputs go to the
// tensor cores as they are; what is rounded to their type is the weighed score, edge_i query_i and the state; in
// float16 these must stay below 65504.
#pragma once

#include "architectures/ssm/ssd/cuda_place.h"
#include "architectures/ssm/ssd/cuda_steps.h"
#include "architectures/ssm/ssd/cuda_tiles.h"

namespace hippodrome::ssd_kernel::gpu {

enum class Result {
  kOutput,         // y, with skip and gate
  kOutputAgain,    // backward: y without them, for dz, and the sums dy_i . (exp(s_i) h_0 C_i) and dy_i . x_i
  kInputGradient,  // dx, and sums for ddt
  kCGradient,      // partial dC, over the heads of a block
  kBGradient
};

template <class T, int kSide, Result kResult>
struct MaskedProduct {
  static constexpr bool kBackward = kResult != Result::kOutput;
  static constexpr bool kOverChannels = kResult == Result::kCGradient || kResult == Result::kBGradient;
  // Whether the steps of the sum are the rows' own and later ones.
  static constexpr bool kLater = kResult == Result::kInputGradient || kResult == Result::kBGradient;
  static constexpr bool kOneHead = !kOverChannels;

  using S = ScalarOf<T>;
  using Params = std::conditional_t<kBackward, CudaGradients, CudaParams>;
  using Tile = cuda::TileProduct<T, kSide>;
  static constexpr int kThreads = Tile::kThreads;
  // Scores are weighed in place where they are as wide as the elements.
  static constexpr bool kInPlace = std::is_same<T, S>::value;

  static HIPPODROME_HOST_DEVICE int64_t width(const CudaParams& p) { return kOverChannels ? p.states : p.head_size; }
  static int64_t blocks(const Params& params) {
    const CudaParams& p = inputs_of(params);
    return p.batch * units_of(p).count * tiles_of(units_of(p), kSide) * head_blocks_of(p, kOneHead) *
           ceil_div(width(p), kSide);
  }
  static int64_t shared_bytes(const Params&) {
    return (kInPlace ? 2 : 3) * cuda::shared_size<T>(Tile::kTileSize) +
           (kResult == Result::kInputGradient ? 2 : 1) * cuda::shared_size<S>(Tile::kSumTileSize) +
           2 * cuda::shared_size<StepTile<S, kSide>>(1) + 2 * cuda::shared_size<S>(kSide);
  }

  // What the rows, the steps and the state are for head h.
  struct Operands {
    Rows<T> query, key, value, x, dy;
    const S* state;  // [N, P]
  };
  static HIPPODROME_HOST_DEVICE Operands operands_of(const Params& params, const Place& place, int64_t h) {
    const CudaParams& p = inputs_of(params);
    const Rows<T> B = rows_of<T>(p.B, place.b, place.group, p.states),
                  C = rows_of<T>(p.C, place.b, place.group, p.states), x = rows_of<T>(p.x, place.b, h, p.head_size);
    const int64_t at = unit_index(p, units_of(p), place.b, place.unit, h) * p.states * p.head_size;
    const S* const state = static_cast<const S*>(p.unit_states) + at;
    if constexpr (kResult == Result::kOutput) {
      return {C, B, x, x, {}, state};
    } else {
      const S* const gradient = static_cast<const S*>(params.unit_states) + at;
      const Rows<T> dy = rows_of<T>(output_gradient(params), place.b, h, p.head_size);
      switch (kResult) {
        case Result::kInputGradient:
          return {B, C, dy, x, dy, gradient};
        case Result::kCGradient:
          return {dy, x, B, x, dy, state};
        case Result::kBGradient:
          return {x, dy, C, x, dy, gradient};
        default:
          return {C, B, x, x, dy, state};
      }
    }
  }

  // The block's shared memory.
  struct Memory {
    T *left, *right, *weights;
    S *scores, *other;  // `other`: dy_j . x_i beside the scores, for the sums
    StepTile<S, kSide>*rows, *steps;
    S *column_sum, *column_time;
  };
  template <class Block>
  static HIPPODROME_KERNEL Memory memory_of(Block& block) {
    Memory m{};
    m.left = block.template shared<T>(Tile::kTileSize);
    m.right = block.template shared<T>(Tile::kTileSize);
    if constexpr (!kInPlace) m.weights = block.template shared<T>(Tile::kTileSize);
    m.scores = block.template shared<S>(Tile::kSumTileSize);
    if constexpr (kInPlace) m.weights = m.scores;
    if constexpr (kResult == Result::kInputGradient) m.other = block.template shared<S>(Tile::kSumTileSize);
    m.rows = block.template shared<StepTile<S, kSide>>(1);
    m.steps = block.template shared<StepTile<S, kSide>>(1);
    m.column_sum = block.template shared<S>(kSide);
    m.column_time = block.template shared<S>(kSide);
    return m;
  }

  template <class Block>
  using Sums = typename Block::template PerThread<typename Tile::Sums>;

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Params& params) {
    const CudaParams& p = inputs_of(params);
    const Place place = place_of(p, block.index(), kSide, width(p), kOneHead);
    if (place.begin >= place.end) return;  // the last unit of a chunk may have fewer tiles
    const Memory m = memory_of(block);
    Sums<Block> sums;
    block.alone([&](int thread) {
      Tile::clear(sums[thread]);
      for (int i = thread; i < kSide; i += kThreads) m.column_sum[i] = m.column_time[i] = S(0);
    });
    for (int k = 0; k < place.heads; ++k) {
      const int64_t h = place.first_head + k;
      const Operands o = operands_of(params, place, h);
      add_state(block, p, place, h, o, m, sums);
      if constexpr (kResult == Result::kOutputAgain) sum_from_state(block, params, place, h, o, m, sums);
      if constexpr (kResult == Result::kInputGradient) sum_to_state(block, params, place, h, o, m, sums);
      if (kResult == Result::kOutputAgain && p.z.data == nullptr) return;
      // Steps in the order of time, so that sums have one order whatever the tile.
      const int64_t unit_begin = place.begin - int64_t{kSide} * place.tile;
      const int64_t from = kLater ? place.begin : unit_begin, to = kLater ? place.end : place.begin + 1;
      for (int64_t begin = from; begin < to; begin += kSide) add_steps(block, params, place, h, begin, o, m, sums);
    }
    block.each([&](int thread) { Tile::store_sums(thread, sums[thread], m.scores); });
    if constexpr (kResult == Result::kInputGradient) {
      write_input_gradient(block, params, place, m);
    } else {
      block.alone([&](int thread) { write(thread, params, place, m); });
    }
  }

  // sums += edge_i state query_i
  template <class Block>
  static HIPPODROME_KERNEL void add_state(Block& block, const CudaParams& p, const Place& place, int64_t h,
                                          const Operands& o, const Memory& m, Sums<Block>& sums) {
    block.each([&](int thread) {
      load_steps<S, kSide>(thread, kThreads, p, place.b, h, place.begin, place.end, kLater ? kDecayOut : kDecayIn,
                           *m.rows);
      // The thread that loads a step's facts weighs them.
      for (int i = thread; i < kSide && kResult == Result::kBGradient; i += kThreads)
        m.rows->edge[i] *= m.rows->size[i];
    });
    for (int k = 0; k < o.query.width; k += kSide) {
      block.each([&](int thread) {
        load_rows<T, kSide>(thread, o.query, place.begin, k, m.rows->sequence, m.rows->edge, m.left);
        load_state<T, kSide>(thread, o.state, p, kOverChannels ? place.column : k, kOverChannels ? k : place.column,
                             m.right);
      });
      block.each([&](int thread) {
        constexpr cuda::Stored kState = kOverChannels ? cuda::Stored::kByColumn : cuda::Stored::kByRow;
        Tile::template add<cuda::Stored::kByRow, kState>(thread, m.left, m.right, sums[thread]);
      });
    }
  }

  // scores = rows . steps over their common width
  template <class Block>
  static HIPPODROME_KERNEL void score(Block& block, const Place& place, int64_t begin, const Rows<T>& rows,
                                      const Rows<T>& steps, const Memory& m, S* scores) {
    Sums<Block> sums;
    block.alone([&](int thread) { Tile::clear(sums[thread]); });
    for (int k = 0; k < rows.width; k += kSide) {
      block.each([&](int thread) {
        load_rows<T, kSide>(thread, rows, place.begin, k, m.rows->sequence, nullptr, m.left);
        load_rows<T, kSide>(thread, steps, begin, k, m.steps->sequence, nullptr, m.right);
      });
      block.each([&](int thread) {
        Tile::template add<cuda::Stored::kByRow, cuda::Stored::kByColumn>(thread, m.left, m.right, sums[thread]);
      });
    }
    block.each([&](int thread) { Tile::store_sums(thread, sums[thread], scores); });
  }

  // sums += (query_i . key_j) w_ij value_j over the steps of the tile that begins at `begin`
  template <class Block>
  static HIPPODROME_KERNEL void add_steps(Block& block, const Params& params, const Place& place, int64_t h,
                                          int64_t begin, const Operands& o, const Memory& m, Sums<Block>& sums) {
    const CudaParams& p = inputs_of(params);
    block.each([&](int thread) {
      load_steps<S, kSide>(thread, kThreads, p, place.b, h, begin, place.end, kDecayIn, *m.steps);
    });
    score(block, place, begin, o.query, o.key, m, m.scores);
    const bool with_sums = kResult == Result::kInputGradient && place.column == 0;
    if constexpr (kResult == Result::kInputGradient) {
      if (with_sums) score(block, place, begin, o.x, o.dy, m, m.other);
    }
    const S A = static_cast<const S*>(p.A)[h] * S(cuda::kLog2E);
    const int tiles_apart = static_cast<int>(kLater ? begin - place.begin : place.begin - begin);
    block.each([&](int thread) {
      // A thread has one step j, whose facts it reads once.
      static_assert(kThreads % kSide == 0, "a thread has one step");
      const StepTile<S, kSide>&rows = *m.rows, &steps = *m.steps;
      const int j = thread % kSide;
      const S high = steps.high[j], low = steps.low[j], size = steps.size[j];
      const int32_t sequence = steps.sequence[j];
      for (int i = thread / kSide; i < kSide; i += kThreads / kSide) {
        const int apart = tiles_apart + (kLater ? j - i : i - j);
        const bool counts = apart >= 0 && sequence >= 0 && rows.sequence[i] == sequence;
        // StepTile::since. Masked before the exponential, which may overflow elsewhere.
        const S between =
            kLater ? (high - rows.high[i]) + (low - rows.low[i]) : (rows.high[i] - high) + (rows.low[i] - low);
        const S time = counts ? between : S(0);
        S weighed = counts ? m.scores[i * Tile::kSumRow + j] * cuda::exp2_of(A * time) : S(0);
        if constexpr (kResult == Result::kInputGradient) {
          if (with_sums) {
            S& other = m.other[i * Tile::kSumRow + j];
            other = apart > 0 ? other * weighed * rows.size[i] : S(0);
          }
        } else {
          weighed *= kLater ? rows.size[i] : size;
        }
        cuda::store(weighed, &m.weights[i * Tile::kRow + j]);
      }
      load_rows<T, kSide>(thread, o.value, begin, place.column, m.steps->sequence, nullptr, m.right);
    });
    block.each([&](int thread) {
      if constexpr (kResult == Result::kInputGradient) {
        if (with_sums) sum_products(thread, params, place, h, begin, m);
      }
      Tile::template add<cuda::Stored::kByRow, cuda::Stored::kByRow>(thread, m.weights, m.right, sums[thread]);
    });
  }

  static HIPPODROME_HOST_DEVICE S* step_sums(const CudaGradients& params, int64_t row, int64_t b, int64_t h) {
    return static_cast<S*>(params.step_sums) + step_index(params.in, row, b, h, 0);
  }
  static HIPPODROME_HOST_DEVICE StepSums rows_of_step_sums(const CudaParams& p) {
    return step_sums_of(p.head_size, units_of(p));
  }

  // S o dS by its earlier step (the rows here), also weighed by time, and by its later step.
  static HIPPODROME_HOST_DEVICE void sum_products(int thread, const CudaGradients& params, const Place& place,
                                                  int64_t h, int64_t begin, const Memory& m) {
    for (int at = thread; at < 2 * kSide; at += kThreads) {
      const int i = at % kSide;
      S sum(0), by_time(0);
      if (at < kSide) {
        for (int k = 0; k < kSide; ++k) {
          const int j = (i + k) % kSide;  // as dot_row
          const S product = m.other[i * Tile::kSumRow + j];
          sum += product;
          by_time += product * m.steps->since(j, *m.rows, i);
        }
        m.column_sum[i] += sum;
        m.column_time[i] += by_time;
      } else if (begin + i < place.end) {
        for (int j = 0; j < kSide; ++j) sum += m.other[j * Tile::kSumRow + i];
        step_sums(params, rows_of_step_sums(params.in).row(place.tile), place.b, h)[begin + i] = sum;
      }
    }
  }

  // Calls write(i, sum_c sums[i][c] elements[i][c]) for the tile's steps i.
  template <class F>
  static HIPPODROME_HOST_DEVICE void dot_rows(int thread, const Place& place, const S* sums, const T* elements,
                                              const F& write) {
    for (int i = thread; i < kSide && place.begin + i < place.end; i += kThreads)
      write(i, dot_row<T, kSide>(i, sums + i * Tile::kSumRow, elements + i * Tile::kRow));
  }

  // dX_i through the state behind the unit times X_i.
  template <class Block>
  static HIPPODROME_KERNEL void sum_to_state(Block& block, const CudaGradients& params, const Place& place, int64_t h,
                                             const Operands& o, const Memory& m, Sums<Block>& sums) {
    block.each([&](int thread) {
      Tile::store_sums(thread, sums[thread], m.scores);
      load_rows<T, kSide>(thread, o.x, place.begin, place.column, m.rows->sequence, nullptr, m.right);
    });
    S* const to =
        step_sums(params, rows_of_step_sums(params.in).to_state(place.column / kSide), place.b, h) + place.begin;
    block.each([&](int thread) {
      dot_rows(thread, place, m.scores, m.right, [&](int i, S sum) { to[i] = sum * m.rows->size[i]; });
    });
  }

  // The gradient before the gate, and its products with y's part from the state before the unit and with x.
  template <class Block>
  static HIPPODROME_KERNEL void sum_from_state(Block& block, const CudaGradients& params, const Place& place, int64_t h,
                                               const Operands& o, const Memory& m, Sums<Block>& sums) {
    const CudaParams& p = params.in;
    const bool gate = p.z.data != nullptr;
    const Rows<T> y = rows_of<T>(params.y, place.b, h, p.head_size), z = rows_of<T>(p.z, place.b, h, p.head_size);
    Rows<T> beside = o.x;
    if (gate) beside = z;
    block.each([&](int thread) {
      Tile::store_sums(thread, sums[thread], m.scores);
      load_rows<T, kSide>(thread, y, place.begin, place.column, m.rows->sequence, nullptr, m.right);
      load_rows<T, kSide>(thread, beside, place.begin, place.column, m.rows->sequence, nullptr, m.left);
    });
    if (gate) {
      T* const dy = static_cast<T*>(params.before_gate) + (place.b * p.length * p.heads + h) * p.head_size;
      block.each([&](int thread) {
        for (int at = thread; at < kSide * kSide; at += kThreads) {
          const int i = at / kSide, c = at % kSide;
          T& gradient = m.right[i * Tile::kRow + c];
          cuda::store(cuda::load(gradient) * cuda::silu(cuda::load(m.left[i * Tile::kRow + c])), &gradient);
          const int64_t t = place.begin + i, column = place.column + c;
          if (t < place.end && column < p.head_size) dy[t * p.heads * p.head_size + column] = gradient;
        }
      });
      block.each([&](int thread) {
        load_rows<T, kSide>(thread, o.x, place.begin, place.column, m.rows->sequence, nullptr, m.left);
      });
    }
    const StepSums rows = rows_of_step_sums(p);
    S* const from_state = step_sums(params, rows.from_state(place.column / kSide), place.b, h) + place.begin;
    S* const skip = step_sums(params, rows.skip(place.column / kSide), place.b, h) + place.begin;
    block.each([&](int thread) {
      dot_rows(thread, place, m.scores, m.right, [&](int i, S sum) { from_state[i] = sum; });
      for (int i = thread; i < kSide && place.begin + i < place.end; i += kThreads) {
        S sum(0);
        for (int k = 0; k < kSide; ++k) {
          const int at = i * Tile::kRow + (i + k) % kSide;  // as dot_row
          sum += cuda::load(m.right[at]) * cuda::load(m.left[at]);
        }
        skip[i] = sum;
      }
    });
  }

  // dx = dt dX + D dy, and x . dX.
  template <class Block>
  static HIPPODROME_KERNEL void write_input_gradient(Block& block, const CudaGradients& params, const Place& place,
                                                     const Memory& m) {
    const CudaParams& p = params.in;
    const int64_t h = place.first_head;
    const Operands o = operands_of(params, place, h);
    block.each([&](int thread) {
      load_rows<T, kSide>(thread, o.x, place.begin, place.column, m.rows->sequence, nullptr, m.left);
      load_rows<T, kSide>(thread, o.dy, place.begin, place.column, m.rows->sequence, nullptr, m.right);
    });
    const StepSums rows = rows_of_step_sums(p);
    const S D = p.D != nullptr ? static_cast<const S*>(p.D)[h] : S(0);
    S* const input = step_sums(params, rows.input(place.column / kSide), place.b, h) + place.begin;
    T* const to = static_cast<T*>(params.x) + (place.b * p.length * p.heads + h) * p.head_size;
    block.alone([&](int thread) {
      dot_rows(thread, place, m.scores, m.left, [&](int i, S sum) { input[i] = sum; });
      for (int i = thread; i < kSide && place.column == 0 && place.begin + i < place.end; i += kThreads) {
        step_sums(params, rows.column(), place.b, h)[place.begin + i] = m.column_sum[i];
        step_sums(params, rows.column_time(), place.b, h)[place.begin + i] = m.column_time[i];
      }
      for (int at = thread; at < kSide * kSide; at += kThreads) {
        const int i = at / kSide, c = at % kSide;
        const int64_t t = place.begin + i, column = place.column + c;
        if (t >= place.end || column >= p.head_size) continue;
        cuda::store(m.rows->size[i] * m.scores[i * Tile::kSumRow + c] + D * cuda::load(m.right[i * Tile::kRow + c]),
                    &to[t * p.heads * p.head_size + column]);
      }
    });
  }

  // dz, given y before skip and gate.
  static HIPPODROME_HOST_DEVICE S gate_gradient(const CudaGradients& params, int64_t b, int64_t t, int64_t h, int64_t c,
                                                S y) {
    const CudaParams& p = params.in;
    const auto element = [&](const Strided<const void>& from) {
      return cuda::load(static_cast<const T*>(from.data)[b * from.batch + t * from.time + h * p.head_size + c]);
    };
    if (p.D != nullptr) y += static_cast<const S*>(p.D)[h] * element(p.x);
    return params.y.data != nullptr ? element(params.y) * y * cuda::silu_slope(element(p.z)) : S(0);
  }

  // The other results, which are written element by element.
  static HIPPODROME_HOST_DEVICE void write(int thread, const Params& params, const Place& place, const Memory& m) {
    const CudaParams& p = inputs_of(params);
    const int64_t h = place.first_head, columns = width(p);
    for (int at = thread; at < kSide * kSide; at += kThreads) {
      const int i = at / kSide, c = at % kSide;
      const int64_t t = place.begin + i, column = place.column + c;
      if (t >= place.end || column >= columns) continue;
      S sum = m.scores[i * Tile::kSumRow + c];
      if constexpr (kOverChannels) {
        S* const to = static_cast<S*>(kResult == Result::kCGradient ? params.C : params.B);
        const int64_t row = (place.head_block * p.batch + place.b) * p.length + t;
        to[(row * p.groups + place.group) * p.states + column] = sum;
      } else {
        const int64_t to = ((place.b * p.length + t) * p.heads + h) * p.head_size + column;
        const bool padding = m.rows->sequence[i] < 0;
        if constexpr (kResult == Result::kOutput) {
          const S y = padding ? S(0) : with_skip_and_gate<T>(p, place.b, t, h, column, sum);
          cuda::store(y, &static_cast<T*>(p.y)[to]);
        } else {
          const S dz = padding ? S(0) : gate_gradient(params, place.b, t, h, column, sum);
          cuda::store(dz, &static_cast<T*>(params.z)[to]);
        }
      }
    }
  }
};

}  // namespace hippodrome::ssd_kernel::gpu

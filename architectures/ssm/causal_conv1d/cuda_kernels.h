// The CUDA kernels of causal_conv1d. A thread takes a tile of steps of one channel, or of two neighbouring ones of 16
// bits, and keeps the window over time in registers, so that a warp reads and writes 128 bytes of a row at a time and
// nothing is exchanged between threads. Threads are numbered over channels, then tiles, then batch rows: channel counts
// of any size leave no thread idle. Each of the K-1 steps before a tile is read again by the tile after it.
//
// Steps are tokens of the row's list (token_list.h), padding left out. Limited by memory traffic: kStep rows are loaded
// before the first of them is used.
#pragma once

#include <cstdint>

#include "architectures/ssm/causal_conv1d/cuda.h"
#include "architectures/ssm/token_list.h"
#include "core/cuda/block.h"
#include "core/cuda/element.h"
#include "core/cuda/math.h"

namespace hippodrome::causal_conv1d_cuda {

using namespace cuda;  // NOLINT: these are its kernels

constexpr int kThreads = 128;
constexpr int kStep = 8;              // steps loaded at a time
constexpr int64_t kForwardTile = 32;  // at least the 15 steps that a window reaches back
constexpr int64_t kBackwardTile = kCausalConv1dCudaTile;

HIPPODROME_HOST_DEVICE int64_t tiles(int64_t time, int64_t tile) { return time == 0 ? 1 : ceil_div(time, tile); }

template <class T, int kVector>
struct alignas(kVector * sizeof(T)) Pack {
  T values[kVector];
};

// What a thread works on: channels [c, c + kVector) of row b, the tokens of one tile.
template <int kVector>
struct Item {
  HIPPODROME_HOST_DEVICE Item(int64_t number, int64_t channels, int64_t tile_count) {
    const int64_t lanes = channels / kVector;
    c = number % lanes * kVector;
    tile = number / lanes % tile_count;
    b = number / lanes / tile_count;
  }
  int64_t c, tile, b;
};

template <class T, int kTaps, int kVector>
struct Window {
  using S = ScalarOf<T>;
  // Lags beyond the last of the K <= kTaps taps weigh nothing; `reach` never gets there.
  S weight[kTaps][kVector];  // by lag: the newest input's first
  S bias[kVector];

  HIPPODROME_HOST_DEVICE void load_parameters(const CausalConv1dCudaForward& p, int64_t c) {
    const S* const weights = static_cast<const S*>(p.weight) + c * p.taps;
    HIPPODROME_UNROLL for (int v = 0; v < kVector; ++v) {
      bias[v] = p.bias == nullptr ? S(0) : static_cast<const S*>(p.bias)[c + v];
      HIPPODROME_UNROLL for (int m = 0; m < kTaps; ++m) {
        weight[m][v] = m < p.taps ? weights[v * p.taps + p.taps - 1 - m] : S(0);
      }
    }
  }

  // Input of token i; before the first one the state's. Not behind the last.
  static HIPPODROME_HOST_DEVICE void load_input(const CausalConv1dCudaForward& p, const TokenRow& row, int64_t b,
                                                int64_t c, int64_t i, S (&x)[kVector]) {
    if (i >= 0) {
      load_row(p.x, b, row.place(i), c, x);
      return;
    }
    const bool held = p.initial_state != nullptr && -i < p.taps;
    HIPPODROME_UNROLL for (int v = 0; v < kVector; ++v) {
      x[v] = held ? static_cast<const S*>(p.initial_state)[(b * p.channels + c + v + 1) * (p.taps - 1) + i] : S(0);
    }
  }

  static HIPPODROME_HOST_DEVICE void load_row(const CausalConv1dCudaSequence& from, int64_t b, int64_t t, int64_t c,
                                              S (&x)[kVector]) {
    const T* const at = static_cast<const T*>(from.data) + b * from.batch_stride + t * from.row_stride + c;
    const Pack<T, kVector> pack = *reinterpret_cast<const Pack<T, kVector>*>(at);
    HIPPODROME_UNROLL for (int v = 0; v < kVector; ++v) x[v] = load(pack.values[v]);
  }
  static HIPPODROME_HOST_DEVICE void store_row(const CausalConv1dCudaForward& p, int64_t b, int64_t t, int64_t c,
                                               const S (&x)[kVector], void* to) {
    Pack<T, kVector> pack;
    HIPPODROME_UNROLL for (int v = 0; v < kVector; ++v) store(x[v], &pack.values[v]);
    *reinterpret_cast<Pack<T, kVector>*>(static_cast<T*>(to) + (b * p.time + t) * p.channels + c) = pack;
  }
  // The rows of [B, L, D] that padding among a tile's steps leaves zero.
  static HIPPODROME_HOST_DEVICE void clear_padding(const CausalConv1dCudaForward& p, const Item<kVector>& item,
                                                   int64_t tile, void* to) {
    if (p.tokens.positions == nullptr) return;
    const S zeros[kVector] = {};
    const int64_t first = item.tile * tile, end = first + tile < p.time ? first + tile : p.time;
    for (int64_t t = first; t < end; ++t) {
      if (p.tokens.positions[item.b * p.time + t] < 0) store_row(p, item.b, t, item.c, zeros, to);
    }
  }

  // The sum before the activation of a token whose input is x[newest].
  template <int kRows>
  HIPPODROME_HOST_DEVICE S sum(const S (&x)[kRows][kVector], int newest, int reach, int v) const {
    S result = bias[v];
    HIPPODROME_UNROLL for (int m = 0; m < kTaps; ++m) {
      if (m <= reach) result += weight[m][v] * x[newest - m][v];
    }
    return result;
  }
};

// How far token i looks back: to inputs of its own sequence that have a tap.
HIPPODROME_HOST_DEVICE int reach_of(const TokenRow& row, int64_t i, int64_t taps) {
  const int reach = static_cast<int>(row.reach(i)), most = static_cast<int>(taps) - 1;
  return reach < most ? reach : most;
}

template <class T, int kTaps, int kVector>
struct Forward {
  using S = ScalarOf<T>;
  using W = Window<T, kTaps, kVector>;
  static constexpr int kThreads = causal_conv1d_cuda::kThreads;
  static HIPPODROME_HOST_DEVICE int64_t items(const CausalConv1dCudaForward& p) {
    return p.batch * tiles(p.time, kForwardTile) * (p.channels / kVector);
  }
  static int64_t blocks(const CausalConv1dCudaForward& p) { return ceil_div(items(p), kThreads); }
  static int64_t shared_bytes(const CausalConv1dCudaForward&) { return 0; }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const CausalConv1dCudaForward& p) {
    block.alone([&](int thread) {
      const int64_t number = block.index() * kThreads + thread;
      if (number >= items(p)) return;
      const Item<kVector> item(number, p.channels, tiles(p.time, kForwardTile));
      const TokenRow row(p.tokens, item.b);
      filter(p, item, row);
      W::clear_padding(p, item, kForwardTile, p.y);
      // Last: it may be where the initial state was, which no thread but this one reads.
      if (item.tile == 0) write_final_state(p, item, row);
    });
  }

  static HIPPODROME_KERNEL void filter(const CausalConv1dCudaForward& p, const Item<kVector>& item,
                                       const TokenRow& row) {
    constexpr int kBefore = kTaps - 1;
    const int64_t b = item.b, c = item.c, first = item.tile * kForwardTile;
    const int64_t end = first + kForwardTile < row.count ? first + kForwardTile : row.count;
    if (first >= end) return;
    W window;
    window.load_parameters(p, c);
    S x[kBefore + kStep][kVector];
    HIPPODROME_UNROLL for (int j = 0; j < kBefore; ++j) W::load_input(p, row, b, c, first - kBefore + j, x[j]);
    for (int64_t base = first; base < end; base += kStep) {
      HIPPODROME_UNROLL for (int u = 0; u < kStep; ++u) {
        if (base + u < end) W::load_input(p, row, b, c, base + u, x[kBefore + u]);
      }
      HIPPODROME_UNROLL for (int u = 0; u < kStep; ++u) {
        if (base + u < end) {
          const int reach = reach_of(row, base + u, p.taps);
          S y[kVector];
          HIPPODROME_UNROLL for (int v = 0; v < kVector; ++v) {
            const S sum = window.sum(x, kBefore + u, reach, v);
            y[v] = p.silu ? silu(sum) : sum;
          }
          W::store_row(p, b, row.place(base + u), c, y, p.y);
        }
      }
      HIPPODROME_UNROLL for (int j = 0; j < kBefore; ++j) {
        HIPPODROME_UNROLL for (int v = 0; v < kVector; ++v) x[j][v] = x[j + kStep][v];
      }
    }
  }

  // Ascending: in place, an entry moves towards the front.
  static HIPPODROME_KERNEL void write_final_state(const CausalConv1dCudaForward& p, const Item<kVector>& item,
                                                  const TokenRow& row) {
    const int64_t held = p.taps - 1, reach = row.reach_from_end();
    for (int64_t j = 0; j < held; ++j) {
      S x[kVector] = {};
      if (held - j <= reach) W::load_input(p, row, item.b, item.c, row.count - held + j, x);
      HIPPODROME_UNROLL for (int v = 0; v < kVector; ++v) {
        static_cast<S*>(p.final_state)[(item.b * p.channels + item.c + v) * held + j] = x[v];
      }
    }
  }
};

// A tile's tokens, and the K-1 behind them for their share in the gradients of the tile's inputs. Token i adds to the
// gradients of the inputs it looked back on, which wait in registers until the last token that sees them has passed.
// The first tile owns the inputs in the initial state, too.
template <class T, int kTaps, int kVector>
struct Backward {
  using S = ScalarOf<T>;
  using W = Window<T, kTaps, kVector>;
  static constexpr int kBefore = kTaps - 1;
  static constexpr int kThreads = causal_conv1d_cuda::kThreads;
  static HIPPODROME_HOST_DEVICE int64_t items(const CausalConv1dCudaBackward& p) {
    return p.forward.batch * tiles(p.forward.time, kBackwardTile) * (p.forward.channels / kVector);
  }
  static int64_t blocks(const CausalConv1dCudaBackward& p) { return ceil_div(items(p), kThreads); }
  static int64_t shared_bytes(const CausalConv1dCudaBackward&) { return 0; }

  struct Sums {
    S weight[kTaps][kVector];  // by lag
    S bias[kVector];
  };

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const CausalConv1dCudaBackward& p) {
    block.alone([&](int thread) {
      const int64_t number = block.index() * kThreads + thread;
      if (number >= items(p)) return;
      const Item<kVector> item(number, p.forward.channels, tiles(p.forward.time, kBackwardTile));
      const TokenRow row(p.forward.tokens, item.b);
      Sums sums = {};
      differentiate(p, item, row, sums);
      write_sums(p, item, sums);
      W::clear_padding(p.forward, item, kBackwardTile, p.grad_x);
    });
  }

  static HIPPODROME_KERNEL void differentiate(const CausalConv1dCudaBackward& p, const Item<kVector>& item,
                                              const TokenRow& row, Sums& sums) {
    const CausalConv1dCudaForward& f = p.forward;
    const int64_t b = item.b, c = item.c, first = item.tile * kBackwardTile;
    if (item.tile > 0 && first >= row.count) return;
    const int64_t end = first + kBackwardTile < row.count ? first + kBackwardTile : row.count;
    const int64_t limit = end + f.taps - 1 < row.count ? end + f.taps - 1 : row.count;
    W window;
    window.load_parameters(f, c);
    S x[kBefore + kStep][kVector], grad_x[kBefore + kStep][kVector] = {}, grad_y[kStep][kVector];
    HIPPODROME_UNROLL for (int j = 0; j < kBefore; ++j) W::load_input(f, row, b, c, first - kBefore + j, x[j]);
    for (int64_t base = first; base < end + kBefore; base += kStep) {
      HIPPODROME_UNROLL for (int u = 0; u < kStep; ++u) {
        HIPPODROME_UNROLL for (int v = 0; v < kVector; ++v) grad_y[u][v] = S(0);
        if (base + u < limit) {
          W::load_input(f, row, b, c, base + u, x[kBefore + u]);
          if (p.grad_y.data != nullptr) W::load_row(p.grad_y, b, row.place(base + u), c, grad_y[u]);
        }
      }
      HIPPODROME_UNROLL for (int u = 0; u < kStep; ++u) {
        if (base + u < limit) {
          const int reach = reach_of(row, base + u, f.taps);
          HIPPODROME_UNROLL for (int v = 0; v < kVector; ++v) {
            S g = grad_y[u][v];
            if (f.silu) g *= silu_slope(window.sum(x, kBefore + u, reach, v));
            HIPPODROME_UNROLL for (int m = 0; m < kTaps; ++m) {
              if (m <= reach) grad_x[kBefore + u - m][v] += window.weight[m][v] * g;
              if (m <= reach && base + u < end) sums.weight[m][v] += g * x[kBefore + u - m][v];
            }
            if (base + u < end) sums.bias[v] += g;
          }
        }
      }
      HIPPODROME_UNROLL for (int u = 0; u < kStep; ++u) {
        const int64_t i = base - kBefore + u;
        if (i >= (item.tile == 0 ? 1 - f.taps : first) && i < end) write_input_gradient(p, item, row, i, grad_x[u]);
      }
      HIPPODROME_UNROLL for (int v = 0; v < kVector; ++v) {
        HIPPODROME_UNROLL for (int j = 0; j < kBefore; ++j) {
          x[j][v] = x[j + kStep][v];
          grad_x[j][v] = grad_x[j + kStep][v];
        }
        HIPPODROME_UNROLL for (int j = kBefore; j < kBefore + kStep; ++j) grad_x[j][v] = S(0);
      }
    }
  }

  static HIPPODROME_KERNEL void write_input_gradient(const CausalConv1dCudaBackward& p, const Item<kVector>& item,
                                                     const TokenRow& row, int64_t i, S (&gradient)[kVector]) {
    const CausalConv1dCudaForward& f = p.forward;
    const int64_t held = f.taps - 1, behind = row.count - 1 - i;  // tokens behind i
    const int64_t state = (item.b * f.channels + item.c) * held;
    if (p.grad_final_state != nullptr && behind < held && behind < row.reach_from_end()) {
      HIPPODROME_UNROLL for (int v = 0; v < kVector; ++v) {
        gradient[v] += static_cast<const S*>(p.grad_final_state)[state + v * held + held - 1 - behind];
      }
    }
    if (i >= 0) {
      W::store_row(f, item.b, row.place(i), item.c, gradient, p.grad_x);
      return;
    }
    HIPPODROME_UNROLL for (int v = 0; v < kVector; ++v) {
      static_cast<S*>(p.grad_initial_state)[state + v * held + held + i] = gradient[v];
    }
  }

  static HIPPODROME_KERNEL void write_sums(const CausalConv1dCudaBackward& p, const Item<kVector>& item,
                                           const Sums& sums) {
    const CausalConv1dCudaForward& f = p.forward;
    const int64_t line = item.b * tiles(f.time, kBackwardTile) + item.tile;
    S* const to = static_cast<S*>(p.grad_parameter_rows) + line * (f.taps + 1) * f.channels + item.c;
    HIPPODROME_UNROLL for (int v = 0; v < kVector; ++v) {
      HIPPODROME_UNROLL for (int m = 0; m < kTaps; ++m) {
        if (m < f.taps) to[(f.taps - 1 - m) * f.channels + v] = sums.weight[m][v];
      }
      to[f.taps * f.channels + v] = sums.bias[v];
    }
  }
};

// Whether two neighbouring 16-bit elements may be read as one of 32 bits.
inline bool in_pairs(const CausalConv1dCudaSequence& s) {
  return reinterpret_cast<uintptr_t>(s.data) % 4 == 0 && s.batch_stride % 2 == 0 && s.row_stride % 2 == 0;
}

// f(TypeTag<Kernel<T, kTaps, kVector>>) of the smallest instantiation that fits.
template <template <class, int, int> class Kernel, class F>
const char* with_kernel(const CausalConv1dCudaForward& p, bool pairs, const F& f) {
  return with_element(p.element, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    if constexpr (sizeof(T) == 2) {
      if (pairs && p.taps <= 4) return f(TypeTag<Kernel<T, 4, 2>>{});
    }
    if (p.taps <= 4) return f(TypeTag<Kernel<T, 4, 1>>{});
    return p.taps <= 8 ? f(TypeTag<Kernel<T, 8, 1>>{}) : f(TypeTag<Kernel<T, 16, 1>>{});
  });
}

template <class Launcher>
const char* list_tokens(const TokenList& tokens, const Launcher& launcher) {
  return must_list(tokens) ? launcher.template run<ListTokens>(tokens) : nullptr;
}

template <class Launcher>
const char* run_forward(const CausalConv1dCudaForward& p, const Launcher& launcher) {
  if (p.channels == 0) return nullptr;
  if (const char* error = list_tokens(p.tokens, launcher)) return error;
  return with_kernel<Forward>(p, p.channels % 2 == 0 && in_pairs(p.x),
                              [&](auto kernel) { return launcher.template run<typename decltype(kernel)::Type>(p); });
}

template <class Launcher>
const char* run_backward(const CausalConv1dCudaBackward& p, const Launcher& launcher) {
  if (p.forward.channels == 0) return nullptr;
  if (const char* error = list_tokens(p.forward.tokens, launcher)) return error;
  const bool pairs = p.forward.channels % 2 == 0 && in_pairs(p.forward.x) && in_pairs(p.grad_y);
  return with_kernel<Backward>(p.forward, pairs,
                               [&](auto kernel) { return launcher.template run<typename decltype(kernel)::Type>(p); });
}

}  // namespace hippodrome::causal_conv1d_cuda

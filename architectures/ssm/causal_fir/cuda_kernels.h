// The CUDA kernels of causal_fir. The three products (outputs, inputs' gradients, weights' gradients) are Toeplitz
// matrices times vectors per channel: a thread has kSums results of one channel in registers and goes through the other
// axis in steps of kStep, for which it loads kStep factors and kStep more rows of a sliding window. That makes kSums /
// 2 multiply-adds of each number loaded, and neighbouring threads take neighbouring channels. Nothing is exchanged
// between threads. Limited by multiply-adds where taps are many, by the loads' latency where they are few.
//
// Tokens are those of the row's list (token_list.h), padding left out; -K .. -1 are the inputs in the state.
#pragma once

#include <cstdint>

#include "architectures/ssm/causal_fir/cuda.h"
#include "architectures/ssm/token_list.h"
#include "core/cuda/block.h"

namespace hippodrome::causal_fir_cuda {

using namespace cuda;  // NOLINT: these are its kernels

constexpr int kThreads = 128, kSums = 16, kStep = 8, kWindow = kSums + kStep - 1;

// Number `number` of items that are counted over channels, then parts, then rows.
struct Item {
  HIPPODROME_HOST_DEVICE Item(int64_t number, int64_t channels, int64_t parts)
      : number(number), d(number % channels), part(number / channels % parts), b(number / channels / parts) {}
  int64_t number, d, part, b;
};

// A thread for each of `items` items.
template <class Block, class F>
HIPPODROME_KERNEL void for_each_item(Block& block, int64_t items, int64_t channels, int64_t parts, const F& f) {
  block.alone([&](int thread) {
    const int64_t number = block.index() * kThreads + thread;
    if (number < items) f(Item(number, channels, parts));
  });
}

// kWindow numbers of a list along which a thread goes, kStep at a time.
template <class T>
struct Window {
  T value[kWindow];

  // read(k) is number k of the window as the first move() will have it; the last kStep of those are left out.
  template <class F>
  HIPPODROME_HOST_DEVICE explicit Window(const F& read) {
    HIPPODROME_UNROLL for (int k = 0; k < kWindow - kStep; ++k) value[k + kStep] = read(k);
  }
  // read(k) is number k of the window after the move; only the last kStep are read.
  template <class F>
  HIPPODROME_HOST_DEVICE void move(const F& read) {
    HIPPODROME_UNROLL for (int k = 0; k < kWindow - kStep; ++k) value[k] = value[k + kStep];
    HIPPODROME_UNROLL for (int k = kWindow - kStep; k < kWindow; ++k) value[k] = read(k);
  }
};

// Whether all tokens of a row reach as far back as there are taps.
HIPPODROME_HOST_DEVICE bool is_plain(const TokenRow& row) {
  return row.entries == nullptr && row.plain_reach == kFullReach;
}

template <class S>
HIPPODROME_HOST_DEVICE S input_of(const CausalFirCudaForward& p, const TokenRow& row, int64_t b, int64_t d, int64_t i) {
  if (i >= row.count || i < -p.taps || (i < 0 && p.state == nullptr)) return S(0);
  if (i < 0) return static_cast<const S*>(p.state)[(b * p.taps + p.taps + i) * p.channels + d];
  return static_cast<const S*>(p.x)[(b * p.length + row.place(i)) * p.channels + d];
}
template <class S>
HIPPODROME_HOST_DEVICE S grad_y_of(const CausalFirCudaBackward& p, const TokenRow& row, int64_t b, int64_t d,
                                   int64_t i) {
  if (i < 0 || i >= row.count) return S(0);
  return static_cast<const S*>(p.grad_y)[(b * p.forward.length + row.place(i)) * p.forward.channels + d];
}
template <class S>
HIPPODROME_HOST_DEVICE S weight_of(const CausalFirCudaForward& p, int64_t d, int64_t lag) {
  return lag < p.taps ? static_cast<const S*>(p.weight)[lag * p.channels + d] : S(0);
}

// The rows of [B, L, D] that padding among steps [first, first + kSums) leaves zero.
template <class S>
HIPPODROME_HOST_DEVICE void clear_padding(const CausalFirCudaForward& p, const Item& item, int64_t first, S* to) {
  if (p.tokens.positions == nullptr) return;
  for (int64_t t = first; t < first + kSums && t < p.length; ++t) {
    if (p.tokens.positions[item.b * p.length + t] < 0) to[(item.b * p.length + t) * p.channels + item.d] = S(0);
  }
}

// An item per channel of kSums tokens: their outputs.
template <class S>
struct Outputs {
  static constexpr int kThreads = causal_fir_cuda::kThreads;
  static HIPPODROME_HOST_DEVICE int64_t items(const CausalFirCudaForward& p) {
    return p.batch * ceil_div(p.length, kSums) * p.channels;
  }
  static int64_t blocks(const CausalFirCudaForward& p) { return ceil_div(items(p), kThreads); }
  static int64_t shared_bytes(const CausalFirCudaForward&) { return 0; }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const CausalFirCudaForward& p) {
    for_each_item(block, items(p), p.channels, ceil_div(p.length, kSums), [&](const Item& item) {
      const TokenRow row(p.tokens, item.b);
      const int64_t first = item.part * kSums;
      S sums[kSums] = {};
      if (is_plain(row)) {
        add<true>(p, row, item, first, sums);
      } else if (first < row.count) {
        add<false>(p, row, item, first, sums);
      }
      S* const y = static_cast<S*>(p.y);
      HIPPODROME_UNROLL for (int u = 0; u < kSums; ++u) {
        if (first + u < row.count) y[(item.b * p.length + row.place(first + u)) * p.channels + item.d] = sums[u];
      }
      clear_padding(p, item, first, y);
    });
  }

  template <bool kPlain>
  static HIPPODROME_KERNEL void add(const CausalFirCudaForward& p, const TokenRow& row, const Item& item, int64_t first,
                                    S (&sums)[kSums]) {
    int reach[kSums];
    int64_t lags = p.taps;
    if constexpr (!kPlain) {
      int most = 0;
      HIPPODROME_UNROLL for (int u = 0; u < kSums; ++u) {
        reach[u] = first + u < row.count ? static_cast<int>(row.reach(first + u)) : 0;
        most = reach[u] > most ? reach[u] : most;
      }
      if (most + 1 < lags) lags = most + 1;
    }
    // Inputs of tokens first - lag + kSums - 1 - [0, kWindow).
    const auto input = [&](int64_t lag, int k) {
      return input_of<S>(p, row, item.b, item.d, first - lag + kSums - 1 - k);
    };
    Window<S> x([&](int k) { return input(0, k); });
    for (int64_t lag = 0; lag < lags; lag += kStep) {
      S weight[kStep];
      x.move([&](int k) { return input(lag, k); });
      HIPPODROME_UNROLL for (int l = 0; l < kStep; ++l) weight[l] = weight_of<S>(p, item.d, lag + l);
      HIPPODROME_UNROLL for (int l = 0; l < kStep; ++l) {
        HIPPODROME_UNROLL for (int u = 0; u < kSums; ++u) {
          if (kPlain || lag + l <= reach[u]) sums[u] += weight[l] * x.value[kSums - 1 - u + l];
        }
      }
    }
  }
};

// An item per channel of an entry of the last state.
template <class S>
struct LastState {
  static constexpr int kThreads = causal_fir_cuda::kThreads;
  static HIPPODROME_HOST_DEVICE int64_t items(const CausalFirCudaForward& p) { return p.batch * p.taps * p.channels; }
  static int64_t blocks(const CausalFirCudaForward& p) { return ceil_div(items(p), kThreads); }
  static int64_t shared_bytes(const CausalFirCudaForward&) { return 0; }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const CausalFirCudaForward& p) {
    for_each_item(block, items(p), p.channels, p.taps, [&](const Item& item) {
      const TokenRow row(p.tokens, item.b);
      const int64_t back = p.taps - item.part;
      static_cast<S*>(p.last_state)[item.number] =
          back <= row.reach_from_end() ? input_of<S>(p, row, item.b, item.d, row.count - back) : S(0);
    });
  }
};

// An item per channel of kSums inputs, those in the state first: their gradients.
template <class S>
struct InputGradients {
  static constexpr int kThreads = causal_fir_cuda::kThreads;
  static HIPPODROME_HOST_DEVICE int64_t tiles(const CausalFirCudaForward& p) {
    return ceil_div(p.taps + p.length, kSums);
  }
  static HIPPODROME_HOST_DEVICE int64_t items(const CausalFirCudaBackward& p) {
    return p.forward.batch * tiles(p.forward) * p.forward.channels;
  }
  static int64_t blocks(const CausalFirCudaBackward& p) { return ceil_div(items(p), kThreads); }
  static int64_t shared_bytes(const CausalFirCudaBackward&) { return 0; }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const CausalFirCudaBackward& p) {
    const CausalFirCudaForward& f = p.forward;
    for_each_item(block, items(p), f.channels, tiles(f), [&](const Item& item) {
      const TokenRow row(f.tokens, item.b);
      const int64_t first = item.part * kSums - f.taps;
      S sums[kSums] = {};
      if (is_plain(row)) {
        add<true>(p, row, item, first, sums);
      } else if (first < row.count) {
        add<false>(p, row, item, first, sums);
      }
      const int64_t reach_from_end = row.reach_from_end();
      HIPPODROME_UNROLL for (int u = 0; u < kSums; ++u) {
        const int64_t i = first + u, behind = row.count - 1 - i;
        if (behind < 0) continue;
        S gradient = sums[u];
        if (behind < f.taps && behind < reach_from_end) {
          gradient +=
              static_cast<const S*>(p.grad_last_state)[(item.b * f.taps + f.taps - 1 - behind) * f.channels + item.d];
        }
        S* const to = static_cast<S*>(i < 0 ? p.grad_state : p.grad_x);
        const int64_t line = i < 0 ? item.b * f.taps + f.taps + i : item.b * f.length + row.place(i);
        to[line * f.channels + item.d] = gradient;
      }
      clear_padding(f, item, item.part * kSums, static_cast<S*>(p.grad_x));
    });
  }

  template <bool kPlain>
  static HIPPODROME_KERNEL void add(const CausalFirCudaBackward& p, const TokenRow& row, const Item& item,
                                    int64_t first, S (&sums)[kSums]) {
    const auto reach_of = [&](int64_t i) {
      return i >= 0 && i < row.count ? static_cast<int>(row.reach(i)) : static_cast<int>(kFullReach);
    };
    // Of outputs first + lag + [0, kWindow).
    const auto gradient = [&](int64_t lag, int k) { return grad_y_of<S>(p, row, item.b, item.d, first + lag + k); };
    Window<S> g([&](int k) { return gradient(0, k); });
    Window<int> reach([&](int k) { return kPlain ? 0 : reach_of(first + k); });
    for (int64_t lag = 0; lag < p.forward.taps && first + lag < row.count; lag += kStep) {
      S weight[kStep];
      g.move([&](int k) { return gradient(lag, k); });
      reach.move([&](int k) { return kPlain ? 0 : reach_of(first + lag + k); });
      HIPPODROME_UNROLL for (int l = 0; l < kStep; ++l) weight[l] = weight_of<S>(p.forward, item.d, lag + l);
      HIPPODROME_UNROLL for (int l = 0; l < kStep; ++l) {
        HIPPODROME_UNROLL for (int u = 0; u < kSums; ++u) {
          if (kPlain || lag + l <= reach.value[u + l]) sums[u] += weight[l] * g.value[u + l];
        }
      }
    }
  }
};

// An item per channel of kSums taps and a segment of tokens: its share of their gradients.
template <class S>
struct WeightGradients {
  static constexpr int kThreads = causal_fir_cuda::kThreads;
  static HIPPODROME_HOST_DEVICE int64_t items(const CausalFirCudaBackward& p) {
    const CausalFirCudaForward& f = p.forward;
    return f.batch * causal_fir_segments(f.length, f.taps) * ceil_div(f.taps, kSums) * f.channels;
  }
  static int64_t blocks(const CausalFirCudaBackward& p) { return ceil_div(items(p), kThreads); }
  static int64_t shared_bytes(const CausalFirCudaBackward&) { return 0; }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const CausalFirCudaBackward& p) {
    const CausalFirCudaForward& f = p.forward;
    for_each_item(block, items(p), f.channels, ceil_div(f.taps, kSums), [&](const Item& item) {  // b: of all segments
      const int64_t segments = causal_fir_segments(f.length, f.taps), lag = item.part * kSums;
      const int64_t b = item.b / segments, first = item.b % segments * causal_fir_segment(f.taps);
      const TokenRow row(f.tokens, b);
      S sums[kSums] = {};
      if (is_plain(row)) {
        add<true>(p, row, b, item.d, lag, first, sums);
      } else {
        add<false>(p, row, b, item.d, lag, first, sums);
      }
      S* const to = static_cast<S*>(p.grad_weight_rows) + item.b * f.taps * f.channels + item.d;
      HIPPODROME_UNROLL for (int j = 0; j < kSums; ++j) {
        if (lag + j < f.taps) to[(lag + j) * f.channels] = sums[j];
      }
    });
  }

  template <bool kPlain>
  static HIPPODROME_KERNEL void add(const CausalFirCudaBackward& p, const TokenRow& row, int64_t b, int64_t d,
                                    int64_t lag, int64_t first, S (&sums)[kSums]) {
    const CausalFirCudaForward& f = p.forward;
    const int64_t behind = first + causal_fir_segment(f.taps), end = behind < row.count ? behind : row.count;
    // Inputs of tokens i - lag - (kSums - 1) + [0, kWindow).
    const auto input = [&](int64_t i, int k) { return input_of<S>(f, row, b, d, i - lag - (kSums - 1) + k); };
    Window<S> x([&](int k) { return input(first, k); });
    for (int64_t i = first; i < end; i += kStep) {
      S g[kStep];
      x.move([&](int k) { return input(i, k); });
      HIPPODROME_UNROLL for (int l = 0; l < kStep; ++l) {
        g[l] = i + l < end ? grad_y_of<S>(p, row, b, d, i + l) : S(0);
      }
      HIPPODROME_UNROLL for (int l = 0; l < kStep; ++l) {
        const int64_t reach = kPlain || i + l >= end ? kFullReach : row.reach(i + l);
        HIPPODROME_UNROLL for (int j = 0; j < kSums; ++j) {
          if (kPlain || lag + j <= reach) sums[j] += g[l] * x.value[l - j + kSums - 1];
        }
      }
    }
  }
};

template <class Launcher>
const char* list_tokens(const TokenList& tokens, const Launcher& launcher) {
  return must_list(tokens) ? launcher.template run<ListTokens>(tokens) : nullptr;
}

template <class S, class Launcher>
const char* run_forward_as(const CausalFirCudaForward& p, const Launcher& launcher) {
  if (const char* error = list_tokens(p.tokens, launcher)) return error;
  if (const char* error = launcher.template run<Outputs<S>>(p)) return error;
  return launcher.template run<LastState<S>>(p);
}
template <class Launcher>
const char* run_forward(const CausalFirCudaForward& p, const Launcher& launcher) {
  return p.is_double ? run_forward_as<double>(p, launcher) : run_forward_as<float>(p, launcher);
}

template <class S, class Launcher>
const char* run_backward_as(const CausalFirCudaBackward& p, const Launcher& launcher) {
  if (const char* error = list_tokens(p.forward.tokens, launcher)) return error;
  if (const char* error = launcher.template run<InputGradients<S>>(p)) return error;
  return launcher.template run<WeightGradients<S>>(p);
}
template <class Launcher>
const char* run_backward(const CausalFirCudaBackward& p, const Launcher& launcher) {
  return p.forward.is_double ? run_backward_as<double>(p, launcher) : run_backward_as<float>(p, launcher);
}

}  // namespace hippodrome::causal_fir_cuda

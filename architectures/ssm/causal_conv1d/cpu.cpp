// causal_conv1d with Highway: vectors over channels, time innermost, taps and window in registers.
#include "core/tensor/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "architectures/ssm/causal_conv1d/cpu.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

#include <cstdint>
#include <type_traits>

#include "architectures/ssm/causal_conv1d/op.h"
#include "core/tensor/vector_lanes-inl.h"
#include "core/tensor/vector_math-inl.h"
#include "hwy/cache_control.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Rows of another token lie far apart, where the hardware's prefetchers do not follow.
constexpr int64_t kConvPrefetchSteps = 16;
// Source of a window entry whose gradient is not this work item's to store.
constexpr int64_t kNotOurs = INT64_MIN;

// One vector of channels. kTaps = 0: any number of taps, known at run time.
template <int kTaps, class T, class Lanes>
struct ConvVector {
  using D = hn::ScalableTag<T>;
  using V = hn::VFromD<D>;
  static constexpr int64_t kRoom = kTaps == 0 ? kCausalConv1dMaxTaps : kTaps;

  Lanes lanes;
  int64_t taps;
  V weight[kRoom], bias;
  V window[kRoom];  // K-1 inputs, oldest first

  template <class Params>
  HWY_INLINE ConvVector(const Params& p, int64_t c, const Lanes& lanes_in)
      : lanes(lanes_in), taps(kTaps == 0 ? p.taps : kTaps) {
    load_columns<kTaps>(p.weight + c * taps, taps, weight);
    bias = p.bias == nullptr ? hn::Zero(D()) : lanes.load(p.bias + c);
  }

  // Columns of a row-major [channels, n] matrix, as vectors over channels.
  template <int kColumns>
  HWY_INLINE void load_columns(const T* from, int64_t n, V* columns) const {
    const D d;
    if constexpr (Lanes::kWhole && kColumns == 4) {
      hn::LoadInterleaved4(d, from, columns[0], columns[1], columns[2], columns[3]);
    } else if constexpr (Lanes::kWhole && kColumns == 3) {
      hn::LoadInterleaved3(d, from, columns[0], columns[1], columns[2]);
    } else if constexpr (Lanes::kWhole && kColumns == 2) {
      hn::LoadInterleaved2(d, from, columns[0], columns[1]);
    } else {
      HWY_ALIGN T gathered[hn::MaxLanes(D())] = {};
      for (int64_t j = 0; j < n; ++j) {
        for (int64_t i = 0; i < lanes.count(); ++i) gathered[i] = from[i * n + j];
        columns[j] = hn::Load(d, gathered);
      }
    }
  }

  template <int kColumns>
  HWY_INLINE void store_columns(const V* columns, int64_t n, T* to) const {
    const D d;
    if constexpr (Lanes::kWhole && kColumns == 3) {
      hn::StoreInterleaved3(columns[0], columns[1], columns[2], d, to);
    } else if constexpr (Lanes::kWhole && kColumns == 2) {
      hn::StoreInterleaved2(columns[0], columns[1], d, to);
    } else {
      HWY_ALIGN T scattered[hn::MaxLanes(D())];
      for (int64_t j = 0; j < n; ++j) {
        hn::Store(columns[j], d, scattered);
        for (int64_t i = 0; i < lanes.count(); ++i) to[i * n + j] = scattered[i];
      }
    }
  }

  HWY_INLINE void clear_window() {
    for (int64_t j = 0; j + 1 < taps; ++j) window[j] = hn::Zero(D());
  }

  // The window before token t, found by walking back over x and then into the initial state.
  template <class Params>
  HWY_INLINE void load_window(const Params& p, int64_t b, int64_t t, int64_t c) {
    clear_window();
    const T* x = p.x.data + b * p.x.batch_stride + c;
    const int64_t* positions = p.positions == nullptr ? nullptr : p.positions + b * p.time;
    int64_t slot = taps - 2;
    for (int64_t s = t - 1; s >= 0 && slot >= 0; --s) {
      if (positions != nullptr && positions[s] < 0) continue;
      window[slot--] = lanes.load(x + s * p.x.row_stride);
      if (positions != nullptr && positions[s] == 0) return;
    }
    if (slot < 0 || p.initial_state == nullptr) return;
    V state[kRoom];
    load_columns<kTaps == 0 ? 0 : kTaps - 1>(p.initial_state + (b * p.channels + c) * (taps - 1), taps - 1, state);
    for (int64_t from = taps - 2; slot >= 0; --slot, --from) window[slot] = state[from];
  }

  HWY_INLINE V convolve(V x) const {
    V sum = bias;
    for (int64_t j = 0; j + 1 < taps; ++j) sum = hn::MulAdd(weight[j], window[j], sum);
    return hn::MulAdd(weight[taps - 1], x, sum);
  }

  HWY_INLINE void shift(V x) {
    for (int64_t j = 0; j + 2 < taps; ++j) window[j] = window[j + 1];
    if (taps > 1) window[taps - 2] = x;
  }
};

template <int kTaps, bool kSilu, class T, class Lanes>
HWY_INLINE void conv_forward_vector(const CausalConv1dForward<T>& p, int64_t b, int64_t begin, int64_t end, int64_t c,
                                    const Lanes& lanes) {
  using Vector = ConvVector<kTaps, T, Lanes>;
  using D = typename Vector::D;
  Vector conv(p, c, lanes);
  conv.load_window(p, b, begin, c);
  const int64_t* positions = p.positions == nullptr ? nullptr : p.positions + b * p.time;
  const T* x = p.x.data + b * p.x.batch_stride + c;
  T* y = p.y + b * p.time * p.channels + c;
  for (int64_t t = begin; t < end; ++t) {
    if (positions != nullptr && positions[t] <= 0) {
      if (positions[t] < 0) {
        lanes.store(hn::Zero(D()), y + t * p.channels);
        continue;
      }
      conv.clear_window();
    }
    hwy::Prefetch(x + (t + kConvPrefetchSteps) * p.x.row_stride);  // past the end is harmless
    const auto xt = lanes.load(x + t * p.x.row_stride);
    auto sum = conv.convolve(xt);
    if constexpr (kSilu) sum = vector_silu(D(), sum);
    lanes.store(sum, y + t * p.channels);
    conv.shift(xt);
  }
  if (end == p.time) {
    constexpr int kColumns = kTaps == 0 ? 0 : kTaps - 1;
    const int64_t n = conv.taps - 1;
    conv.template store_columns<kColumns>(conv.window, n, p.final_state + (b * p.channels + c) * n);
  }
}

// Forward in time, with a window of unfinished gradients beside the window of inputs: a token adds to the gradients of
// the inputs it read, and what leaves the window is complete. An item stores the gradients of its own tokens [begin,
// end) (the first item also those of the initial state), so it reads on behind `end` until the last of them has left
// the window.
template <int kTaps, bool kSilu, class T, class Lanes>
HWY_INLINE void conv_backward_vector(const CausalConv1dBackward<T>& p, int64_t b, int64_t begin, int64_t end, int64_t c,
                                     const Lanes& lanes) {
  using Vector = ConvVector<kTaps, T, Lanes>;
  using D = typename Vector::D;
  using V = typename Vector::V;
  constexpr int64_t kRoom = Vector::kRoom;
  constexpr int kStateColumns = kTaps == 0 ? 0 : kTaps - 1;
  const D d;
  Vector conv(p, c, lanes);
  conv.load_window(p, b, begin, c);
  const int64_t taps = conv.taps, older = taps - 1;
  const int64_t* positions = p.positions == nullptr ? nullptr : p.positions + b * p.time;
  const T* x = p.x.data + b * p.x.batch_stride + c;
  const T* grad_y = p.grad_y.data + b * p.grad_y.batch_stride + c;
  T* grad_x = p.grad_x + b * p.time * p.channels + c;

  V grad_weight[kRoom], pending[kRoom], grad_state[kRoom];
  V grad_bias = hn::Zero(d);
  int64_t source[kRoom];  // of `pending`: a token, -1-j for the initial state's entry j, or kNotOurs
  for (int64_t j = 0; j < taps; ++j) {
    grad_weight[j] = pending[j] = grad_state[j] = hn::Zero(d);
    source[j] = begin == 0 ? -1 - j : kNotOurs;
  }
  const auto finish = [&](int64_t j) HWY_ATTR {
    if (source[j] >= 0) {
      lanes.store(pending[j], grad_x + source[j] * p.channels);
    } else if (source[j] != kNotOurs) {
      grad_state[-1 - source[j]] = pending[j];
    }
    source[j] = kNotOurs;
    pending[j] = hn::Zero(d);
  };
  const auto unfinished = [&]() HWY_ATTR {
    for (int64_t j = 0; j < older; ++j) {
      if (source[j] != kNotOurs) return true;
    }
    return false;
  };

  int64_t t = begin;
  for (; t < p.time && (t < end || unfinished()); ++t) {
    const bool ours = t < end;
    if (positions != nullptr && positions[t] <= 0) {
      if (positions[t] < 0) {
        if (ours) lanes.store(hn::Zero(d), grad_x + t * p.channels);
        continue;
      }
      for (int64_t j = 0; j < older; ++j) finish(j);
      if (!ours) break;
      conv.clear_window();
    }
    hwy::Prefetch(x + (t + kConvPrefetchSteps) * p.x.row_stride);
    hwy::Prefetch(grad_y + (t + kConvPrefetchSteps) * p.grad_y.row_stride);
    const V xt = lanes.load(x + t * p.x.row_stride);
    V g = lanes.load(grad_y + t * p.grad_y.row_stride);
    if constexpr (kSilu) {
      const V one = hn::Set(d, 1);
      const V sum = conv.convolve(xt);
      const V s = vector_sigmoid(d, sum);
      g = hn::Mul(g, hn::Mul(s, hn::MulAdd(sum, hn::Sub(one, s), one)));
    }
    if (ours) {
      for (int64_t j = 0; j < older; ++j) grad_weight[j] = hn::MulAdd(g, conv.window[j], grad_weight[j]);
      grad_weight[older] = hn::MulAdd(g, xt, grad_weight[older]);
      grad_bias = hn::Add(grad_bias, g);
    }
    conv.shift(xt);

    for (int64_t j = 0; j < older; ++j) pending[j] = hn::MulAdd(conv.weight[j], g, pending[j]);
    pending[older] = hn::Mul(conv.weight[older], g);
    source[older] = ours ? t : kNotOurs;
    finish(0);
    for (int64_t j = 0; j < older; ++j) {
      pending[j] = pending[j + 1];
      source[j] = source[j + 1];
    }
  }
  if (t == p.time && p.grad_final_state != nullptr) {
    V last[kRoom];
    conv.template load_columns<kStateColumns>(p.grad_final_state + (b * p.channels + c) * older, older, last);
    for (int64_t j = 0; j < older; ++j) pending[j] = hn::Add(pending[j], last[j]);
  }
  for (int64_t j = 0; j < older; ++j) finish(j);

  const int64_t row = b * causal_conv1d_tiles(p.time) + begin / kCausalConv1dTile;
  T* parameters = p.grad_parameter_rows + row * (taps + 1) * p.channels + c;
  for (int64_t j = 0; j < taps; ++j) lanes.store(grad_weight[j], parameters + j * p.channels);
  lanes.store(grad_bias, parameters + taps * p.channels);
  if (begin == 0) {
    conv.template store_columns<kStateColumns>(grad_state, older, p.grad_initial_state + (b * p.channels + c) * older);
  }
}

template <int kTaps, bool kSilu, class T, class Lanes>
HWY_INLINE void conv_vector(const CausalConv1dForward<T>& p, int64_t b, int64_t begin, int64_t end, int64_t c,
                            const Lanes& lanes) {
  conv_forward_vector<kTaps, kSilu>(p, b, begin, end, c, lanes);
}
template <int kTaps, bool kSilu, class T, class Lanes>
HWY_INLINE void conv_vector(const CausalConv1dBackward<T>& p, int64_t b, int64_t begin, int64_t end, int64_t c,
                            const Lanes& lanes) {
  conv_backward_vector<kTaps, kSilu>(p, b, begin, end, c, lanes);
}

template <class T, int kTaps, bool kSilu, class Params>
void conv_items(const Params& p, int64_t first_item, int64_t last_item) {
  const int64_t blocks = causal_conv1d_blocks(p.channels), tiles = causal_conv1d_tiles(p.time);
  for (int64_t item = first_item; item < last_item; ++item) {
    const int64_t b = item / blocks / tiles;
    const int64_t begin = item / blocks % tiles * kCausalConv1dTile, channel = item % blocks * kCausalConv1dBlock;
    const int64_t end = begin + kCausalConv1dTile < p.time ? begin + kCausalConv1dTile : p.time;
    const int64_t channel_end = channel + kCausalConv1dBlock < p.channels ? channel + kCausalConv1dBlock : p.channels;
    for_each_vector<T>(channel, channel_end, [&](int64_t c, const auto& lanes) HWY_ATTR {
      // The few channels of a partial vector are not worth a compilation per number of taps.
      constexpr bool kWhole = std::decay_t<decltype(lanes)>::kWhole;
      conv_vector<kWhole ? kTaps : 0, kSilu>(p, b, begin, end, c, lanes);
    });
  }
}

template <class T, int kTaps, class Params>
void conv_activations(const Params& p, int64_t begin, int64_t end) {
  p.silu ? conv_items<T, kTaps, true>(p, begin, end) : conv_items<T, kTaps, false>(p, begin, end);
}

template <class T, class Params>
void conv_taps(const Params& p, int64_t begin, int64_t end) {
  // Doubles are for checking: right, but without a compilation per number of taps.
  if constexpr (sizeof(T) == 4) {
    if (p.taps == 2) return conv_activations<T, 2>(p, begin, end);
    if (p.taps == 3) return conv_activations<T, 3>(p, begin, end);
    if (p.taps == 4) return conv_activations<T, 4>(p, begin, end);
  }
  conv_activations<T, 0>(p, begin, end);
}

void ConvForwardFloat(const CausalConv1dForward<float>& p, int64_t begin, int64_t end) {
  conv_taps<float>(p, begin, end);
}
void ConvForwardDouble(const CausalConv1dForward<double>& p, int64_t begin, int64_t end) {
  conv_taps<double>(p, begin, end);
}
void ConvBackwardFloat(const CausalConv1dBackward<float>& p, int64_t begin, int64_t end) {
  conv_taps<float>(p, begin, end);
}
void ConvBackwardDouble(const CausalConv1dBackward<double>& p, int64_t begin, int64_t end) {
  conv_taps<double>(p, begin, end);
}

}  // namespace HWY_NAMESPACE
}  // namespace hippodrome
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hippodrome {

HWY_EXPORT(ConvForwardFloat);
HWY_EXPORT(ConvForwardDouble);
HWY_EXPORT(ConvBackwardFloat);
HWY_EXPORT(ConvBackwardDouble);

void causal_conv1d_forward_cpu(const CausalConv1dForward<float>& p, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(ConvForwardFloat)(p, begin, end);
}
void causal_conv1d_forward_cpu(const CausalConv1dForward<double>& p, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(ConvForwardDouble)(p, begin, end);
}
void causal_conv1d_backward_cpu(const CausalConv1dBackward<float>& p, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(ConvBackwardFloat)(p, begin, end);
}
void causal_conv1d_backward_cpu(const CausalConv1dBackward<double>& p, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(ConvBackwardDouble)(p, begin, end);
}

}  // namespace hippodrome
#endif

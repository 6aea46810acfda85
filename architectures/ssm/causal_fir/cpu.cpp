// causal_fir with Highway: vectors across channels. A tile of tokens is gathered behind the window before it (padding
// left out), so that the sums over taps see rows that follow each other and no branch.
#include "core/tensor/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "architectures/ssm/causal_fir/cpu.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "architectures/ssm/causal_fir/op.h"
#include "core/tensor/vector_lanes-inl.h"
#include "hwy/aligned_allocator.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::causal_fir_kernel::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int64_t kGroup = kCausalFirGroup, kTile = kCausalFirTile;
// Side of the square blocks: kBlock sums, 2 kBlock - 1 rows and one more vector fill 24 of 32 registers, or 12 of 16.
constexpr int64_t kBlock = (HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM) ? 8 : 4;
// Source of a row whose gradient nobody wants.
constexpr int64_t kNowhere = INT64_MIN;

// sum[s] += Σ_{l < kBlock} factor[l] row[kSum s + kLoop l], both with rows of kGroup. Every product of this file is
// made of these, so each sum has one order wherever its token stands in a block.
template <int kSum, int kLoop, class D, class T, class V = hn::Vec<D>>
HWY_INLINE void AddBlock(D d, const T* HWY_RESTRICT row, const T* HWY_RESTRICT factor, V (&sum)[kBlock]) {
  constexpr int64_t kFirst = kSum < 0 || kLoop < 0 ? 1 - kBlock : 0;
  V rows[2 * kBlock - 1];
#pragma GCC unroll 16
  for (int64_t r = 0; r < 2 * kBlock - 1; ++r) rows[r] = hn::Load(d, row + (kFirst + r) * kGroup);
#pragma GCC unroll 8
  for (int64_t l = 0; l < kBlock; ++l) {
    const V f = hn::Load(d, factor + l * kGroup);
#pragma GCC unroll 8
    for (int64_t s = 0; s < kBlock; ++s) sum[s] = hn::MulAdd(f, rows[kSum * s + kLoop * l - kFirst], sum[s]);
  }
}

template <class V, class D>
HWY_INLINE void Clear(D d, V (&sum)[kBlock]) {
#pragma GCC unroll 8
  for (int64_t s = 0; s < kBlock; ++s) sum[s] = hn::Zero(d);
}

// The group's channels of one row of a [.., D] matrix, to and from a row of kGroup.
template <class T>
HWY_INLINE void CopyRow(const T* HWY_RESTRICT from, int64_t width, T* HWY_RESTRICT to) {
  if (width == kGroup) {
    std::copy_n(from, kGroup, to);
  } else {
    std::copy_n(from, width, to);
  }
}

// Rows of taps, a multiple of the block; those behind the last tap are zero.
inline int64_t PaddedTaps(int64_t taps) { return (taps + kBlock - 1) / kBlock * kBlock; }

// `count` rows of [count, D], of the group that starts at `from`, to rows of kGroup; lanes behind `width` stay as they
// are.
template <class T>
void CopyRows(const T* from, int64_t channels, int64_t count, int64_t width, T* to) {
  for (int64_t i = 0; i < count; ++i) CopyRow(from + i * channels, width, to + i * kGroup);
}

// The window before a row's first token: the state's K rows behind zeros, `halo` in all.
template <class T>
void LoadWindow(const T* state, int64_t channels, int64_t taps, int64_t halo, int64_t width, T* rows) {
  std::fill_n(rows, halo * kGroup, T(0));
  if (state != nullptr) CopyRows(state, channels, taps, width, rows + (halo - taps) * kGroup);
}

// y[t] = Σ_j weight[j] x[t - j], t < count; x points at the tile's first token. Writes whole blocks.
template <class T>
HWY_NOINLINE void Convolve(const T* weight, int64_t padded_taps, const T* x, int64_t count, T* y) {
  const hn::CappedTag<T, kGroup> d;
  constexpr int64_t kLanes = hn::MaxLanes(d);
  for (int64_t lane = 0; lane < kGroup; lane += kLanes) {
    for (int64_t t = 0; t < count; t += kBlock) {
      hn::Vec<decltype(d)> sum[kBlock];
      Clear(d, sum);
      for (int64_t j = 0; j < padded_taps; j += kBlock) {
        AddBlock<1, -1>(d, x + (t - j) * kGroup + lane, weight + j * kGroup + lane, sum);
      }
#pragma GCC unroll 8
      for (int64_t s = 0; s < kBlock; ++s) hn::Store(sum[s], d, y + (t + s) * kGroup + lane);
    }
  }
}

template <class T>
void Forward(const CausalFirForward<T>& p, int64_t begin, int64_t end) {
  const int64_t K = p.taps, D = p.channels, L = p.length, halo = PaddedTaps(K);
  const auto memory = hwy::AllocateAligned<T>((2 * halo + 2 * kTile) * kGroup);
  T *weight = memory.get(), *x = weight + halo * kGroup, *y = x + (halo + kTile) * kGroup;
  std::fill_n(weight, (2 * halo + kTile) * kGroup, T(0));
  int64_t tokens[kTile];
  for (int64_t item = begin, packed_group = -1; item < end; ++item) {
    const int64_t group = item / p.batch, b = item % p.batch;
    const int64_t channel = group * kGroup, width = std::min(kGroup, D - channel);
    if (group != packed_group) {
      std::fill_n(weight, (2 * halo + kTile) * kGroup, T(0));  // the lanes behind the last channel stay 0
      CopyRows(p.weight + channel, D, K, width, weight);
      packed_group = group;
    }
    LoadWindow(p.state != nullptr ? p.state + b * K * D + channel : nullptr, D, K, halo, width, x);
    int64_t count = 0;
    const auto flush = [&] {
      if (count == 0) return;
      Convolve(weight, halo, x + halo * kGroup, count, y);
      for (int64_t i = 0; i < count; ++i) CopyRow(y + i * kGroup, width, p.y + tokens[i] * D + channel);
      std::copy(x + count * kGroup, x + (count + halo) * kGroup, x);
      count = 0;
    };
    for (int64_t t = b * L; t < (b + 1) * L; ++t) {
      if (p.positions != nullptr && p.positions[t] <= 0) {
        if (p.positions[t] < 0) {
          std::fill_n(p.y + t * D + channel, width, T(0));
          continue;
        }
        flush();
        std::fill_n(x, halo * kGroup, T(0));
      }
      CopyRow(p.x + t * D + channel, width, x + (halo + count) * kGroup);
      tokens[count++] = t;
      if (count == kTile) flush();
    }
    flush();
    for (int64_t k = 0; k < K; ++k) {
      CopyRow(x + (halo - K + k) * kGroup, width, p.last_state + (b * K + k) * D + channel);
    }
  }
}

template <class T>
void Step(const CausalFirForward<T>& p, int64_t begin, int64_t end) {
  const int64_t K = p.taps, D = p.channels, blocks = causal_fir_step_blocks(D);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t b = item / blocks, channel = item % blocks * kCausalFirStepBlock;
    const int64_t channel_end = std::min(channel + kCausalFirStepBlock, D), width = channel_end - channel;
    const int64_t position = p.positions != nullptr ? p.positions[b] : 1;
    const T* before = p.state != nullptr && position != 0 ? p.state + b * K * D : nullptr;
    T* after = p.last_state + b * K * D;
    const auto move = [&](int64_t from, int64_t to) {
      if (before != nullptr) std::copy_n(before + from * D + channel, width, after + to * D + channel);
      if (before == nullptr) std::fill_n(after + to * D + channel, width, T(0));
    };
    if (position < 0) {
      for (int64_t k = 0; k < K; ++k) move(k, k);
      std::fill_n(p.y + b * D + channel, width, T(0));
      continue;
    }
    hippodrome::HWY_NAMESPACE::for_each_vector<T>(channel, channel_end, [&](int64_t c, const auto& lanes) HWY_ATTR {
      auto sum = hn::Mul(lanes.load(p.weight + c), lanes.load(p.x + b * D + c));
      for (int64_t j = 1; j < K && before != nullptr; ++j) {
        sum = hn::MulAdd(lanes.load(p.weight + j * D + c), lanes.load(before + (K - j) * D + c), sum);
      }
      lanes.store(sum, p.y + b * D + c);
    });
    for (int64_t k = 1; k < K; ++k) move(k, k - 1);
    std::copy_n(p.x + b * D + channel, width, after + (K - 1) * D + channel);
  }
}

// One tile, backwards: adds to the gradients of the window's and the tile's rows and to those of the taps. x and grad_x
// point at the window's first row, g at the tile's first token; 2 kBlock rows of zeros stand before g and behind
// `count`.
template <class T>
HWY_NOINLINE void ConvolveBackward(const T* weight, int64_t padded_taps, const T* x, const T* g, int64_t count,
                                   T* grad_x, T* grad_weight) {
  const hn::CappedTag<T, kGroup> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t kLanes = hn::MaxLanes(d);
  const int64_t halo = padded_taps;
  for (int64_t lane = 0; lane < kGroup; lane += kLanes) {
    for (int64_t r = 0; r < halo + count; r += kBlock) {
      V sum[kBlock];
#pragma GCC unroll 8
      for (int64_t s = 0; s < kBlock; ++s) sum[s] = hn::Load(d, grad_x + (r + s) * kGroup + lane);
      // Row r is read by the tokens r - halo + j; those before the tile or behind it have no gradient here.
      const int64_t first = std::max<int64_t>(0, (halo - r) / kBlock - 1) * kBlock;
      for (int64_t j = first; j < padded_taps && r - halo + j < count; j += kBlock) {
        AddBlock<1, 1>(d, g + (r - halo + j) * kGroup + lane, weight + j * kGroup + lane, sum);
      }
#pragma GCC unroll 8
      for (int64_t s = 0; s < kBlock; ++s) hn::Store(sum[s], d, grad_x + (r + s) * kGroup + lane);
    }
    for (int64_t j = 0; j < padded_taps; j += kBlock) {
      V sum[kBlock];
      Clear(d, sum);
      for (int64_t t = 0; t < count; t += kBlock) {
        AddBlock<-1, 1>(d, x + (halo + t - j) * kGroup + lane, g + t * kGroup + lane, sum);
      }
#pragma GCC unroll 8
      for (int64_t s = 0; s < kBlock; ++s) {
        T* at = grad_weight + (j + s) * kGroup + lane;
        hn::Store(hn::Add(hn::Load(d, at), sum[s]), d, at);
      }
    }
  }
}

// Forward in time, with a window of unfinished gradients beside the window of inputs: what leaves the window is
// complete.
template <class T>
void Backward(const CausalFirBackward<T>& p, int64_t begin, int64_t end) {
  const int64_t K = p.taps, D = p.channels, L = p.length, halo = PaddedTaps(K), rows = halo + kTile;
  const int64_t g_rows = kTile + 4 * kBlock, all_rows = 2 * halo + 2 * rows + g_rows;
  const auto memory = hwy::AllocateAligned<T>(all_rows * kGroup);
  T *weight = memory.get(), *grad_weight = weight + halo * kGroup, *x = grad_weight + halo * kGroup;
  T *grad_x = x + rows * kGroup, *g = grad_x + rows * kGroup + 2 * kBlock * kGroup;
  std::vector<int64_t> source(static_cast<size_t>(rows));  // of x's rows: a token, -1-k for the state's row k, kNowhere
  for (int64_t group = begin; group < end; ++group) {
    const int64_t channel = group * kGroup, width = std::min(kGroup, D - channel);
    std::fill_n(weight, all_rows * kGroup, T(0));
    CopyRows(p.weight + channel, D, K, width, weight);
    for (int64_t b = 0; b < p.batch; ++b) {
      T* grad_state = p.grad_state + b * K * D + channel;
      for (int64_t k = 0; k < K; ++k) std::fill_n(grad_state + k * D, width, T(0));
      LoadWindow(p.state != nullptr ? p.state + b * K * D + channel : nullptr, D, K, halo, width, x);
      std::fill_n(grad_x, rows * kGroup, T(0));
      for (int64_t r = 0; r < halo; ++r) source[r] = r < halo - K ? kNowhere : -1 - (r - (halo - K));
      int64_t count = 0;
      // Hands on the gradients of rows [0, n).
      const auto finish = [&](int64_t n) {
        for (int64_t r = 0; r < n; ++r) {
          const T* row = grad_x + r * kGroup;
          if (source[r] >= 0) {
            CopyRow(row, width, p.grad_x + source[r] * D + channel);
          } else if (source[r] != kNowhere) {
            CopyRow(row, width, grad_state + (-1 - source[r]) * D);
          }
        }
      };
      const auto flush = [&] {
        if (count == 0) return;
        std::fill_n(g + count * kGroup, 2 * kBlock * kGroup, T(0));
        ConvolveBackward(weight, halo, x, g, count, grad_x, grad_weight);
        finish(count);
        std::copy(x + count * kGroup, x + (count + halo) * kGroup, x);
        std::copy(grad_x + count * kGroup, grad_x + (count + halo) * kGroup, grad_x);
        std::fill_n(grad_x + halo * kGroup, kTile * kGroup, T(0));
        std::copy(source.begin() + count, source.begin() + count + halo, source.begin());
        count = 0;
      };
      for (int64_t t = b * L; t < (b + 1) * L; ++t) {
        if (p.positions != nullptr && p.positions[t] <= 0) {
          if (p.positions[t] < 0) {
            std::fill_n(p.grad_x + t * D + channel, width, T(0));
            continue;
          }
          flush();
          finish(halo);
          std::fill_n(x, halo * kGroup, T(0));
          std::fill_n(grad_x, halo * kGroup, T(0));
          std::fill_n(source.begin(), halo, kNowhere);
        }
        CopyRow(p.x + t * D + channel, width, x + (halo + count) * kGroup);
        CopyRow(p.grad_y + t * D + channel, width, g + count * kGroup);
        source[halo + count++] = t;
        if (count == kTile) flush();
      }
      flush();
      for (int64_t k = 0; k < K; ++k) {
        const T* last = p.grad_last_state + (b * K + k) * D + channel;
        T* row = grad_x + (halo - K + k) * kGroup;
        for (int64_t i = 0; i < width; ++i) row[i] += last[i];
      }
      finish(halo);
    }
    for (int64_t k = 0; k < K; ++k) CopyRow(grad_weight + k * kGroup, width, p.grad_weight + k * D + channel);
  }
}

#define HIPPODROME_FIR_KERNELS(T, Name)                                                                    \
  void Forward##Name(const CausalFirForward<T>& p, int64_t begin, int64_t end) { Forward(p, begin, end); } \
  void Step##Name(const CausalFirForward<T>& p, int64_t begin, int64_t end) { Step(p, begin, end); }       \
  void Backward##Name(const CausalFirBackward<T>& p, int64_t begin, int64_t end) { Backward(p, begin, end); }
HIPPODROME_FIR_KERNELS(float, Float)
HIPPODROME_FIR_KERNELS(double, Double)
#undef HIPPODROME_FIR_KERNELS

}  // namespace hippodrome::causal_fir_kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hippodrome {
namespace causal_fir_kernel {
#define HIPPODROME_FIR_EXPORTS(Name) \
  HWY_EXPORT(Forward##Name);         \
  HWY_EXPORT(Step##Name);            \
  HWY_EXPORT(Backward##Name);
HIPPODROME_FIR_EXPORTS(Float)
HIPPODROME_FIR_EXPORTS(Double)
#undef HIPPODROME_FIR_EXPORTS
}  // namespace causal_fir_kernel

#define HIPPODROME_FIR_ENTRIES(T, Name)                                                 \
  template <>                                                                           \
  void causal_fir_forward(const CausalFirForward<T>& p, int64_t begin, int64_t end) {   \
    using namespace causal_fir_kernel;                                                  \
    HWY_DYNAMIC_DISPATCH(Forward##Name)(p, begin, end);                                 \
  }                                                                                     \
  template <>                                                                           \
  void causal_fir_step(const CausalFirForward<T>& p, int64_t begin, int64_t end) {      \
    using namespace causal_fir_kernel;                                                  \
    HWY_DYNAMIC_DISPATCH(Step##Name)(p, begin, end);                                    \
  }                                                                                     \
  template <>                                                                           \
  void causal_fir_backward(const CausalFirBackward<T>& p, int64_t begin, int64_t end) { \
    using namespace causal_fir_kernel;                                                  \
    HWY_DYNAMIC_DISPATCH(Backward##Name)(p, begin, end);                                \
  }
HIPPODROME_FIR_ENTRIES(float, Float)
HIPPODROME_FIR_ENTRIES(double, Double)
#undef HIPPODROME_FIR_ENTRIES

}  // namespace hippodrome
#endif  // HWY_ONCE

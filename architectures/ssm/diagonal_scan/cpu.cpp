// The diagonal recurrence with Highway: vectors across channels, a few modes in registers at a time, time innermost. A
// chunk of u is gathered once (padding left out), so the loops over time see runs without a branch.
#include "architectures/ssm/diagonal_scan/op.h"

#include <algorithm>
#include <vector>

// Arrays of vectors need fixed sizes (not SVE or RVV); SSSE3 and AVX3_DL add nothing here.
#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "architectures/ssm/diagonal_scan/cpu.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

#include "architectures/ssm/channel_group-inl.h"
#include "hwy/aligned_allocator.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::diagonal_scan_kernel::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using namespace channel_group::HWY_NAMESPACE;

constexpr int64_t kChunk = kDiagonalScanChunk;
static_assert(kGroup == kDiagonalScanGroup);

// Modes in registers: forward 4 (a, b and x fill 24 of 32 registers, c is read from memory) or 2 with 16 registers;
// backward 2 (16 more for the sums) or 1.
constexpr size_t kForwardModes = (HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM) ? 4 : 2;
constexpr size_t kBackwardModes = kForwardModes / 2;

// parameters [D, N] × 6 → packed [N][6][kGroup], zeros in the lanes behind the last channel.
template <class T>
void PackParameters(const T* const (&parameters)[6], int64_t states, int64_t channel, int64_t width, T* packed) {
  std::fill_n(packed, states * 6 * kGroup, T(0));
  for (int64_t i = 0; i < 6; ++i) {
    for (int64_t lane = 0; lane < width; ++lane) {
      const T* row = parameters[i] + (channel + lane) * states;
      for (int64_t n = 0; n < states; ++n) packed[(n * 6 + i) * kGroup + lane] = row[n];
    }
  }
}

// x ← a x + b u for one mode.
template <class V>
HWY_INLINE void Advance(V ar, V ai, V br, V bi, V u, V& xr, V& xi) {
  const V next = hn::MulAdd(ar, xr, hn::NegMulAdd(ai, xi, hn::Mul(br, u)));
  xi = hn::MulAdd(ar, xi, hn::MulAdd(ai, xr, hn::Mul(bi, u)));
  xr = next;
}

// One chunk of kModes modes: y[t] += Re Σ c x_t. packed and x point at the first mode and the vector's first lane.
template <size_t kModes, class D, class T>
HWY_NOINLINE void ForwardModes(D d, const Chunk& chunk, const T* packed, const T* HWY_RESTRICT u, T* HWY_RESTRICT x,
                               T* HWY_RESTRICT y) {
  using V = hn::Vec<D>;
  V ar[kModes], ai[kModes], br[kModes], bi[kModes], cr[kModes], ci[kModes], xr[kModes], xi[kModes];
  for (size_t k = 0; k < kModes; ++k) {
    const T* parameter = packed + k * 6 * kGroup;
    ar[k] = hn::Load(d, parameter);
    ai[k] = hn::Load(d, parameter + kGroup);
    br[k] = hn::Load(d, parameter + 2 * kGroup);
    bi[k] = hn::Load(d, parameter + 3 * kGroup);
    cr[k] = hn::Load(d, parameter + 4 * kGroup);
    ci[k] = hn::Load(d, parameter + 5 * kGroup);
    xr[k] = hn::Load(d, x + k * 2 * kGroup);
    xi[k] = hn::Load(d, x + k * 2 * kGroup + kGroup);
  }
  for (const Run& run : chunk.runs) {
    if (run.fresh) {
      for (size_t k = 0; k < kModes; ++k) xr[k] = xi[k] = hn::Zero(d);
    }
    for (int64_t t = run.begin; t < run.end; ++t) {
      const V input = hn::Load(d, u + t * kGroup);
      V sum = hn::Load(d, y + t * kGroup);
#pragma GCC unroll 4
      for (size_t k = 0; k < kModes; ++k) {
        Advance(ar[k], ai[k], br[k], bi[k], input, xr[k], xi[k]);
        sum = hn::MulAdd(cr[k], xr[k], hn::NegMulAdd(ci[k], xi[k], sum));
      }
      hn::Store(sum, d, y + t * kGroup);
    }
  }
  for (size_t k = 0; k < kModes; ++k) {
    hn::Store(xr[k], d, x + k * 2 * kGroup);
    hn::Store(xi[k], d, x + k * 2 * kGroup + kGroup);
  }
}

template <class T>
void Forward(const DiagonalScanForward<T>& p, int64_t begin, int64_t end) {
  const hn::CappedTag<T, kGroup> d;
  constexpr int64_t kLanes = hn::MaxLanes(d), kModes = kForwardModes;
  const int64_t N = p.states, D = p.channels, chunks = diagonal_scan_chunks(p.length), groups = diagonal_scan_groups(D);
  const auto memory = hwy::AllocateAligned<T>((8 * N + 2 * kChunk) * kGroup);
  T *packed = memory.get(), *x = packed + 6 * N * kGroup, *u = x + 2 * N * kGroup, *y = u + kChunk * kGroup;
  std::fill_n(u, kChunk * kGroup, T(0));  // the lanes behind the last channel stay 0
  Chunk chunk;
  for (int64_t item = begin, packed_group = -1; item < end; ++item) {
    const int64_t group = item / p.batch, b = item % p.batch;
    const int64_t channel = group * kGroup, width = std::min(kGroup, D - channel);
    if (group != packed_group) {
      PackParameters(p.parameters, N, channel, width, packed);
      std::fill_n(u, kChunk * kGroup, T(0));
      packed_group = group;
    }
    const int64_t state_at = (b * D + channel) * 2 * N;
    LoadLanes(p.state != nullptr ? p.state + state_at : nullptr, 2 * N, width, x);
    for (int64_t c = 0; c < chunks; ++c) {
      if (p.checkpoints != nullptr) {
        std::copy_n(x, 2 * N * kGroup, p.checkpoints + ((b * chunks + c) * groups + group) * 2 * N * kGroup);
      }
      chunk.read(p.positions, b, p.length, c * kChunk, kChunk);
      Gather(chunk, p.u, D, channel, width, T(1), u);
      std::fill_n(y, kChunk * kGroup, T(0));
      for (int64_t lane = 0; lane < kGroup; lane += kLanes) {
        int64_t n = 0;
        for (; n + kModes <= N; n += kModes) {
          ForwardModes<kModes>(d, chunk, packed + n * 6 * kGroup + lane, u + lane, x + n * 2 * kGroup + lane, y + lane);
        }
        for (; n < N; ++n) {
          ForwardModes<1>(d, chunk, packed + n * 6 * kGroup + lane, u + lane, x + n * 2 * kGroup + lane, y + lane);
        }
      }
      Scatter(chunk, y, D, channel, width, T(2), p.y);
    }
    ZeroPadding(p.positions, b, p.length, D, channel, width, p.y);
    StoreLanes(x, 2 * N, width, p.last_state + state_at);
  }
}

template <class T>
void Step(const DiagonalScanForward<T>& p, int64_t begin, int64_t end) {
  const hn::ScalableTag<T> d;
  const int64_t N = p.states, lanes = hn::MaxLanes(d);
  for (int64_t row = begin; row < end; ++row) {
    const int64_t channel = row % p.channels, position = p.positions != nullptr ? p.positions[row / p.channels] : 1;
    const T* before = p.state != nullptr && position != 0 ? p.state + row * 2 * N : nullptr;
    T* after = p.last_state + row * 2 * N;
    if (position < 0) {
      before != nullptr ? std::copy_n(before, 2 * N, after) : std::fill_n(after, 2 * N, T(0));
      p.y[row] = T(0);
      continue;
    }
    const T* parameter[6];
    for (int i = 0; i < 6; ++i) parameter[i] = p.parameters[i] + channel * N;
    const auto u = hn::Set(d, p.u[row]);
    auto sum = hn::Zero(d);
    int64_t n = 0;
    for (; n + lanes <= N; n += lanes) {
      auto xr = hn::Zero(d), xi = hn::Zero(d);
      if (before != nullptr) hn::LoadInterleaved2(d, before + 2 * n, xr, xi);
      Advance(hn::LoadU(d, parameter[0] + n), hn::LoadU(d, parameter[1] + n), hn::LoadU(d, parameter[2] + n),
              hn::LoadU(d, parameter[3] + n), u, xr, xi);
      hn::StoreInterleaved2(xr, xi, d, after + 2 * n);
      sum = hn::MulAdd(hn::LoadU(d, parameter[4] + n), xr, hn::NegMulAdd(hn::LoadU(d, parameter[5] + n), xi, sum));
    }
    T y = hn::GetLane(hn::SumOfLanes(d, sum));
    for (; n < N; ++n) {
      const T xr = before != nullptr ? before[2 * n] : T(0), xi = before != nullptr ? before[2 * n + 1] : T(0);
      after[2 * n] = parameter[0][n] * xr - parameter[1][n] * xi + parameter[2][n] * p.u[row];
      after[2 * n + 1] = parameter[0][n] * xi + parameter[1][n] * xr + parameter[3][n] * p.u[row];
      y += parameter[4][n] * after[2 * n] - parameter[5][n] * after[2 * n + 1];
    }
    p.y[row] = T(2) * y;
  }
}

// One chunk of kModes modes, backwards. `xs` holds the recomputed states: each run's first state, then one per token.
template <size_t kModes, class D, class T>
HWY_NOINLINE void BackwardModes(D d, const Chunk& chunk, const T* packed, const T* HWY_RESTRICT x_before,
                                const T* HWY_RESTRICT u, const T* HWY_RESTRICT dy, T* HWY_RESTRICT xs,
                                T* HWY_RESTRICT lambda, T* HWY_RESTRICT du, T* HWY_RESTRICT sums) {
  using V = hn::Vec<D>;
  constexpr int64_t kLanes = hn::MaxLanes(d), kSlot = 2 * kModes * kLanes;
  V ar[kModes], ai[kModes], br[kModes], bi[kModes], cr[kModes], ci[kModes], lr[kModes], li[kModes];
  {
    V xr[kModes], xi[kModes];
    for (size_t k = 0; k < kModes; ++k) {
      const T* parameter = packed + k * 6 * kGroup;
      ar[k] = hn::Load(d, parameter);
      ai[k] = hn::Load(d, parameter + kGroup);
      br[k] = hn::Load(d, parameter + 2 * kGroup);
      bi[k] = hn::Load(d, parameter + 3 * kGroup);
      cr[k] = hn::Load(d, parameter + 4 * kGroup);
      ci[k] = hn::Load(d, parameter + 5 * kGroup);
      lr[k] = hn::Load(d, lambda + k * 2 * kGroup);
      li[k] = hn::Load(d, lambda + k * 2 * kGroup + kGroup);
      xr[k] = hn::LoadU(d, x_before + k * 2 * kGroup);
      xi[k] = hn::LoadU(d, x_before + k * 2 * kGroup + kGroup);
    }
    T* slot = xs;
    const auto keep = [&] {
      for (size_t k = 0; k < kModes; ++k) {
        hn::Store(xr[k], d, slot + 2 * k * kLanes);
        hn::Store(xi[k], d, slot + (2 * k + 1) * kLanes);
      }
      slot += kSlot;
    };
    for (const Run& run : chunk.runs) {
      if (run.fresh) {
        for (size_t k = 0; k < kModes; ++k) xr[k] = xi[k] = hn::Zero(d);
      }
      keep();
      for (int64_t t = run.begin; t < run.end; ++t) {
        const V input = hn::Load(d, u + t * kGroup);
        for (size_t k = 0; k < kModes; ++k) Advance(ar[k], ai[k], br[k], bi[k], input, xr[k], xi[k]);
        keep();
      }
    }
  }
  V sum[kModes][6];
  for (size_t k = 0; k < kModes; ++k) {
    for (size_t i = 0; i < 6; ++i) sum[k][i] = hn::Zero(d);
  }
  for (size_t r = chunk.runs.size(); r-- > 0;) {
    const Run& run = chunk.runs[r];
    const T* slot = xs + (run.end + static_cast<int64_t>(r)) * kSlot;  // the state after the run's last token
    for (int64_t t = run.end - 1; t >= run.begin; --t, slot -= kSlot) {
      const V input = hn::Load(d, u + t * kGroup), gradient = hn::Load(d, dy + t * kGroup);
      V total = hn::Load(d, du + t * kGroup);
#pragma GCC unroll 2
      for (size_t k = 0; k < kModes; ++k) {
        lr[k] = hn::MulAdd(cr[k], gradient, lr[k]);
        li[k] = hn::NegMulAdd(ci[k], gradient, li[k]);
        const V xr = hn::Load(d, slot - kSlot + 2 * k * kLanes), xi = hn::Load(d, slot - kSlot + (2 * k + 1) * kLanes);
        sum[k][0] = hn::MulAdd(lr[k], xr, hn::MulAdd(li[k], xi, sum[k][0]));
        sum[k][1] = hn::MulAdd(li[k], xr, hn::NegMulAdd(lr[k], xi, sum[k][1]));
        sum[k][2] = hn::MulAdd(lr[k], input, sum[k][2]);
        sum[k][3] = hn::MulAdd(li[k], input, sum[k][3]);
        sum[k][4] = hn::MulAdd(gradient, hn::Load(d, slot + 2 * k * kLanes), sum[k][4]);
        sum[k][5] = hn::NegMulAdd(gradient, hn::Load(d, slot + (2 * k + 1) * kLanes), sum[k][5]);
        total = hn::MulAdd(br[k], lr[k], hn::MulAdd(bi[k], li[k], total));
        const V earlier = hn::MulAdd(ar[k], lr[k], hn::Mul(ai[k], li[k]));
        li[k] = hn::NegMulAdd(ai[k], lr[k], hn::Mul(ar[k], li[k]));
        lr[k] = earlier;
      }
      hn::Store(total, d, du + t * kGroup);
    }
    if (run.fresh) {
      for (size_t k = 0; k < kModes; ++k) lr[k] = li[k] = hn::Zero(d);
    }
  }
  for (size_t k = 0; k < kModes; ++k) {
    hn::Store(lr[k], d, lambda + k * 2 * kGroup);
    hn::Store(li[k], d, lambda + k * 2 * kGroup + kGroup);
    for (size_t i = 0; i < 6; ++i) {
      T* at = sums + (k * 6 + i) * kGroup;
      hn::Store(hn::Add(hn::Load(d, at), sum[k][i]), d, at);
    }
  }
}

template <class T>
void Backward(const DiagonalScanBackward<T>& p, int64_t begin, int64_t end) {
  const hn::CappedTag<T, kGroup> d;
  constexpr int64_t kLanes = hn::MaxLanes(d), kModes = kBackwardModes;
  const int64_t N = p.states, D = p.channels, chunks = diagonal_scan_chunks(p.length), groups = diagonal_scan_groups(D);
  // Each run keeps one state more than it has tokens, and a chunk has at most as many runs as tokens.
  const auto memory = hwy::AllocateAligned<T>((14 * N + 3 * kChunk + 2 * kChunk * 2 * kModes) * kGroup);
  T *packed = memory.get(), *sums = packed + 6 * N * kGroup, *lambda = sums + 6 * N * kGroup;
  T *u = lambda + 2 * N * kGroup, *dy = u + kChunk * kGroup, *du = dy + kChunk * kGroup, *xs = du + kChunk * kGroup;
  Chunk chunk;
  for (int64_t group = begin; group < end; ++group) {
    const int64_t channel = group * kGroup, width = std::min(kGroup, D - channel);
    PackParameters(p.parameters, N, channel, width, packed);
    std::fill_n(sums, 6 * N * kGroup, T(0));
    std::fill_n(u, 2 * kChunk * kGroup, T(0));  // the lanes behind the last channel stay 0
    for (int64_t b = 0; b < p.batch; ++b) {
      const int64_t state_at = (b * D + channel) * 2 * N;
      LoadLanes(p.grad_last_state + state_at, 2 * N, width, lambda);
      for (int64_t c = chunks - 1; c >= 0; --c) {
        const T* x = p.checkpoints + ((b * chunks + c) * groups + group) * 2 * N * kGroup;
        chunk.read(p.positions, b, p.length, c * kChunk, kChunk);
        Gather(chunk, p.u, D, channel, width, T(1), u);
        Gather(chunk, p.grad_y, D, channel, width, T(2), dy);
        std::fill_n(du, kChunk * kGroup, T(0));
        for (int64_t lane = 0; lane < kGroup; lane += kLanes) {
          const auto pass = [&](auto modes, int64_t n) {
            BackwardModes<decltype(modes)::value>(d, chunk, packed + n * 6 * kGroup + lane, x + n * 2 * kGroup + lane,
                                                  u + lane, dy + lane, xs, lambda + n * 2 * kGroup + lane, du + lane,
                                                  sums + n * 6 * kGroup + lane);
          };
          int64_t n = 0;
          for (; n + kModes <= N; n += kModes) pass(std::integral_constant<size_t, kModes>(), n);
          for (; n < N; ++n) pass(std::integral_constant<size_t, 1>(), n);
        }
        Scatter(chunk, du, D, channel, width, T(1), p.grad_u);
      }
      ZeroPadding(p.positions, b, p.length, D, channel, width, p.grad_u);
      StoreLanes(lambda, 2 * N, width, p.grad_state + state_at);
    }
    for (int64_t i = 0; i < 6; ++i) {
      for (int64_t lane = 0; lane < width; ++lane) {
        T* row = p.grad_parameters[i] + (channel + lane) * N;
        for (int64_t n = 0; n < N; ++n) row[n] = sums[(n * 6 + i) * kGroup + lane];
      }
    }
  }
}

#define HIPPODROME_DIAGONAL_KERNELS(T, Name)                                                                  \
  void Forward##Name(const DiagonalScanForward<T>& p, int64_t begin, int64_t end) { Forward(p, begin, end); } \
  void Step##Name(const DiagonalScanForward<T>& p, int64_t begin, int64_t end) { Step(p, begin, end); }       \
  void Backward##Name(const DiagonalScanBackward<T>& p, int64_t begin, int64_t end) { Backward(p, begin, end); }
HIPPODROME_DIAGONAL_KERNELS(float, Float)
HIPPODROME_DIAGONAL_KERNELS(double, Double)
#undef HIPPODROME_DIAGONAL_KERNELS

}  // namespace hippodrome::diagonal_scan_kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hippodrome {
namespace diagonal_scan_kernel {
#define HIPPODROME_DIAGONAL_EXPORTS(Name) \
  HWY_EXPORT(Forward##Name);              \
  HWY_EXPORT(Step##Name);                 \
  HWY_EXPORT(Backward##Name);
HIPPODROME_DIAGONAL_EXPORTS(Float)
HIPPODROME_DIAGONAL_EXPORTS(Double)
#undef HIPPODROME_DIAGONAL_EXPORTS
}  // namespace diagonal_scan_kernel

#define HIPPODROME_DIAGONAL_ENTRIES(T, Name)                                                  \
  template <>                                                                                 \
  void diagonal_scan_forward(const DiagonalScanForward<T>& p, int64_t begin, int64_t end) {   \
    using namespace diagonal_scan_kernel;                                                     \
    HWY_DYNAMIC_DISPATCH(Forward##Name)(p, begin, end);                                       \
  }                                                                                           \
  template <>                                                                                 \
  void diagonal_scan_step(const DiagonalScanForward<T>& p, int64_t begin, int64_t end) {      \
    using namespace diagonal_scan_kernel;                                                     \
    HWY_DYNAMIC_DISPATCH(Step##Name)(p, begin, end);                                          \
  }                                                                                           \
  template <>                                                                                 \
  void diagonal_scan_backward(const DiagonalScanBackward<T>& p, int64_t begin, int64_t end) { \
    using namespace diagonal_scan_kernel;                                                     \
    HWY_DYNAMIC_DISPATCH(Backward##Name)(p, begin, end);                                      \
  }
HIPPODROME_DIAGONAL_ENTRIES(float, Float)
HIPPODROME_DIAGONAL_ENTRIES(double, Double)
#undef HIPPODROME_DIAGONAL_ENTRIES

}  // namespace hippodrome
#endif  // HWY_ONCE

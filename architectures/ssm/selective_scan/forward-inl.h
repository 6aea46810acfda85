// Forward of the selective scan for one instruction set. One lane is one channel; the states of a block of channels
// stay in registers over a chunk of steps, and each step broadcasts B and C. Two paths:
//   scan_block   L > kStepLimit: lanes over channels, time innermost
//   step_block   short inputs (decoding): lanes over states, no transposition of A and of the state
// Complex numbers and zero-order hold go through scan_block, one state at a time (general-inl.h).
#if defined(HIPPODROME_SELECTIVE_SCAN_FORWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HIPPODROME_SELECTIVE_SCAN_FORWARD_INL_H_
#undef HIPPODROME_SELECTIVE_SCAN_FORWARD_INL_H_
#else
#define HIPPODROME_SELECTIVE_SCAN_FORWARD_INL_H_
#endif

#include "architectures/ssm/selective_scan/block-inl.h"
#include "architectures/ssm/selective_scan/general-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::s6 {
namespace HWY_NAMESPACE {

inline constexpr int64_t kStepLimit = 4;

template <class T>
struct ForwardScratch {
  HWY_ALIGN T decay[kMaxStates * kLanes<T>];  // A log2 e, or A in the general form, [N][lanes]
  HWY_ALIGN T state[kMaxStates * kLanes<T>];  // [N][lanes]
  HWY_ALIGN T delta[kChunk * kLanes<T>];      // by valid step, as are the next two
  HWY_ALIGN T delta_u[kChunk * kLanes<T>];
  HWY_ALIGN T y[kChunk * kLanes<T>];
  HWY_ALIGN T u[kChunk * kLanes<T>];  // in the general form only
};

inline int64_t blocks_per_group(int64_t channels_per_group, int64_t lanes) {
  return (channels_per_group + lanes - 1) / lanes;
}

template <class T>
Block forward_block(const Params<T>& p, int64_t item) {
  const int64_t per_group = p.channels / p.groups;
  const int64_t blocks = blocks_per_group(per_group, kLanes<T>);
  Block block;
  block.batch = item / (p.groups * blocks);
  block.group = item / blocks % p.groups;
  const int64_t first = item % blocks * kLanes<T>;
  block.first = block.group * per_group + first;
  block.count = std::min<int64_t>(kLanes<T>, per_group - first);
  return block;
}

// delta, delta u and the skip D u for the steps of a chunk.
template <class T>
HWY_INLINE void prepare_steps(const Params<T>& p, const Block& block, const Steps& steps, ForwardScratch<T>& s) {
  const Tag<T> d;
  const Vector<T> bias = p.delta_bias != nullptr ? load_channels(p.delta_bias + block.first, block.count) : hn::Zero(d);
  const Vector<T> skip = p.D != nullptr ? load_channels(p.D + block.first, block.count) : hn::Zero(d);
  const T* u_rows = p.u.data + block.batch * p.u.batch + block.first;
  for (int64_t i = 0; i < steps.count; ++i) {
    const int64_t t = steps.begin + steps.row[i];
    Vector<T> delta = raw_step_size(p, block, bias, t);
    if (p.delta_softplus) delta = vector_softplus(d, delta, static_cast<T>(kSoftplusThreshold));
    const Vector<T> u = load_channels(u_rows + t * p.u.time, block.count);
    hn::Store(delta, d, s.delta + i * kLanes<T>);
    hn::Store(hn::Mul(delta, u), d, s.delta_u + i * kLanes<T>);
    hn::Store(hn::Mul(skip, u), d, s.y + i * kLanes<T>);
    if (is_general(p)) hn::Store(u, d, s.u + i * kLanes<T>);
  }
}

// Gate, and y out; padding gives zeros.
template <class T>
HWY_INLINE void finish_steps(const Params<T>& p, const Block& block, const Steps& steps, const ForwardScratch<T>& s) {
  const Tag<T> d;
  T* y_rows = p.y + (block.batch * p.length + steps.begin) * p.channels + block.first;
  for (int64_t i = 0; i < steps.count; ++i) {
    Vector<T> y = hn::Load(d, s.y + i * kLanes<T>);
    if (p.z.data != nullptr) {
      const int64_t t = steps.begin + steps.row[i];
      const Vector<T> z = load_channels(p.z.data + block.batch * p.z.batch + t * p.z.time + block.first, block.count);
      y = hn::Mul(y, hn::Mul(z, vector_sigmoid(d, z)));
    }
    store_channels(y, y_rows + steps.row[i] * p.channels, block.count);
  }
  if (steps.count == steps.end - steps.begin) return;
  for (int64_t r = 0; r < steps.end - steps.begin; ++r) {
    if (steps.padding[r]) store_channels(hn::Zero(d), y_rows + r * p.channels, block.count);
  }
}

// Rows of the next chunk lie a whole [D] row apart, a pattern the hardware does not fetch ahead.
template <class T>
HWY_INLINE void prefetch_next_chunk(const Params<T>& p, const Block& block, int64_t t) {
  t += kChunk;
  if (t >= p.length) return;
  hwy::Prefetch(p.u.data + block.batch * p.u.batch + t * p.u.time + block.first);
  hwy::Prefetch(p.delta.data + block.batch * p.delta.batch + t * p.delta.time + block.first);
  if (p.z.data != nullptr) hwy::Prefetch(p.z.data + block.batch * p.z.batch + t * p.z.time + block.first);
  hwy::Prefetch(p.y + (block.batch * p.length + t) * p.channels + block.first);
}

// States [n0, n0 + kStates) over a chunk, held in registers; adds sum_n C h to y.
template <int kStates, class T>
HWY_INLINE void advance_states(const Params<T>& p, const Block& block, const Steps& steps, int64_t n0,
                               ForwardScratch<T>& s) {
  const Tag<T> d;
  const T* B_rows = p.B.data + block.batch * p.B.batch + block.group * p.B.group + steps.begin * p.B.time + n0;
  const T* C_rows = p.C.data + block.batch * p.C.batch + block.group * p.C.group + steps.begin * p.C.time + n0;
  const T* decay = s.decay + n0 * kLanes<T>;
  Vector<T> h[kStates];
  HIPPODROME_UNROLL
  for (int n = 0; n < kStates; ++n) h[n] = hn::Load(d, s.state + (n0 + n) * kLanes<T>);
  for (int64_t i = 0; i < steps.count; ++i) {
    if (n0 == 0) prefetch_next_chunk(p, block, steps.begin + steps.row[i]);
    const T* B = B_rows + steps.row[i] * p.B.time;
    const T* C = C_rows + steps.row[i] * p.C.time;
    if (HWY_UNLIKELY(steps.reset[i])) {
      HIPPODROME_UNROLL
      for (int n = 0; n < kStates; ++n) h[n] = hn::Zero(d);
    }
    const Vector<T> delta = hn::Load(d, s.delta + i * kLanes<T>);
    const Vector<T> delta_u = hn::Load(d, s.delta_u + i * kLanes<T>);
    Vector<T> y = hn::Load(d, s.y + i * kLanes<T>);
    HIPPODROME_UNROLL
    for (int n = 0; n < kStates; ++n) {
      const Vector<T> abar = vector_exp2(d, hn::Mul(delta, hn::Load(d, decay + n * kLanes<T>)));
      h[n] = hn::MulAdd(abar, h[n], hn::Mul(delta_u, hn::Set(d, B[n])));
      y = hn::MulAdd(hn::Set(d, C[n]), h[n], y);
    }
    hn::Store(y, d, s.y + i * kLanes<T>);
  }
  HIPPODROME_UNROLL
  for (int n = 0; n < kStates; ++n) hn::Store(h[n], d, s.state + (n0 + n) * kLanes<T>);
}

template <class T>
void scan_block(const Params<T>& p, const Block& block, ForwardScratch<T>& s) {
  const Tag<T> d;
  const int64_t N = p.states;
  const int64_t first_row = block.batch * p.channels + block.first;
  load_states(p.A + block.first * N, block.count, N, is_general(p) ? T(1) : std::numbers::log2e_v<T>, s.decay);
  load_states(p.initial_state != nullptr ? p.initial_state + first_row * N : nullptr, block.count, N, T(1), s.state);
  const int64_t chunk_count = chunks(p.length);
  Steps steps;
  for (int64_t chunk = 0; chunk < chunk_count; ++chunk) {
    if (p.checkpoints != nullptr) {
      T* to = p.checkpoints + (block.batch * chunk_count + chunk) * N * p.channels + block.first;
      for (int64_t n = 0; n < N; ++n) {
        store_channels(hn::Load(d, s.state + n * kLanes<T>), to + n * p.channels, block.count);
      }
    }
    steps.find(p, block.batch, chunk);
    prepare_steps(p, block, steps, s);
    if (is_general(p)) {
      advance_general(p, block, steps, s);
      finish_steps(p, block, steps, s);
      continue;
    }
    // Sixteen states fill the registers of AVX-512; with sixteen registers, eight states are what fits.
    constexpr int kMost = HWY_MAX_BYTES == 64 ? 16 : 8;
    int64_t n = 0;
    for (; n + kMost <= N; n += kMost) advance_states<kMost>(p, block, steps, n, s);
    if constexpr (kMost > 8) {
      if (n + 8 <= N) advance_states<8>(p, block, steps, n, s), n += 8;
    }
    if (n + 4 <= N) advance_states<4>(p, block, steps, n, s), n += 4;
    if (n + 2 <= N) advance_states<2>(p, block, steps, n, s), n += 2;
    if (n < N) advance_states<1>(p, block, steps, n, s);
    finish_steps(p, block, steps, s);
  }
  store_states(s.state, block.count, N, p.last_state + first_row * N);
}

// One channel, one step, states [n, N) in vectors of at most kCap lanes, then of half as many: returns sum_n C h.
template <size_t kCap, class T>
HWY_INLINE T step_states(const T* decay, const T* B, const T* C, const T* before, T* after, int64_t n, int64_t N,
                         T delta_log2e, T delta_u) {
  const hn::CappedTag<T, kCap> d;
  const int64_t lanes = hn::Lanes(d);
  T sum = T(0);
  if (n + lanes <= N) {
    auto sums = hn::Zero(d);
    for (; n + lanes <= N; n += lanes) {
      const auto abar = vector_exp2(d, hn::Mul(hn::Set(d, delta_log2e), hn::LoadU(d, decay + n)));
      const auto input = hn::Mul(hn::Set(d, delta_u), hn::LoadU(d, B + n));
      const auto h = before != nullptr ? hn::MulAdd(abar, hn::LoadU(d, before + n), input) : input;
      hn::StoreU(h, d, after + n);
      sums = hn::MulAdd(hn::LoadU(d, C + n), h, sums);
    }
    sum = hn::GetLane(hn::SumOfLanes(d, sums));
  }
  if constexpr (kCap > 1) {
    if (n < N) sum += step_states<kCap / 2>(decay, B, C, before, after, n, N, delta_log2e, delta_u);
  }
  return sum;
}

template <class T>
void step_block(const Params<T>& p, const Block& block, ForwardScratch<T>& s) {
  const int64_t N = p.states;
  const int64_t first_row = block.batch * p.channels + block.first;
  T* state = p.last_state + first_row * N;
  const T* before = p.initial_state != nullptr ? p.initial_state + first_row * N : nullptr;
  Steps steps;
  steps.find(p, block.batch, 0);
  prepare_steps(p, block, steps, s);
  for (int64_t i = 0; i < steps.count; ++i) {
    const int64_t t = steps.row[i];
    const T* B = p.B.data + block.batch * p.B.batch + block.group * p.B.group + t * p.B.time;
    const T* C = p.C.data + block.batch * p.C.batch + block.group * p.C.group + t * p.C.time;
    if (steps.reset[i]) before = nullptr;
    for (int64_t j = 0; j < block.count; ++j) {
      s.y[i * kLanes<T> + j] += step_states<static_cast<size_t>(kLanes<T>)>(
          p.A + (block.first + j) * N, B, C, before != nullptr ? before + j * N : nullptr, state + j * N, 0, N,
          s.delta[i * kLanes<T> + j] * std::numbers::log2e_v<T>, s.delta_u[i * kLanes<T> + j]);
    }
    before = state;
  }
  if (steps.count == 0) {
    for (int64_t i = 0; i < block.count * N; ++i) state[i] = before != nullptr ? before[i] : T(0);
  }
  finish_steps(p, block, steps, s);
}

template <class T>
void forward_range(const Params<T>& p, int64_t begin, int64_t end) {
  ForwardScratch<T> scratch;
  for (int64_t item = begin; item < end; ++item) {
    const Block block = forward_block(p, item);
    if (p.length <= kStepLimit && p.checkpoints == nullptr && !is_general(p)) {
      step_block(p, block, scratch);
    } else {
      scan_block(p, block, scratch);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace hippodrome::s6
HWY_AFTER_NAMESPACE();
#endif

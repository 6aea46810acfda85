// Backward of the selective scan for one instruction set. A work item is a superblock of channels in one batch row.
// Chunks go from last to first; within a chunk, for each block of channels (one lane each) and four states at a time:
//   replay   from the kept state, forward: keeps abar and h_{t-1} of each step, adds to y and to dC
//   reverse  the recurrence of g, backward: adds to sum_n g B, sum_n g A p, dB and dA
// dB and dC need a sum over lanes. Interleaving four vectors reduces each to its 128-bit blocks, and those sums are
// accumulated over the blocks of channels of the item; the last few additions happen once per chunk. Complex numbers
// and zero-order hold go one state at a time (general-inl.h): there dB and dC are [step][N], and sum_gB and sum_gAp
// hold du without the skip and ddelta.
#if defined(HIPPODROME_SELECTIVE_SCAN_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HIPPODROME_SELECTIVE_SCAN_BACKWARD_INL_H_
#undef HIPPODROME_SELECTIVE_SCAN_BACKWARD_INL_H_
#else
#define HIPPODROME_SELECTIVE_SCAN_BACKWARD_INL_H_
#endif

#include "architectures/ssm/selective_scan/block-inl.h"
#include "architectures/ssm/selective_scan/general-inl.h"
#include "hwy/aligned_allocator.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::s6 {
namespace HWY_NAMESPACE {

inline constexpr int kStatesAtOnce = 4;

// Arrays over the valid steps of a chunk, [step][lanes].
template <class T>
struct ChunkArrays {
  HWY_ALIGN T delta[kChunk * kLanes<T>];
  HWY_ALIGN T delta_u[kChunk * kLanes<T>];
  HWY_ALIGN T u[kChunk * kLanes<T>];         // in the general form only
  HWY_ALIGN T dy[kChunk * kLanes<T>];        // gradient of y before the gate
  HWY_ALIGN T dz_per_y[kChunk * kLanes<T>];  // dz = y_ungated * this
  HWY_ALIGN T y[kChunk * kLanes<T>];         // before the gate
  HWY_ALIGN T sum_gB[kChunk * kLanes<T>];    // sum_n g B
  HWY_ALIGN T sum_gAp[kChunk * kLanes<T>];   // sum_n g A log2(e) p
  HWY_ALIGN T abar[kChunk * kStatesAtOnce * kLanes<T>];
  HWY_ALIGN T before[kChunk * kStatesAtOnce * kLanes<T>];  // h_{t-1}; zero where a sequence starts
};

// What a work item carries from chunk to chunk for each of its blocks of channels, and its sums of a chunk.
template <class T>
class ItemArrays {
 public:
  explicit ItemArrays(int64_t states)
      : states_(states),
        reduced_((states + kPerReduced - 1) / kPerReduced),
        memory_(hwy::AllocateAligned<T>(kBlocks * (3 * states + 2) * kLanes<T> + 2 * kChunk * reduced_ * kLanes<T>)) {}

  // States per reduced vector: the lanes of a 128-bit block.
  static constexpr int64_t kPerReduced = HWY_TARGET == HWY_SCALAR ? 1 : 16 / sizeof(T);
  static constexpr int64_t kBlocks = kSuperblock / kLanes<T>;

  int64_t reduced() const { return reduced_; }
  T* decay(int64_t block) { return at(block * 3 * states_); }        // A log2 e, [N][lanes]
  T* carry(int64_t block) { return at((block * 3 + 1) * states_); }  // abar_{t+1} g_{t+1}, [N][lanes]
  T* dA(int64_t block) { return at((block * 3 + 2) * states_); }     // [N][lanes]
  T* dD(int64_t block) { return at(kBlocks * 3 * states_ + block * 2); }
  T* dbias(int64_t block) { return at(kBlocks * 3 * states_ + block * 2 + 1); }
  T* dB() { return at(kBlocks * (3 * states_ + 2)); }  // [step][reduced][lanes]
  T* dC() { return at(kBlocks * (3 * states_ + 2) + kChunk * reduced_); }

 private:
  T* at(int64_t vector) { return memory_.get() + vector * kLanes<T>; }

  int64_t states_;
  int64_t reduced_;
  hwy::AlignedFreeUniquePtr<T[]> memory_;
};

#if HWY_TARGET == HWY_SCALAR
template <class T>
HWY_INLINE hn::Vec1<T> reduce_blocks(const hn::Vec1<T>* v) {
  return v[0];
}
#else
// Each 128-bit block of the result holds the sums over that block of a, b, c, d: [sum a, sum b, sum c, sum d].
HWY_INLINE Vector<float> reduce_blocks(const Vector<float>* v) {
  const Tag<float> d;
  const hn::Repartition<uint64_t, Tag<float>> pairs;
  const auto ab = hn::BitCast(pairs, hn::Add(hn::InterleaveLower(d, v[0], v[1]), hn::InterleaveUpper(d, v[0], v[1])));
  const auto cd = hn::BitCast(pairs, hn::Add(hn::InterleaveLower(d, v[2], v[3]), hn::InterleaveUpper(d, v[2], v[3])));
  return hn::Add(hn::BitCast(d, hn::InterleaveLower(pairs, ab, cd)),
                 hn::BitCast(d, hn::InterleaveUpper(pairs, ab, cd)));
}
HWY_INLINE Vector<double> reduce_blocks(const Vector<double>* v) {
  const Tag<double> d;
  return hn::Add(hn::InterleaveLower(d, v[0], v[1]), hn::InterleaveUpper(d, v[0], v[1]));
}
#endif

// Adds the reduction of four states' vectors to their places in a [reduced][lanes] row.
template <int kStates, class T>
HWY_INLINE void add_reduced(const Vector<T>* v, T* row) {
  const Tag<T> d;
  constexpr int kPer = ItemArrays<T>::kPerReduced;
  HIPPODROME_UNROLL
  for (int n = 0; n < kStates; n += kPer) {
    T* to = row + n / kPer * kLanes<T>;
    hn::Store(hn::Add(hn::Load(d, to), reduce_blocks(v + n)), d, to);
  }
}

// The gradient of y before the gate, the factors of dz and the step sizes of a chunk.
template <class T>
void prepare_backward(const Params<T>& p, const Gradients<T>& grad, const Block& block, const Steps& steps,
                      ChunkArrays<T>& s) {
  const Tag<T> d;
  const Vector<T> bias = p.delta_bias != nullptr ? load_channels(p.delta_bias + block.first, block.count) : hn::Zero(d);
  const Vector<T> skip = p.D != nullptr ? load_channels(p.D + block.first, block.count) : hn::Zero(d);
  for (int64_t i = 0; i < steps.count; ++i) {
    const int64_t t = steps.begin + steps.row[i];
    Vector<T> delta = raw_step_size(p, block, bias, t);
    if (p.delta_softplus) delta = vector_softplus(d, delta, static_cast<T>(kSoftplusThreshold));
    const Vector<T> u = load_channels(p.u.data + block.batch * p.u.batch + t * p.u.time + block.first, block.count);
    Vector<T> dy = hn::Zero(d);
    if (grad.y.data != nullptr) {
      dy = load_channels(grad.y.data + block.batch * grad.y.batch + t * grad.y.time + block.first, block.count);
    }
    if (p.z.data != nullptr) {
      const Vector<T> z = load_channels(p.z.data + block.batch * p.z.batch + t * p.z.time + block.first, block.count);
      const Vector<T> gate = vector_sigmoid(d, z);
      const Vector<T> dy_gate = hn::Mul(dy, gate);
      const Vector<T> one = hn::Set(d, 1);
      hn::Store(hn::Mul(dy_gate, hn::MulAdd(z, hn::Sub(one, gate), one)), d, s.dz_per_y + i * kLanes<T>);
      dy = hn::Mul(dy_gate, z);
    }
    hn::Store(delta, d, s.delta + i * kLanes<T>);
    hn::Store(hn::Mul(delta, u), d, s.delta_u + i * kLanes<T>);
    if (is_general(p)) hn::Store(u, d, s.u + i * kLanes<T>);
    hn::Store(dy, d, s.dy + i * kLanes<T>);
    hn::Store(hn::Mul(skip, u), d, s.y + i * kLanes<T>);
    hn::Store(hn::Zero(d), d, s.sum_gB + i * kLanes<T>);
    hn::Store(hn::Zero(d), d, s.sum_gAp + i * kLanes<T>);
  }
}

// States [n0, n0 + kStates) forward through a chunk.
template <int kStates, class T>
HWY_INLINE void replay(const Params<T>& p, const Block& block, const Steps& steps, int64_t chunk, int64_t n0,
                       const T* decay, ChunkArrays<T>& s, ItemArrays<T>& item) {
  const Tag<T> d;
  const T* B_rows = p.B.data + block.batch * p.B.batch + block.group * p.B.group + steps.begin * p.B.time + n0;
  const T* C_rows = p.C.data + block.batch * p.C.batch + block.group * p.C.group + steps.begin * p.C.time + n0;
  const T* checkpoint =
      p.checkpoints + ((block.batch * chunks(p.length) + chunk) * p.states + n0) * p.channels + block.first;
  T* dC_rows = item.dC() + n0 / ItemArrays<T>::kPerReduced * kLanes<T>;
  Vector<T> h[kStates];
  Vector<T> A[kStates];
  HIPPODROME_UNROLL
  for (int n = 0; n < kStates; ++n) {
    h[n] = load_channels(checkpoint + n * p.channels, block.count);
    A[n] = hn::Load(d, decay + (n0 + n) * kLanes<T>);
  }
  for (int64_t i = 0; i < steps.count; ++i) {
    const T* B = B_rows + steps.row[i] * p.B.time;
    const T* C = C_rows + steps.row[i] * p.C.time;
    if (HWY_UNLIKELY(steps.reset[i])) {
      HIPPODROME_UNROLL
      for (int n = 0; n < kStates; ++n) h[n] = hn::Zero(d);
    }
    const Vector<T> delta = hn::Load(d, s.delta + i * kLanes<T>);
    const Vector<T> delta_u = hn::Load(d, s.delta_u + i * kLanes<T>);
    const Vector<T> dy = hn::Load(d, s.dy + i * kLanes<T>);
    Vector<T> y = hn::Load(d, s.y + i * kLanes<T>);
    Vector<T> dC[kStatesAtOnce];
    HIPPODROME_UNROLL
    for (int n = 0; n < kStatesAtOnce; ++n) {
      if (n >= kStates) {
        dC[n] = hn::Zero(d);
        continue;
      }
      const Vector<T> abar = vector_exp2(d, hn::Mul(delta, A[n]));
      hn::Store(abar, d, s.abar + (i * kStatesAtOnce + n) * kLanes<T>);
      hn::Store(h[n], d, s.before + (i * kStatesAtOnce + n) * kLanes<T>);
      h[n] = hn::MulAdd(abar, h[n], hn::Mul(delta_u, hn::Set(d, B[n])));
      y = hn::MulAdd(hn::Set(d, C[n]), h[n], y);
      dC[n] = hn::Mul(dy, h[n]);
    }
    hn::Store(y, d, s.y + i * kLanes<T>);
    add_reduced<kStates>(dC, dC_rows + i * item.reduced() * kLanes<T>);
  }
}

// The same states backward through the chunk.
template <int kStates, class T>
HWY_INLINE void reverse(const Params<T>& p, const Block& block, const Steps& steps, int64_t n0, const T* decay,
                        T* carry_rows, T* dA_rows, ChunkArrays<T>& s, ItemArrays<T>& item) {
  const Tag<T> d;
  const T* B_rows = p.B.data + block.batch * p.B.batch + block.group * p.B.group + steps.begin * p.B.time + n0;
  const T* C_rows = p.C.data + block.batch * p.C.batch + block.group * p.C.group + steps.begin * p.C.time + n0;
  T* dB_rows = item.dB() + n0 / ItemArrays<T>::kPerReduced * kLanes<T>;
  Vector<T> carry[kStates];
  Vector<T> dA[kStates];
  Vector<T> A[kStates];
  HIPPODROME_UNROLL
  for (int n = 0; n < kStates; ++n) {
    carry[n] = hn::Load(d, carry_rows + (n0 + n) * kLanes<T>);
    dA[n] = hn::Load(d, dA_rows + (n0 + n) * kLanes<T>);
    A[n] = hn::Load(d, decay + (n0 + n) * kLanes<T>);
  }
  for (int64_t i = steps.count - 1; i >= 0; --i) {
    const T* B = B_rows + steps.row[i] * p.B.time;
    const T* C = C_rows + steps.row[i] * p.C.time;
    const Vector<T> delta = hn::Load(d, s.delta + i * kLanes<T>);
    const Vector<T> delta_u = hn::Load(d, s.delta_u + i * kLanes<T>);
    const Vector<T> dy = hn::Load(d, s.dy + i * kLanes<T>);
    Vector<T> sum_gB = hn::Load(d, s.sum_gB + i * kLanes<T>);
    Vector<T> sum_gAp = hn::Load(d, s.sum_gAp + i * kLanes<T>);
    Vector<T> dB[kStatesAtOnce];
    HIPPODROME_UNROLL
    for (int n = 0; n < kStatesAtOnce; ++n) {
      if (n >= kStates) {
        dB[n] = hn::Zero(d);
        continue;
      }
      const Vector<T> g = hn::MulAdd(dy, hn::Set(d, C[n]), carry[n]);
      dB[n] = hn::Mul(g, delta_u);
      sum_gB = hn::MulAdd(g, hn::Set(d, B[n]), sum_gB);
      carry[n] = hn::Mul(hn::Load(d, s.abar + (i * kStatesAtOnce + n) * kLanes<T>), g);
      // g p = (abar g) h_{t-1}
      const Vector<T> gp = hn::Mul(carry[n], hn::Load(d, s.before + (i * kStatesAtOnce + n) * kLanes<T>));
      sum_gAp = hn::MulAdd(gp, A[n], sum_gAp);
      dA[n] = hn::MulAdd(gp, delta, dA[n]);
    }
    if (HWY_UNLIKELY(steps.reset[i])) {
      HIPPODROME_UNROLL
      for (int n = 0; n < kStates; ++n) carry[n] = hn::Zero(d);
    }
    hn::Store(sum_gB, d, s.sum_gB + i * kLanes<T>);
    hn::Store(sum_gAp, d, s.sum_gAp + i * kLanes<T>);
    add_reduced<kStates>(dB, dB_rows + i * item.reduced() * kLanes<T>);
  }
  HIPPODROME_UNROLL
  for (int n = 0; n < kStates; ++n) {
    hn::Store(carry[n], d, carry_rows + (n0 + n) * kLanes<T>);
    hn::Store(dA[n], d, dA_rows + (n0 + n) * kLanes<T>);
  }
}

// du, ddelta, dz of a chunk, and the sums for dD and ddelta_bias.
template <class T>
void finish_backward(const Params<T>& p, const Gradients<T>& grad, const Block& block, const Steps& steps,
                     const ChunkArrays<T>& s, T* dD_sum, T* dbias_sum) {
  const Tag<T> d;
  const Vector<T> bias = p.delta_bias != nullptr ? load_channels(p.delta_bias + block.first, block.count) : hn::Zero(d);
  const Vector<T> skip = p.D != nullptr ? load_channels(p.D + block.first, block.count) : hn::Zero(d);
  const int64_t base = (block.batch * p.length + steps.begin) * p.channels + block.first;
  Vector<T> dD = hn::Load(d, dD_sum);
  Vector<T> dbias = hn::Load(d, dbias_sum);
  for (int64_t i = steps.count - 1; i >= 0; --i) {
    const int64_t t = steps.begin + steps.row[i];
    const int64_t at = base + steps.row[i] * p.channels;
    const Vector<T> u = load_channels(p.u.data + block.batch * p.u.batch + t * p.u.time + block.first, block.count);
    const Vector<T> dy = hn::Load(d, s.dy + i * kLanes<T>);
    const Vector<T> sum_gB = hn::Load(d, s.sum_gB + i * kLanes<T>);
    Vector<T> du = hn::MulAdd(hn::Load(d, s.delta + i * kLanes<T>), sum_gB, hn::Mul(skip, dy));
    Vector<T> ddelta =
        hn::MulAdd(u, sum_gB, hn::Mul(hn::Set(d, std::numbers::ln2_v<T>), hn::Load(d, s.sum_gAp + i * kLanes<T>)));
    if (is_general(p)) {
      du = hn::MulAdd(skip, dy, sum_gB);
      ddelta = hn::Load(d, s.sum_gAp + i * kLanes<T>);
    }
    if (p.delta_softplus) {
      const Vector<T> raw = raw_step_size(p, block, bias, t);
      const auto identity = hn::Gt(raw, hn::Set(d, static_cast<T>(kSoftplusThreshold)));
      ddelta = hn::IfThenElse(identity, ddelta, hn::Mul(ddelta, vector_sigmoid(d, raw)));
    }
    dD = hn::MulAdd(dy, u, dD);
    dbias = hn::Add(dbias, ddelta);
    store_channels(du, grad.u + at, block.count);
    store_channels(ddelta, grad.delta + at, block.count);
    if (grad.z != nullptr) {
      const Vector<T> dz = hn::Mul(hn::Load(d, s.y + i * kLanes<T>), hn::Load(d, s.dz_per_y + i * kLanes<T>));
      store_channels(dz, grad.z + at, block.count);
    }
  }
  hn::Store(dD, d, dD_sum);
  hn::Store(dbias, d, dbias_sum);
  if (steps.count == steps.end - steps.begin) return;
  for (int64_t r = 0; r < steps.end - steps.begin; ++r) {
    if (!steps.padding[r]) continue;
    store_channels(hn::Zero(d), grad.u + base + r * p.channels, block.count);
    store_channels(hn::Zero(d), grad.delta + base + r * p.channels, block.count);
    if (grad.z != nullptr) store_channels(hn::Zero(d), grad.z + base + r * p.channels, block.count);
  }
}

// Sums the 128-bit blocks and writes the chunk's rows of a partial dB or dC, [L, N]; padding rows are zero. With no
// reduced vectors the sums are there already, [step][N].
template <class T>
void write_partial(const Steps& steps, const T* sums, int64_t states, int64_t reduced, T* partial) {
  constexpr int64_t kPer = ItemArrays<T>::kPerReduced;
  if (steps.count != steps.end - steps.begin) {
    std::fill(partial + steps.begin * states, partial + steps.end * states, T(0));
  }
  for (int64_t i = 0; i < steps.count; ++i) {
    T* to = partial + (steps.begin + steps.row[i]) * states;
    if (reduced == 0) {
      std::copy(sums + i * states, sums + (i + 1) * states, to);
      continue;
    }
    const T* row = sums + i * reduced * kLanes<T>;
    for (int64_t n = 0; n < states; ++n) {
      const T* from = row + n / kPer * kLanes<T> + n % kPer;
      T sum = from[0];
      for (int64_t lane = kPer; lane < kLanes<T>; lane += kPer) sum += from[lane];
      to[n] = sum;
    }
  }
}

template <class T>
void backward_item(const Params<T>& p, const Gradients<T>& grad, int64_t index, ItemArrays<T>& item,
                   ChunkArrays<T>& s) {
  const int64_t N = p.states;
  const int64_t per_group = p.channels / p.groups;
  const int64_t superblock_count = superblocks(p.channels, p.groups);
  const int64_t batch = index / (p.groups * superblock_count);
  const int64_t group = index / superblock_count % p.groups;
  const int64_t begin = index % superblock_count * kSuperblock;
  const int64_t end = std::min(begin + kSuperblock, per_group);
  const int64_t block_count = (end - begin + kLanes<T> - 1) / kLanes<T>;
  const auto block_of = [&](int64_t k) {
    const int64_t first = begin + k * kLanes<T>;
    return Block{batch, group, group * per_group + first, std::min<int64_t>(kLanes<T>, end - first)};
  };

  for (int64_t k = 0; k < block_count; ++k) {
    const Block block = block_of(k);
    const int64_t row = batch * p.channels + block.first;
    load_states(p.A + block.first * N, block.count, N, is_general(p) ? T(1) : std::numbers::log2e_v<T>, item.decay(k));
    load_states(grad.last_state != nullptr ? grad.last_state + row * N : nullptr, block.count, N, T(1), item.carry(k));
    std::fill(item.dA(k), item.dA(k) + N * kLanes<T>, T(0));
    std::fill(item.dD(k), item.dD(k) + kLanes<T>, T(0));
    std::fill(item.dbias(k), item.dbias(k) + kLanes<T>, T(0));
  }
  Steps steps;
  for (int64_t chunk = chunks(p.length) - 1; chunk >= 0; --chunk) {
    steps.find(p, batch, chunk);
    std::fill(item.dB(), item.dB() + 2 * kChunk * item.reduced() * kLanes<T>, T(0));
    for (int64_t k = 0; k < block_count; ++k) {
      const Block block = block_of(k);
      prepare_backward(p, grad, block, steps, s);
      const auto states = [&]<int kStates>(int64_t n0) {
        replay<kStates>(p, block, steps, chunk, n0, item.decay(k), s, item);
        reverse<kStates>(p, block, steps, n0, item.decay(k), item.carry(k), item.dA(k), s, item);
      };
      int64_t n = 0;
      if (is_general(p)) {
        backward_general(p, block, steps, chunk, item.decay(k), item.carry(k), item.dA(k), item.dB(), item.dC(), s);
        n = N;
      }
      for (; n + 4 <= N; n += 4) states.template operator()<4>(n);
      if (N - n == 3) states.template operator()<3>(n);
      if (N - n == 2) states.template operator()<2>(n);
      if (N - n == 1) states.template operator()<1>(n);
      finish_backward(p, grad, block, steps, s, item.dD(k), item.dbias(k));
    }
    const int64_t reduced = is_general(p) ? 0 : item.reduced();
    write_partial(steps, item.dB(), N, reduced, grad.B + index * p.length * N);
    write_partial(steps, item.dC(), N, reduced, grad.C + index * p.length * N);
  }
  const Tag<T> d;
  for (int64_t k = 0; k < block_count; ++k) {
    const Block block = block_of(k);
    const int64_t row = batch * p.channels + block.first;
    if (grad.initial_state != nullptr) store_states(item.carry(k), block.count, N, grad.initial_state + row * N);
    for (int64_t n = 0; n < N; ++n) {
      store_channels(hn::Load(d, item.dA(k) + n * kLanes<T>), grad.A + (batch * N + n) * p.channels + block.first,
                     block.count);
    }
    if (grad.D != nullptr) store_channels(hn::Load(d, item.dD(k)), grad.D + row, block.count);
    if (grad.delta_bias != nullptr) store_channels(hn::Load(d, item.dbias(k)), grad.delta_bias + row, block.count);
  }
}

template <class T>
void backward_range(const Params<T>& p, const Gradients<T>& grad, int64_t begin, int64_t end) {
  ItemArrays<T> item(p.states);
  ChunkArrays<T> scratch;
  for (int64_t index = begin; index < end; ++index) backward_item(p, grad, index, item, scratch);
}

}  // namespace HWY_NAMESPACE
}  // namespace hippodrome::s6
HWY_AFTER_NAMESPACE();
#endif

// Forward of SSD for one instruction set. Two paths:
//   scan_item   L > kStepLimit: tiles of steps as matrix products, the states of an item's heads kept between them
//   step_item   short inputs (decoding): the recurrence itself, lanes over states, no transposition of the state
#if defined(HIPPODROME_SSD_FORWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HIPPODROME_SSD_FORWARD_INL_H_
#undef HIPPODROME_SSD_FORWARD_INL_H_
#else
#define HIPPODROME_SSD_FORWARD_INL_H_
#endif

#include "architectures/ssm/ssd/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::ssd_kernel {
namespace HWY_NAMESPACE {

inline constexpr int64_t kStepLimit = 4;

template <class T>
struct ForwardScratch {
  explicit ForwardScratch(const Params<T>& p)
      : N(p.states),
        P(p.head_size),
        N_row(padded<T>(N)),
        P_row(padded<T>(P)),
        arena(2 * kTile * N_row + N * kTile + 2 * kTile * kTile + 3 * kTile * P_row + kHeadBlock * N * P_row),
        B(arena.take(kTile * N_row)),
        C(arena.take(kTile * N_row)),
        B_t(arena.take(N * kTile)),
        S(arena.take(kTile * kTile)),
        M(arena.take(kTile * kTile)),
        X(arena.take(kTile * P_row)),
        X_out(arena.take(kTile * P_row)),
        Y(arena.take(kTile * P_row)),
        states(arena.take(kHeadBlock * N * P_row)) {}

  T* state(int64_t k) { return states + k * N * P_row; }

  int64_t N, P, N_row, P_row;
  Arena<T> arena;
  T *B, *C;   // [steps][N]
  T* B_t;     // [N][steps]
  T* S;       // C_i . B_j, [steps][steps], lower
  T* M;       // S times the decays
  T* X;       // dt x, [steps][P]
  T* X_out;   // the same, decayed to the end of the tile
  T* Y;       // [steps][P]
  T* states;  // [heads of the item][N][P]
  Decays<T> decays;
};

// X = dt x and X_out of one head.
template <class T>
void scale_inputs(const Params<T>& p, const Item& item, int64_t h, const Steps& steps, const Decays<T>& decays, T* X,
                  T* X_out) {
  const Tag<T> d;
  const int64_t row = padded<T>(p.head_size);
  for (int64_t i = 0; i < steps.count; ++i) {
    const T* x = p.x.data + item.batch * p.x.batch + steps.time[i] * p.x.time + h * p.head_size;
    const Vector<T> dt = hn::Set(d, decays.dt[i]), out = hn::Set(d, decays.out[i]);
    for (int64_t c = 0; c < p.head_size; c += kLanes<T>) {
      const Vector<T> scaled = hn::Mul(dt, load_part(x + c, p.head_size - c));
      hn::Store(scaled, d, X + i * row + c);
      hn::Store(hn::Mul(out, scaled), d, X_out + i * row + c);
    }
  }
}

// M = S times the decays of one head, on and below the diagonal's blocks; the decays themselves too where asked for.
template <class T>
void decay_products(const Steps& steps, const Decays<T>& decays, const T* S, T* M, T* kept_decays = nullptr) {
  const Tag<T> d;
  for (int64_t i = 0; i < steps.count; ++i) {
    for (int64_t j = 0; j < end_of_rows(i, steps.count); j += kLanes<T>) {
      const Vector<T> decay = decays.row(steps, i, j);
      if (kept_decays != nullptr) hn::Store(decay, d, kept_decays + i * kTile + j);
      hn::Store(hn::Mul(hn::Load(d, S + i * kTile + j), decay), d, M + i * kTile + j);
    }
  }
}

// Y_i <- exp(s_i) Y_i + D x_i.
template <class T>
void decay_and_skip(const Params<T>& p, const Item& item, int64_t h, const Steps& steps, const Decays<T>& decays,
                    T* Y) {
  const Tag<T> d;
  const int64_t row = padded<T>(p.head_size);
  const Vector<T> skip = hn::Set(d, p.D != nullptr ? p.D[h] : T(0));
  for (int64_t i = 0; i < steps.count; ++i) {
    const T* x = p.x.data + item.batch * p.x.batch + steps.time[i] * p.x.time + h * p.head_size;
    const Vector<T> into = hn::Set(d, decays.into[i]);
    for (int64_t c = 0; c < p.head_size; c += kLanes<T>) {
      const Vector<T> x_c = load_part(x + c, p.head_size - c);
      hn::Store(hn::MulAdd(into, hn::Load(d, Y + i * row + c), hn::Mul(skip, x_c)), d, Y + i * row + c);
    }
  }
}

// Gate, and y out.
template <class T>
void write_outputs(const Params<T>& p, const Item& item, int64_t h, const Steps& steps, const T* Y) {
  const Tag<T> d;
  const int64_t row = padded<T>(p.head_size);
  for (int64_t i = 0; i < steps.count; ++i) {
    const int64_t t = steps.time[i];
    T* y = p.y + ((item.batch * p.length + t) * p.heads + h) * p.head_size;
    const T* z = p.z.data + item.batch * p.z.batch + t * p.z.time + h * p.head_size;
    for (int64_t c = 0; c < p.head_size; c += kLanes<T>) {
      Vector<T> v = hn::Load(d, Y + i * row + c);
      if (p.z.data != nullptr) {
        const Vector<T> gate = load_part(z + c, p.head_size - c);
        v = hn::Mul(v, hn::Mul(gate, vector_sigmoid(d, gate)));
      }
      store_part(v, y + c, p.head_size - c);
    }
  }
}

// The rows of padding of an item's heads in a [B, L, H, width] tensor.
template <class T>
void zero_padding(const Params<T>& p, const Item& item, const Steps& steps, int64_t width, T* to) {
  if (steps.count == steps.end - steps.begin) return;
  for (int64_t t = steps.begin; t < steps.end; ++t) {
    if (!steps.padding[t - steps.begin]) continue;
    T* row = to + ((item.batch * p.length + t) * p.heads + item.first) * width;
    std::fill(row, row + item.count * width, T(0));
  }
}

// h <- exp(s_Q) h + sum_j B_j X_out_j^T.
template <class T>
void advance_state(const Steps& steps, const Decays<T>& decays, const T* B_t, const T* X_out, int64_t N, int64_t P,
                   T* state) {
  const int64_t row = padded<T>(P);
  product(N, P, steps.count, Left<T>{B_t, kTile, 1}, Right<T>{X_out, row}, decays.whole, state, row);
}

template <class T>
void scan_tile(const Params<T>& p, const Item& item, const Steps& steps, ForwardScratch<T>& s) {
  zero_padding(p, item, steps, p.head_size, p.y);
  if (steps.count == 0) return;
  const int64_t N = s.N, P = s.P, count = steps.count;
  gather(p.B, item.batch, steps, item.group * N, N, s.B);
  gather(p.C, item.batch, steps, item.group * N, N, s.C);
  transpose(s.B, s.N_row, count, N, s.B_t, kTile);
  product_to_lower(count, N, Left<T>{s.C, s.N_row, 1}, Right<T>{s.B_t, kTile}, s.S, kTile);
  for (int64_t k = 0; k < item.count; ++k) {
    const int64_t h = item.first + k;
    s.decays.find(p, item, h, steps);
    scale_inputs(p, item, h, steps, s.decays, s.X, s.X_out);
    decay_products(steps, s.decays, s.S, s.M);
    product(count, P, N, Left<T>{s.C, s.N_row, 1}, Right<T>{s.state(k), s.P_row}, T(0), s.Y, s.P_row);
    decay_and_skip(p, item, h, steps, s.decays, s.Y);
    product_by_lower(count, P, s.M, kTile, Right<T>{s.X, s.P_row}, T(1), s.Y, s.P_row);
    write_outputs(p, item, h, steps, s.Y);
    advance_state(steps, s.decays, s.B_t, s.X_out, N, P, s.state(k));
  }
}

template <class T>
void scan_item(const Params<T>& p, const Item& item, ForwardScratch<T>& s) {
  const int64_t size = p.states * p.head_size, first_row = item.batch * p.heads + item.first;
  for (int64_t k = 0; k < item.count; ++k) {
    load_state(p, p.initial_state != nullptr ? p.initial_state + (first_row + k) * size : nullptr, s.state(k));
  }
  Steps steps;
  for (int64_t chunk = 0; chunk < chunks(p.length, p.chunk); ++chunk) {
    for (int64_t k = 0; k < item.count && p.checkpoints != nullptr; ++k) {
      T* to = checkpoint(p, item.batch, chunk, item.first + k);
      for (int64_t n = 0; n < p.states; ++n) {
        std::memcpy(to + n * p.head_size, s.state(k) + n * s.P_row, p.head_size * sizeof(T));
      }
    }
    const int64_t end = std::min((chunk + 1) * p.chunk, p.length);
    for (int64_t begin = chunk * p.chunk; begin < end; begin += kTile) {
      steps.find(p, item.batch, begin, std::min(begin + kTile, end));
      scan_tile(p, item, steps, s);
    }
  }
  for (int64_t k = 0; k < item.count; ++k) store_state(p, s.state(k), p.last_state + (first_row + k) * size);
}

// One channel of a head, one step: h <- decay h + input B^T, returns h . C.
template <class T>
HWY_INLINE T step_channel(int64_t N, T decay, T input, const T* B, const T* C, const T* before, T* after) {
  const Tag<T> d;
  const Vector<T> decays = hn::Set(d, decay), inputs = hn::Set(d, input);
  Vector<T> sum = hn::Zero(d);
  int64_t n = 0;
  for (; n + kLanes<T> <= N; n += kLanes<T>) {
    Vector<T> h = hn::Mul(inputs, hn::LoadU(d, B + n));
    if (before != nullptr) h = hn::MulAdd(decays, hn::LoadU(d, before + n), h);
    hn::StoreU(h, d, after + n);
    sum = hn::MulAdd(hn::LoadU(d, C + n), h, sum);
  }
  T total = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; n < N; ++n) {
    after[n] = input * B[n] + (before != nullptr ? decay * before[n] : T(0));
    total += C[n] * after[n];
  }
  return total;
}

template <class T>
struct StepScratch {
  explicit StepScratch(const Params<T>& p)
      : P_row(padded<T>(p.head_size)), arena(kStepLimit * P_row), Y(arena.take(kStepLimit * P_row)) {}

  int64_t P_row;
  Arena<T> arena;
  T* Y;  // [steps][P]
  Decays<T> decays;
};

template <class T>
void step_item(const Params<T>& p, const Item& item, StepScratch<T>& s) {
  const int64_t N = p.states, P = p.head_size, size = N * P;
  Steps steps;
  steps.find(p, item.batch, 0, p.length);
  zero_padding(p, item, steps, P, p.y);
  for (int64_t k = 0; k < item.count; ++k) {
    const int64_t h = item.first + k, row = (item.batch * p.heads + h) * size;
    T* state = p.last_state + row;
    const T* before = p.initial_state != nullptr ? p.initial_state + row : nullptr;
    if (steps.count == 0) {
      for (int64_t i = 0; i < size; ++i) state[i] = before != nullptr ? before[i] : T(0);
      continue;
    }
    s.decays.find(p, item, h, steps);
    for (int64_t i = 0; i < steps.count; ++i) {
      const int64_t t = steps.time[i];
      const T* B = p.B.data + item.batch * p.B.batch + t * p.B.time + item.group * N;
      const T* C = p.C.data + item.batch * p.C.batch + t * p.C.time + item.group * N;
      const T* x = p.x.data + item.batch * p.x.batch + t * p.x.time + h * P;
      const T skip = p.D != nullptr ? p.D[h] : T(0), dt = s.decays.dt[i];
      const T decay = static_cast<T>(std::exp(static_cast<double>(dt) * static_cast<double>(p.A[h])));
      if (steps.starts(i)) before = nullptr;
      for (int64_t c = 0; c < P; ++c) {
        s.Y[i * s.P_row + c] = skip * x[c] + step_channel(N, decay, dt * x[c], B, C,
                                                          before != nullptr ? before + c * N : nullptr, state + c * N);
      }
      before = state;
    }
    write_outputs(p, item, h, steps, s.Y);
  }
}

template <class T>
void forward_range(const Params<T>& p, int64_t begin, int64_t end) {
  if (p.length <= kStepLimit && p.checkpoints == nullptr) {
    StepScratch<T> scratch(p);
    for (int64_t index = begin; index < end; ++index) step_item(p, item_of(p, index), scratch);
  } else {
    ForwardScratch<T> scratch(p);
    for (int64_t index = begin; index < end; ++index) scan_item(p, item_of(p, index), scratch);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace hippodrome::ssd_kernel
HWY_AFTER_NAMESPACE();
#endif

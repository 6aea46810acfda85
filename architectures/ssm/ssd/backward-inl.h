// Backward of SSD for one instruction set. Chunks go from last to first: the states before the tiles of a chunk are
// made anew from the one that was kept, then its tiles go from last to first. The letters are those of op.h.
#if defined(HIPPODROME_SSD_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HIPPODROME_SSD_BACKWARD_INL_H_
#undef HIPPODROME_SSD_BACKWARD_INL_H_
#else
#define HIPPODROME_SSD_BACKWARD_INL_H_
#endif

#include "architectures/ssm/ssd/forward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::ssd_kernel {
namespace HWY_NAMESPACE {

inline int64_t tiles(int64_t steps) { return (steps + kTile - 1) / kTile; }

// Sums over the time of one head, in double: they are few and long.
struct HeadSums {
  double A = 0.0, D = 0.0, dt_bias = 0.0;
};

template <class T>
struct BackwardScratch {
  explicit BackwardScratch(const Params<T>& p)
      : N(p.states),
        P(p.head_size),
        N_row(padded<T>(N)),
        P_row(padded<T>(P)),
        tile_count(tiles(std::min(p.chunk, std::max<int64_t>(p.length, 1)))),
        arena(4 * kTile * N_row + 4 * N * kTile + 5 * kTile * kTile + 7 * kTile * P_row + 3 * P_row * kTile +
              (tile_count + 1) * kHeadBlock * N * P_row),
        B(arena.take(kTile * N_row)),
        C(arena.take(kTile * N_row)),
        dB(arena.take(kTile * N_row)),
        dC(arena.take(kTile * N_row)),
        B_t(arena.take(N * kTile)),
        C_t(arena.take(N * kTile)),
        dB_t(arena.take(N * kTile)),
        dC_t(arena.take(N * kTile)),
        S(arena.take(kTile * kTile)),
        M(arena.take(kTile * kTile)),
        decay(arena.take(kTile * kTile)),
        dS(arena.take(kTile * kTile)),
        dS_sum(arena.take(kTile * kTile)),
        X(arena.take(kTile * P_row)),
        X_out(arena.take(kTile * P_row)),
        dX(arena.take(kTile * P_row)),
        Y(arena.take(kTile * P_row)),
        Y_in(arena.take(kTile * P_row)),
        dy(arena.take(kTile * P_row)),
        dy_in(arena.take(kTile * P_row)),
        X_t(arena.take(P_row * kTile)),
        X_out_t(arena.take(P_row * kTile)),
        dy_in_t(arena.take(P_row * kTile)),
        states(arena.take(tile_count * kHeadBlock * N * P_row)),
        gradients(arena.take(kHeadBlock * N * P_row)) {}

  T* state(int64_t tile, int64_t k) { return states + (tile * kHeadBlock + k) * N * P_row; }
  T* gradient(int64_t k) { return gradients + k * N * P_row; }

  int64_t N, P, N_row, P_row, tile_count;
  Arena<T> arena;
  T *B, *C, *dB, *dC;          // [steps][N]
  T *B_t, *C_t, *dB_t, *dC_t;  // [N][steps]; the gradients are what the products give in this order
  T *S, *M, *decay, *dS;       // [steps][steps], lower
  T* dS_sum;                   // the same, over the heads of the item
  T *X, *X_out, *dX;           // [steps][P]
  T *Y, *Y_in;                 // ungated output, and the part of it that comes from the state before the tile
  T *dy, *dy_in;               // gradient before the gate, and times exp(s_i)
  T *X_t, *X_out_t, *dy_in_t;  // [P][steps]
  T* states;                   // [tiles of the chunk][heads][N][P], before each tile
  T* gradients;                // [heads][N][P], of the state behind the tile at hand
  Decays<T> decays;
  HWY_ALIGN T in_sum[kTile];   // dy_i . Y_in_i
  HWY_ALIGN T out_sum[kTile];  // X_j . (the part of dX_j through the state behind the tile)
  HWY_ALIGN T row_sum[kTile];  // of S o dS below the diagonal
  HWY_ALIGN T column_sum[kTile];
  HWY_ALIGN T x_dx[kTile];   // x_j . dX_j
  HWY_ALIGN T slope[kTile];  // of softplus
  HeadSums sums[kHeadBlock];
};

template <class T>
HWY_INLINE T sum_of(Vector<T> v) {
  return hn::GetLane(hn::SumOfLanes(Tag<T>(), v));
}

// The states before the tiles of a chunk.
template <class T>
void recompute_states(const Params<T>& p, const Item& item, int64_t chunk, int64_t begin, int64_t end,
                      BackwardScratch<T>& s) {
  for (int64_t k = 0; k < item.count; ++k) {
    const T* kept = checkpoint(p, item.batch, chunk, item.first + k);
    for (int64_t n = 0; n < s.N; ++n) std::memcpy(s.state(0, k) + n * s.P_row, kept + n * s.P, s.P * sizeof(T));
  }
  Steps steps;
  for (int64_t tile = 0; tile + 1 < tiles(end - begin); ++tile) {
    steps.find(p, item.batch, begin + tile * kTile, begin + (tile + 1) * kTile);
    if (steps.count > 0) {
      gather(p.B, item.batch, steps, item.group * s.N, s.N, s.B);
      transpose(s.B, s.N_row, steps.count, s.N, s.B_t, kTile);
    }
    for (int64_t k = 0; k < item.count; ++k) {
      std::memcpy(s.state(tile + 1, k), s.state(tile, k), s.N * s.P_row * sizeof(T));
      if (steps.count == 0) continue;
      s.decays.find(p, item, item.first + k, steps);
      scale_inputs(p, item, item.first + k, steps, s.decays, s.X, s.X_out);
      advance_state(steps, s.decays, s.B_t, s.X_out, s.N, s.P, s.state(tile + 1, k));
    }
  }
}

// Undoes the gate: dy from the gradient of the output, and dz out. Y is the ungated output, of use with a gate only.
template <class T>
void gate_backward(const Params<T>& p, const Gradients<T>& grad, const Item& item, int64_t h, const Steps& steps,
                   BackwardScratch<T>& s) {
  const Tag<T> d;
  for (int64_t i = 0; i < steps.count; ++i) {
    const int64_t t = steps.time[i], at = ((item.batch * p.length + t) * p.heads + h) * s.P;
    const T* from =
        grad.y.data != nullptr ? grad.y.data + item.batch * grad.y.batch + t * grad.y.time + h * s.P : nullptr;
    const T* z = p.z.data + item.batch * p.z.batch + t * p.z.time + h * s.P;
    for (int64_t c = 0; c < s.P; c += kLanes<T>) {
      Vector<T> dy = from != nullptr ? load_part(from + c, s.P - c) : hn::Zero(d);
      if (p.z.data != nullptr) {
        const Vector<T> one = hn::Set(d, T(1)), z_c = load_part(z + c, s.P - c), gate = vector_sigmoid(d, z_c);
        const Vector<T> dy_gate = hn::Mul(dy, gate), y = hn::Load(d, s.Y + i * s.P_row + c);
        const Vector<T> dz = hn::Mul(hn::Mul(dy_gate, y), hn::MulAdd(z_c, hn::Sub(one, gate), one));
        if (grad.z != nullptr) store_part(dz, grad.z + at + c, s.P - c);
        dy = hn::Mul(dy_gate, z_c);
      }
      hn::Store(dy, d, s.dy + i * s.P_row + c);
    }
  }
}

// dy times exp(s_i), its product with the part of y from the state, and the skip's gradient.
template <class T>
void weigh_output_gradient(const Params<T>& p, const Item& item, int64_t h, const Steps& steps, BackwardScratch<T>& s,
                           HeadSums& sums) {
  const Tag<T> d;
  for (int64_t i = 0; i < steps.count; ++i) {
    const T* x = p.x.data + item.batch * p.x.batch + steps.time[i] * p.x.time + h * s.P;
    const Vector<T> into = hn::Set(d, s.decays.into[i]);
    Vector<T> in_sum = hn::Zero(d), skip_sum = hn::Zero(d);
    for (int64_t c = 0; c < s.P; c += kLanes<T>) {
      const int64_t at = i * s.P_row + c;
      const Vector<T> dy = hn::Load(d, s.dy + at), dy_in = hn::Mul(into, dy);
      hn::Store(dy_in, d, s.dy_in + at);
      in_sum = hn::MulAdd(dy_in, hn::Load(d, s.Y_in + at), in_sum);
      skip_sum = hn::MulAdd(dy, load_part(x + c, s.P - c), skip_sum);
    }
    s.in_sum[i] = sum_of<T>(in_sum);
    sums.D += static_cast<double>(sum_of<T>(skip_sum));
  }
}

// dX through the state behind the tile: exp(s_Q - s_j) g B_j, and its product with X.
template <class T>
void input_gradient_through_state(const Steps& steps, int64_t k, BackwardScratch<T>& s) {
  const Tag<T> d;
  product(steps.count, s.P, s.N, Left<T>{s.B, s.N_row, 1}, Right<T>{s.gradient(k), s.P_row}, T(0), s.dX, s.P_row);
  for (int64_t j = 0; j < steps.count; ++j) {
    const Vector<T> out = hn::Set(d, s.decays.out[j]);
    Vector<T> sum = hn::Zero(d);
    for (int64_t c = 0; c < s.P; c += kLanes<T>) {
      const int64_t at = j * s.P_row + c;
      const Vector<T> dX = hn::Mul(out, hn::Load(d, s.dX + at));
      hn::Store(dX, d, s.dX + at);
      sum = hn::MulAdd(dX, hn::Load(d, s.X + at), sum);
    }
    s.out_sum[j] = sum_of<T>(sum);
  }
}

// dS = (dy X^T) times the decays, added to dS_sum; the sums of S o dS below the diagonal by row and by column, and,
// weighed by the time between row and column, for dA.
template <class T>
void product_gradient(const Steps& steps, BackwardScratch<T>& s, HeadSums& sums) {
  const Tag<T> d;
  product_to_lower(steps.count, s.P, Left<T>{s.dy, s.P_row, 1}, Right<T>{s.X_t, kTile}, s.dS, kTile);
  std::fill(s.column_sum, s.column_sum + kTile, T(0));
  for (int64_t i = 0; i < steps.count; ++i) {
    Vector<T> row_sum = hn::Zero(d), time_sum = hn::Zero(d);
    for (int64_t j = 0; j < end_of_rows(i, steps.count); j += kLanes<T>) {
      const int64_t at = i * kTile + j;
      const Vector<T> dS = hn::Mul(hn::Load(d, s.dS + at), hn::Load(d, s.decay + at));
      hn::Store(hn::Add(dS, hn::Load(d, s.dS_sum + at)), d, s.dS_sum + at);
      if (j >= i) continue;
      Vector<T> both = hn::Mul(dS, hn::Load(d, s.S + at));
      if (i - j < kLanes<T>) both = hn::IfThenElseZero(hn::FirstN(d, static_cast<size_t>(i - j)), both);
      row_sum = hn::Add(row_sum, both);
      time_sum = hn::MulAdd(both, s.decays.time_between(i, j), time_sum);
      hn::Store(hn::Add(both, hn::Load(d, s.column_sum + j)), d, s.column_sum + j);
    }
    s.row_sum[i] = sum_of<T>(row_sum);
    sums.A += static_cast<double>(sum_of<T>(time_sum));
  }
}

// <exp(s_Q) h_0, g>, the gradient of s_Q through the state before the tile.
template <class T>
double carried_sum(const BackwardScratch<T>& s, const T* state, const T* gradient) {
  const Tag<T> d;
  double total = 0.0;
  for (int64_t n = 0; n < s.N && s.decays.whole != T(0); ++n) {
    Vector<T> sum = hn::Zero(d);
    for (int64_t c = 0; c < s.P; c += kLanes<T>) {
      sum = hn::MulAdd(hn::Load(d, state + n * s.P_row + c), hn::Load(d, gradient + n * s.P_row + c), sum);
    }
    total += static_cast<double>(sum_of<T>(sum));
  }
  return total * static_cast<double>(s.decays.whole);
}

// dx = dt dX + D dy, and x . dX.
template <class T>
void write_input_gradient(const Params<T>& p, const Gradients<T>& grad, const Item& item, int64_t h, const Steps& steps,
                          BackwardScratch<T>& s) {
  const Tag<T> d;
  const Vector<T> skip = hn::Set(d, p.D != nullptr ? p.D[h] : T(0));
  for (int64_t i = 0; i < steps.count; ++i) {
    const int64_t t = steps.time[i], at = ((item.batch * p.length + t) * p.heads + h) * s.P;
    const T* x = p.x.data + item.batch * p.x.batch + t * p.x.time + h * s.P;
    const Vector<T> dt = hn::Set(d, s.decays.dt[i]);
    Vector<T> sum = hn::Zero(d);
    for (int64_t c = 0; c < s.P; c += kLanes<T>) {
      const Vector<T> dX = hn::Load(d, s.dX + i * s.P_row + c), dy = hn::Load(d, s.dy + i * s.P_row + c);
      sum = hn::MulAdd(dX, load_part(x + c, s.P - c), sum);
      store_part(hn::MulAdd(dt, dX, hn::Mul(skip, dy)), grad.x + at + c, s.P - c);
    }
    s.x_dx[i] = sum_of<T>(sum);
  }
}

// ddt = x . dX + A da through clamp and softplus; da_t sums the gradients of s_i over the steps i >= t of its sequence.
template <class T>
void write_step_gradient(const Params<T>& p, const Gradients<T>& grad, const Item& item, int64_t h, const Steps& steps,
                         double through_state, BackwardScratch<T>& s, HeadSums& sums) {
  const Tag<T> d;
  const int64_t last = steps.count - 1;
  for (int64_t i = 0; i < steps.count; i += kLanes<T>)
    hn::Store(vector_sigmoid(d, hn::Load(d, s.decays.raw + i)), d, s.slope + i);
  const auto time = [&](int64_t i) {
    return static_cast<double>(s.decays.high[i]) + static_cast<double>(s.decays.low[i]);
  };
  sums.A += through_state * time(last);
  // The last step's own term would add to s_Q and take from it.
  for (int64_t j = steps.last_start(); j < last; ++j) {
    through_state += static_cast<double>(s.out_sum[j]);
    sums.A += static_cast<double>(s.out_sum[j]) * (time(last) - time(j));
  }
  s.out_sum[last] = T(0);
  double da = 0.0;
  for (int64_t i = last; i >= 0; --i) {
    if (i == last) {
      da = through_state;
    } else if (steps.start[i + 1] == i + 1 && steps.starts(i + 1)) {
      da = 0.0;
    }
    da += static_cast<double>(s.row_sum[i]) + static_cast<double>(s.in_sum[i]) - static_cast<double>(s.column_sum[i]) -
          static_cast<double>(s.out_sum[i]);
    const double decay_gradient = steps.starts(i) ? 0.0 : da;  // a sequence's first step decays nothing
    double ddt = static_cast<double>(s.x_dx[i]) + static_cast<double>(p.A[h]) * decay_gradient;
    sums.A += static_cast<double>(s.in_sum[i]) * time(i);
    if (s.decays.unclamped[i] < static_cast<T>(p.dt_low) || s.decays.unclamped[i] > static_cast<T>(p.dt_high))
      ddt = 0.0;
    if (p.dt_softplus && !(s.decays.raw[i] > static_cast<T>(kSoftplusThreshold)))
      ddt *= static_cast<double>(s.slope[i]);
    sums.dt_bias += ddt;
    grad.dt[(item.batch * p.length + steps.time[i]) * p.heads + h] = static_cast<T>(ddt);
  }
}

// Everything of one head over a tile; its gradient of the state moves to before the tile.
template <class T>
void head_backward(const Params<T>& p, const Gradients<T>& grad, const Item& item, int64_t k, const Steps& steps,
                   const T* state, BackwardScratch<T>& s) {
  const int64_t h = item.first + k, count = steps.count, N = s.N, P = s.P;
  T* gradient = s.gradient(k);
  s.decays.find(p, item, h, steps);
  scale_inputs(p, item, h, steps, s.decays, s.X, s.X_out);
  decay_products(steps, s.decays, s.S, s.M, s.decay);
  product(count, P, N, Left<T>{s.C, s.N_row, 1}, Right<T>{state, s.P_row}, T(0), s.Y_in, s.P_row);
  if (p.z.data != nullptr) {
    std::memcpy(s.Y, s.Y_in, count * s.P_row * sizeof(T));
    decay_and_skip(p, item, h, steps, s.decays, s.Y);
    product_by_lower(count, P, s.M, kTile, Right<T>{s.X, s.P_row}, T(1), s.Y, s.P_row);
  }
  gate_backward(p, grad, item, h, steps, s);
  weigh_output_gradient(p, item, h, steps, s, s.sums[k]);
  transpose(s.X, s.P_row, count, P, s.X_t, kTile);
  transpose(s.X_out, s.P_row, count, P, s.X_out_t, kTile);
  transpose(s.dy_in, s.P_row, count, P, s.dy_in_t, kTile);

  input_gradient_through_state(steps, k, s);
  product_by_lower_transposed(count, P, s.M, kTile, Right<T>{s.dy, s.P_row}, T(1), s.dX, s.P_row);
  product_gradient(steps, s, s.sums[k]);
  product(N, count, P, Left<T>{state, s.P_row, 1}, Right<T>{s.dy_in_t, kTile}, T(1), s.dC_t, kTile);
  product(N, count, P, Left<T>{gradient, s.P_row, 1}, Right<T>{s.X_out_t, kTile}, T(1), s.dB_t, kTile);
  const double through_state = carried_sum(s, state, gradient);
  product(N, P, count, Left<T>{s.C_t, kTile, 1}, Right<T>{s.dy_in, s.P_row}, s.decays.whole, gradient, s.P_row);
  write_input_gradient(p, grad, item, h, steps, s);
  write_step_gradient(p, grad, item, h, steps, through_state, s, s.sums[k]);
}

// The item's rows of a partial dB or dC, [L, N], with zeros for padding.
template <class T>
void write_partial(const Steps& steps, int64_t N, int64_t N_row, const T* rows, T* partial) {
  if (steps.count != steps.end - steps.begin) std::fill(partial + steps.begin * N, partial + steps.end * N, T(0));
  for (int64_t i = 0; i < steps.count; ++i) {
    std::memcpy(partial + steps.time[i] * N, rows + i * N_row, N * sizeof(T));
  }
}

template <class T>
void tile_backward(const Params<T>& p, const Gradients<T>& grad, int64_t index, const Item& item, const Steps& steps,
                   int64_t tile, BackwardScratch<T>& s) {
  const int64_t N = s.N, count = steps.count;
  zero_padding(p, item, steps, s.P, grad.x);
  zero_padding(p, item, steps, 1, grad.dt);
  if (grad.z != nullptr) zero_padding(p, item, steps, s.P, grad.z);
  if (count > 0) {
    gather(p.B, item.batch, steps, item.group * N, N, s.B);
    gather(p.C, item.batch, steps, item.group * N, N, s.C);
    transpose(s.B, s.N_row, count, N, s.B_t, kTile);
    transpose(s.C, s.N_row, count, N, s.C_t, kTile);
    product_to_lower(count, N, Left<T>{s.C, s.N_row, 1}, Right<T>{s.B_t, kTile}, s.S, kTile);
    std::fill(s.dS_sum, s.dS_sum + kTile * kTile, T(0));
    std::fill(s.dB_t, s.dB_t + N * kTile, T(0));
    std::fill(s.dC_t, s.dC_t + N * kTile, T(0));
    for (int64_t k = 0; k < item.count; ++k) head_backward(p, grad, item, k, steps, s.state(tile, k), s);
    transpose(s.dC_t, kTile, N, count, s.dC, s.N_row);
    transpose(s.dB_t, kTile, N, count, s.dB, s.N_row);
    product_by_lower(count, N, s.dS_sum, kTile, Right<T>{s.B, s.N_row}, T(1), s.dC, s.N_row);
    product_by_lower_transposed(count, N, s.dS_sum, kTile, Right<T>{s.C, s.N_row}, T(1), s.dB, s.N_row);
  }
  write_partial(steps, N, s.N_row, s.dB, grad.B + index * p.length * N);
  write_partial(steps, N, s.N_row, s.dC, grad.C + index * p.length * N);
}

template <class T>
void backward_item(const Params<T>& p, const Gradients<T>& grad, int64_t index, BackwardScratch<T>& s) {
  const Item item = item_of(p, index);
  const int64_t size = s.N * s.P, first_row = item.batch * p.heads + item.first;
  for (int64_t k = 0; k < item.count; ++k) {
    load_state(p, grad.last_state != nullptr ? grad.last_state + (first_row + k) * size : nullptr, s.gradient(k));
    s.sums[k] = HeadSums();
  }
  Steps steps;
  for (int64_t chunk = chunks(p.length, p.chunk) - 1; chunk >= 0; --chunk) {
    const int64_t begin = chunk * p.chunk, end = std::min(begin + p.chunk, p.length);
    recompute_states(p, item, chunk, begin, end, s);
    for (int64_t tile = tiles(end - begin) - 1; tile >= 0; --tile) {
      const int64_t tile_begin = begin + tile * kTile;
      steps.find(p, item.batch, tile_begin, std::min(tile_begin + kTile, end));
      tile_backward(p, grad, index, item, steps, tile, s);
    }
  }
  for (int64_t k = 0; k < item.count; ++k) {
    const int64_t row = first_row + k;
    if (grad.initial_state != nullptr) store_state(p, s.gradient(k), grad.initial_state + row * size);
    grad.A[row] = static_cast<T>(s.sums[k].A);
    if (grad.D != nullptr) grad.D[row] = static_cast<T>(s.sums[k].D);
    if (grad.dt_bias != nullptr) grad.dt_bias[row] = static_cast<T>(s.sums[k].dt_bias);
  }
}

template <class T>
void backward_range(const Params<T>& p, const Gradients<T>& grad, int64_t begin, int64_t end) {
  BackwardScratch<T> scratch(p);
  for (int64_t index = begin; index < end; ++index) backward_item(p, grad, index, scratch);
}

}  // namespace HWY_NAMESPACE
}  // namespace hippodrome::ssd_kernel
HWY_AFTER_NAMESPACE();
#endif

// The cells of attentive_scan and the product of a weight with the states of some rows, for one instruction set.
#if defined(HIPPODROME_ATTENTIVE_SCAN_CELLS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HIPPODROME_ATTENTIVE_SCAN_CELLS_INL_H_
#undef HIPPODROME_ATTENTIVE_SCAN_CELLS_INL_H_
#else
#define HIPPODROME_ATTENTIVE_SCAN_CELLS_INL_H_
#endif

#include <algorithm>
#include <vector>

#include "architectures/recurrent/additive_attention/adjoint-inl.h"
#include "architectures/recurrent/attentive_scan/op.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::attentive_scan_kernel::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace additive = additive_attention_kernel::HWY_NAMESPACE;
using hippodrome::HWY_NAMESPACE::for_each_vector;
using hippodrome::HWY_NAMESPACE::vector_sigmoid;
using hippodrome::HWY_NAMESPACE::vector_tanh;

// Outputs whose weights stay in the cache while all rows take their turn; whole tiles of dot products.
inline constexpr int64_t kOutputsTogether = 24;

// y[m][o] += Σ_k w[o, k] x[m][k] for the rows m and the outputs o of w [outputs, depth]. The weight is read where it
// lies, so that a single token costs one pass over it; a row's sums do not depend on the others.
template <class T>
void add_products(const T* w, int64_t outputs, int64_t depth, const std::vector<const T*>& x, const std::vector<T*>& y,
                  size_t count) {
  const T* rows[kOutputsTogether];
  T sums[kAdditiveQueries * kAdditiveKeys];
  for (int64_t o = 0; o < outputs; o += kOutputsTogether) {
    const int64_t taken = std::min(kOutputsTogether, outputs - o);
    for (int64_t j = 0; j < taken; ++j) rows[j] = w + (o + j) * depth;
    for (size_t m = 0; m < count; m += kAdditiveQueries) {
      const auto together = static_cast<int64_t>(std::min<size_t>(kAdditiveQueries, count - m));
      additive::dots(x.data() + m, together, rows, taken, depth, sums);
      for (int64_t i = 0; i < together; ++i) {
        T* to = y[m + static_cast<size_t>(i)] + o;
        for (int64_t j = 0; j < taken; ++j) to[j] += sums[i * kAdditiveKeys + j];
      }
    }
  }
}

// gates [2n] of r and z: before -> after their activations; reset = r∘before.
template <class T>
HWY_INLINE void gru_gates(T* HWY_RESTRICT gates, int64_t n, const T* HWY_RESTRICT before, T* HWY_RESTRICT reset) {
  const hn::ScalableTag<T> d;
  for_each_vector<T>(0, n, [&](int64_t j, auto lanes) {
    const auto r = vector_sigmoid(d, lanes.load(gates + j));
    lanes.store(r, gates + j);
    lanes.store(vector_sigmoid(d, lanes.load(gates + n + j)), gates + n + j);
    lanes.store(hn::Mul(r, lanes.load(before + j)), reset + j);
  });
}

// gates [3n], of which the last third is before its activation -> all after; s -> its successor.
template <class T>
HWY_INLINE void gru_state(T* HWY_RESTRICT gates, int64_t n, T* HWY_RESTRICT s) {
  const hn::ScalableTag<T> d;
  for_each_vector<T>(0, n, [&](int64_t j, auto lanes) {
    const auto z = lanes.load(gates + n + j), candidate = vector_tanh(d, lanes.load(gates + 2 * n + j));
    const auto before = lanes.load(s + j);
    lanes.store(candidate, gates + 2 * n + j);
    lanes.store(hn::MulAdd(z, candidate, hn::NegMulAdd(z, before, before)), s + j);
  });
}

// gates [4n] before -> after their activations; cell and s -> their successors.
template <class T>
HWY_INLINE void lstm_state(T* HWY_RESTRICT gates, int64_t n, T* HWY_RESTRICT cell, T* HWY_RESTRICT s) {
  const hn::ScalableTag<T> d;
  for_each_vector<T>(0, n, [&](int64_t j, auto lanes) {
    const auto i = vector_sigmoid(d, lanes.load(gates + j)), f = vector_sigmoid(d, lanes.load(gates + n + j));
    const auto g = vector_tanh(d, lanes.load(gates + 2 * n + j)), o = vector_sigmoid(d, lanes.load(gates + 3 * n + j));
    const auto c = hn::MulAdd(f, lanes.load(cell + j), hn::Mul(i, g));
    lanes.store(i, gates + j);
    lanes.store(f, gates + n + j);
    lanes.store(g, gates + 2 * n + j);
    lanes.store(o, gates + 3 * n + j);
    lanes.store(c, cell + j);
    lanes.store(hn::Mul(o, vector_tanh(d, c)), s + j);
  });
}

// One row at one time step, backwards.
template <class T>
struct CellAdjoint {
  const T* activated;    // [G n]
  const T* before;       // [n]: s_{t-1}
  const T* cell_before;  // [n], lstm
  const T* cell;         // [n], lstm
  const T* grad_s;       // [n]: from this token's output
  T* ds;                 // [n], in: gradient of s_t from later tokens; out: what goes to s_{t-1} without a product
  T* dcell;              // [n], in: that of the cell; out: of the cell before; lstm
  T* grad_gates;         // [G n]
  T* reset;              // [n]: r∘before; gru
};

// Gradients of z and n; r's needs that of r∘s_{t-1} first.
template <class T>
HWY_INLINE void gru_backward(const CellAdjoint<T>& row, int64_t n) {
  const hn::ScalableTag<T> d;
  const auto one = hn::Set(d, T(1));
  for_each_vector<T>(0, n, [&](int64_t j, auto lanes) {
    const auto r = lanes.load(row.activated + j), z = lanes.load(row.activated + n + j);
    const auto candidate = lanes.load(row.activated + 2 * n + j), before = lanes.load(row.before + j);
    const auto ds = hn::Add(lanes.load(row.ds + j), lanes.load(row.grad_s + j)), not_z = hn::Sub(one, z);
    lanes.store(hn::Mul(hn::Mul(ds, hn::Sub(candidate, before)), hn::Mul(z, not_z)), row.grad_gates + n + j);
    lanes.store(hn::Mul(hn::Mul(ds, z), hn::NegMulAdd(candidate, candidate, one)), row.grad_gates + 2 * n + j);
    lanes.store(hn::Mul(ds, not_z), row.ds + j);
    lanes.store(hn::Mul(r, before), row.reset + j);
  });
}

template <class T>
HWY_INLINE void gru_reset_backward(const CellAdjoint<T>& row, int64_t n, const T* HWY_RESTRICT grad_reset) {
  for_each_vector<T>(0, n, [&](int64_t j, auto lanes) {
    const auto r = lanes.load(row.activated + j), grad = lanes.load(grad_reset + j);
    const auto slope = hn::NegMulAdd(r, r, r);
    lanes.store(hn::Mul(hn::Mul(grad, lanes.load(row.before + j)), slope), row.grad_gates + j);
    lanes.store(hn::MulAdd(grad, r, lanes.load(row.ds + j)), row.ds + j);
  });
}

template <class T>
HWY_INLINE void lstm_backward(const CellAdjoint<T>& row, int64_t n) {
  const hn::ScalableTag<T> d;
  const auto one = hn::Set(d, T(1));
  for_each_vector<T>(0, n, [&](int64_t j, auto lanes) {
    const auto i = lanes.load(row.activated + j), f = lanes.load(row.activated + n + j);
    const auto g = lanes.load(row.activated + 2 * n + j), o = lanes.load(row.activated + 3 * n + j);
    const auto squashed = vector_tanh(d, lanes.load(row.cell + j));
    const auto ds = hn::Add(lanes.load(row.ds + j), lanes.load(row.grad_s + j));
    const auto dc = hn::MulAdd(hn::Mul(ds, o), hn::NegMulAdd(squashed, squashed, one), lanes.load(row.dcell + j));
    lanes.store(hn::Mul(hn::Mul(dc, g), hn::NegMulAdd(i, i, i)), row.grad_gates + j);
    lanes.store(hn::Mul(hn::Mul(dc, lanes.load(row.cell_before + j)), hn::NegMulAdd(f, f, f)), row.grad_gates + n + j);
    lanes.store(hn::Mul(hn::Mul(dc, i), hn::NegMulAdd(g, g, one)), row.grad_gates + 2 * n + j);
    lanes.store(hn::Mul(hn::Mul(ds, squashed), hn::NegMulAdd(o, o, o)), row.grad_gates + 3 * n + j);
    lanes.store(hn::Zero(d), row.ds + j);
    lanes.store(hn::Mul(dc, f), row.dcell + j);
  });
}

template <class Params, class T = std::remove_cvref_t<decltype(*Params::keys)>>
additive::Source<T> source_at(const Params& p, int64_t source) {
  const AttentiveScanShape& a = p.shape;
  return {p.rows + source,
          p.keys + source * a.keys * a.features,
          p.exponentials != nullptr ? p.exponentials + source * a.keys * a.features : nullptr,
          p.v,
          p.values + source * a.keys * a.width,
          a.features,
          a.width};
}

}  // namespace hippodrome::attentive_scan_kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif

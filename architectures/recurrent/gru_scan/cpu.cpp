// The GRU recurrence with Highway; the plan is lstm_scan's: the recurrent product and the cell stay in registers, and a
// row block runs the whole time loop alone, without barriers.
#include "architectures/recurrent/gru_scan/op.h"

#include <algorithm>
#include <vector>

// Arrays of vectors need fixed sizes (not SVE or RVV); SSSE3 and AVX3_DL add nothing here.
#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "architectures/recurrent/gru_scan/cpu.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

#include "architectures/recurrent/recurrent_product-inl.h"
#include "core/tensor/vector_math-inl.h"
#include "hwy/aligned_allocator.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::gru_scan_kernel::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using namespace product::HWY_NAMESPACE;
using hippodrome::HWY_NAMESPACE::vector_sigmoid;
using hippodrome::HWY_NAMESPACE::vector_tanh;

// One row at one time step.
template <class T>
struct Row {
  const T* gates;
  const T* h_before;
  T* h;
  T* y;
  T* activated;
  T* hidden_states;
};

// The cell for units [column, column + count) of one row: pre holds r and z before their activations, and q.
template <class D, class T, class V>
HWY_INLINE void Cell(D d, const Row<T>& row, int64_t hidden, size_t column, size_t count, const V (&pre)[3]) {
  const V r = vector_sigmoid(d, pre[0]);
  const V z = vector_sigmoid(d, pre[1]);
  const V n = vector_tanh(d, hn::MulAdd(r, pre[2], LoadPart(d, row.gates + 2 * hidden + column, count)));
  const V one = hn::Set(d, T(1));
  const V h = hn::MulAdd(z, hn::Load(d, row.h_before + column), hn::Mul(hn::Sub(one, z), n));
  hn::Store(h, d, row.h + column);
  StorePart(h, d, row.y + column, count);
  if (row.activated != nullptr) {
    StorePart(r, d, row.activated + column, count);
    StorePart(z, d, row.activated + hidden + column, count);
    StorePart(n, d, row.activated + 2 * hidden + column, count);
    StorePart(pre[2], d, row.activated + 3 * hidden + column, count);
    StorePart(h, d, row.hidden_states + column, count);
  }
}

template <size_t kRows, class D, class T>
HWY_NOINLINE void StepPanel(D d, const Row<T>* rows, int64_t hidden, const T* panel, const T* bias_hn, size_t column) {
  const size_t count = std::min<size_t>(hn::MaxLanes(d), hidden - column);
  hn::Vec<D> sum[kRows][3];
  const T* h[kRows];
  const auto bias = LoadPart(d, bias_hn + column, count);
  for (size_t m = 0; m < kRows; ++m) {
    h[m] = rows[m].h_before;
    sum[m][0] = LoadPart(d, rows[m].gates + column, count);
    sum[m][1] = LoadPart(d, rows[m].gates + hidden + column, count);
    sum[m][2] = bias;
  }
  AddProduct<kRows, 3>(d, h, panel, hidden, sum);
  for (size_t m = 0; m < kRows; ++m) Cell(d, rows[m], hidden, column, count, sum[m]);
}

template <class D, class T>
void StepDirect(D d, const Row<T>& row, const T* weight, const T* bias_hn, int64_t hidden, int64_t stride, T* scratch) {
  DirectProduct<3>(d, weight, row.h_before, hidden, stride, scratch);
  for (int64_t column = 0; column < hidden; column += hn::MaxLanes(d)) {
    const size_t count = std::min<size_t>(hn::MaxLanes(d), hidden - column);
    hn::Vec<D> pre[3];
    for (size_t g = 0; g < 3; ++g) {
      const T* added = g < 2 ? row.gates + g * hidden : bias_hn;
      pre[g] = hn::Add(hn::Load(d, scratch + g * stride + column), LoadPart(d, added + column, count));
    }
    Cell(d, row, hidden, column, count, pre);
  }
}

template <class T>
void Forward(const GruScanForward<T>& p, int64_t begin, int64_t end) {
  const hn::ScalableTag<T> d;
  const int64_t H = p.hidden, L = p.length, rows = end - begin;
  const int64_t lanes = hn::MaxLanes(d), padded = (H + lanes - 1) / lanes * lanes;
  // Per row two h, before and after a step, exchanged by the parity of the row's active steps.
  const auto memory = hwy::AllocateAligned<T>((rows * 2 + 3) * padded);
  T* const scratch = memory.get() + rows * 2 * padded;
  std::fill_n(memory.get(), (rows * 2 + 3) * padded, T(0));
  std::vector<uint8_t> parity(rows, 0);
  std::vector<Row<T>> active(rows);
  const auto h_of = [&](int64_t r, int which) { return memory.get() + (r * 2 + which) * padded; };
  for (int64_t r = 0; r < rows; ++r) {
    if (p.h0 != nullptr) std::copy_n(p.h0 + (begin + r) * H, H, h_of(r, 0));
  }
  for (int64_t t = 0; t < L; ++t) {
    size_t n = 0;
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t token = (begin + r) * L + t;
      const int64_t position = p.positions != nullptr ? p.positions[token] : 1;
      T* const activated = p.activated != nullptr ? p.activated + token * 4 * H : nullptr;
      T* const hidden_states = p.activated != nullptr ? p.hidden_states + token * H : nullptr;
      if (position < 0) {
        std::fill_n(p.y + token * H, H, T(0));
        if (activated != nullptr) {
          std::fill_n(activated, 4 * H, T(0));
          std::copy_n(h_of(r, parity[r]), H, hidden_states);
        }
        continue;
      }
      if (position == 0) std::fill_n(h_of(r, parity[r]), H, T(0));
      active[n++] = {p.gates + token * 3 * H, h_of(r, parity[r]), h_of(r, 1 - parity[r]),
                     p.y + token * H,         activated,          hidden_states};
      parity[r] = 1 - parity[r];
    }
    if (p.packed == nullptr) {
      for (size_t m = 0; m < n; ++m) StepDirect(d, active[m], p.weight_hh, p.bias_hn, H, padded, scratch);
      continue;
    }
    for (int64_t column = 0; column < H; column += lanes) {
      const T* panel = p.packed + column * 3 * H;
      ForRowGroups(n, [&](size_t first, auto group) {
        StepPanel<decltype(group)::value>(d, active.data() + first, H, panel, p.bias_hn, column);
      });
    }
  }
  for (int64_t r = 0; r < rows; ++r) std::copy_n(h_of(r, parity[r]), H, p.h + (begin + r) * H);
}

// One row at one time step, backwards.
template <class T>
struct AdjointCell {
  const T* activated;
  const T* h_before;  // or null for zeros
  const T* grad_y;
  T* dh;    // in: gradient of h_t from later steps
  T* kept;  // out: the part of the gradient of h_{t-1} that goes through z
  T* grad_gates;
  T* grad_q;
  T* previous_h;
};

template <class D, class T>
HWY_INLINE void CellBackward(D d, const AdjointCell<T>& row, int64_t hidden) {
  using V = hn::Vec<D>;
  const V one = hn::Set(d, T(1));
  for (int64_t j = 0; j < hidden; j += hn::MaxLanes(d)) {
    const size_t count = std::min<size_t>(hn::MaxLanes(d), hidden - j);
    const V r = LoadPart(d, row.activated + j, count), z = LoadPart(d, row.activated + hidden + j, count);
    const V n = LoadPart(d, row.activated + 2 * hidden + j, count);
    const V q = LoadPart(d, row.activated + 3 * hidden + j, count);
    const V before = row.h_before != nullptr ? LoadPart(d, row.h_before + j, count) : hn::Zero(d);
    const V dh = hn::Add(hn::Load(d, row.dh + j), LoadPart(d, row.grad_y + j, count));
    const V dn = hn::Mul(hn::Mul(dh, hn::Sub(one, z)), hn::NegMulAdd(n, n, one));
    const V dr = hn::Mul(hn::Mul(dn, q), hn::Mul(r, hn::Sub(one, r)));
    const V dz = hn::Mul(hn::Mul(dh, hn::Sub(before, n)), hn::Mul(z, hn::Sub(one, z)));
    StorePart(dr, d, row.grad_gates + j, count);
    StorePart(dz, d, row.grad_gates + hidden + j, count);
    StorePart(dn, d, row.grad_gates + 2 * hidden + j, count);
    StorePart(hn::Mul(dn, r), d, row.grad_q + j, count);
    StorePart(before, d, row.previous_h + j, count);
    hn::Store(hn::Mul(dh, z), d, row.kept + j);
  }
}

template <class T>
void Backward(const GruScanBackward<T>& p, int64_t begin, int64_t end) {
  const hn::ScalableTag<T> d;
  const int64_t H = p.hidden, L = p.length, rows = end - begin;
  const int64_t lanes = hn::MaxLanes(d), padded = (H + lanes - 1) / lanes * lanes;
  const auto memory = hwy::AllocateAligned<T>(rows * 2 * padded);
  std::fill_n(memory.get(), rows * 2 * padded, T(0));
  const auto dh_of = [&](int64_t r) { return memory.get() + r * 2 * padded; };
  const auto kept_of = [&](int64_t r) { return memory.get() + (r * 2 + 1) * padded; };
  std::vector<AdjointRow<T>> products(rows);
  for (int64_t r = 0; r < rows; ++r) std::copy_n(p.grad_h + (begin + r) * H, H, dh_of(r));
  for (int64_t t = L - 1; t >= 0; --t) {
    size_t n = 0;
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t b = begin + r, token = b * L + t;
      const int64_t position = p.positions != nullptr ? p.positions[token] : 1;
      if (position < 0) {
        std::fill_n(p.grad_gates + token * 3 * H, 3 * H, T(0));
        std::fill_n(p.grad_q + token * H, H, T(0));
        std::fill_n(p.previous_h + token * H, H, T(0));
        continue;
      }
      const T* before = t > 0 ? p.hidden_states + (token - 1) * H : p.h0 != nullptr ? p.h0 + b * H : nullptr;
      if (position == 0) before = nullptr;
      CellBackward(d,
                   AdjointCell<T>{p.activated + token * 4 * H, before, p.grad_y + token * H, dh_of(r), kept_of(r),
                                  p.grad_gates + token * 3 * H, p.grad_q + token * H, p.previous_h + token * H},
                   H);
      if (position == 0) {
        std::fill_n(dh_of(r), H, T(0));
      } else {
        products[n++] = {p.grad_gates + token * 3 * H, p.grad_q + token * H, dh_of(r), kept_of(r)};
      }
    }
    AdjointProduct(d, products.data(), n, p.packed, 2 * H, H, H);
  }
  for (int64_t r = 0; r < rows; ++r) std::copy_n(dh_of(r), H, p.grad_h0 + (begin + r) * H);
}

#define HIPPODROME_GRU_KERNELS(T, Name)                                                                             \
  void Pack##Name(const T* weight, int64_t H, T* packed) { PackGates(hn::ScalableTag<T>(), weight, 3, H, packed); } \
  void PackAdjoint##Name(const T* weight, int64_t H, T* packed) {                                                   \
    PackColumns(hn::ScalableTag<T>(), weight, 3 * H, H, packed);                                                    \
  }                                                                                                                 \
  void Forward##Name(const GruScanForward<T>& p, int64_t begin, int64_t end) { Forward(p, begin, end); }            \
  void Backward##Name(const GruScanBackward<T>& p, int64_t begin, int64_t end) { Backward(p, begin, end); }
HIPPODROME_GRU_KERNELS(float, Float)
HIPPODROME_GRU_KERNELS(double, Double)
#undef HIPPODROME_GRU_KERNELS

}  // namespace hippodrome::gru_scan_kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hippodrome {
namespace gru_scan_kernel {
#define HIPPODROME_GRU_EXPORTS(Name) \
  HWY_EXPORT(Pack##Name);            \
  HWY_EXPORT(PackAdjoint##Name);     \
  HWY_EXPORT(Forward##Name);         \
  HWY_EXPORT(Backward##Name);
HIPPODROME_GRU_EXPORTS(Float)
HIPPODROME_GRU_EXPORTS(Double)
#undef HIPPODROME_GRU_EXPORTS
}  // namespace gru_scan_kernel

#define HIPPODROME_GRU_ENTRIES(T, Name)                                             \
  template <>                                                                       \
  void gru_scan_pack(const T* weight_hh, int64_t hidden, T* packed) {               \
    using namespace gru_scan_kernel;                                                \
    HWY_DYNAMIC_DISPATCH(Pack##Name)(weight_hh, hidden, packed);                    \
  }                                                                                 \
  template <>                                                                       \
  void gru_scan_pack_adjoint(const T* weight_hh, int64_t hidden, T* packed) {       \
    using namespace gru_scan_kernel;                                                \
    HWY_DYNAMIC_DISPATCH(PackAdjoint##Name)(weight_hh, hidden, packed);             \
  }                                                                                 \
  template <>                                                                       \
  void gru_scan_forward(const GruScanForward<T>& p, int64_t begin, int64_t end) {   \
    using namespace gru_scan_kernel;                                                \
    HWY_DYNAMIC_DISPATCH(Forward##Name)(p, begin, end);                             \
  }                                                                                 \
  template <>                                                                       \
  void gru_scan_backward(const GruScanBackward<T>& p, int64_t begin, int64_t end) { \
    using namespace gru_scan_kernel;                                                \
    HWY_DYNAMIC_DISPATCH(Backward##Name)(p, begin, end);                            \
  }
HIPPODROME_GRU_ENTRIES(float, Float)
HIPPODROME_GRU_ENTRIES(double, Double)
#undef HIPPODROME_GRU_ENTRIES

}  // namespace hippodrome
#endif  // HWY_ONCE

// The LSTM recurrence with Highway: the recurrent product and the cell stay in registers, one pass over a weight panel
// gives a vector of units all four gates. A row block runs the whole time loop alone, without barriers.
#include "architectures/recurrent/lstm_scan/op.h"

#include <algorithm>
#include <vector>

// Arrays of vectors need fixed sizes (not SVE or RVV); SSSE3 and AVX3_DL add nothing here.
#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "architectures/recurrent/lstm_scan/cpu.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

#include "architectures/recurrent/recurrent_product-inl.h"
#include "core/tensor/vector_math-inl.h"
#include "hwy/aligned_allocator.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::lstm_scan_kernel::HWY_NAMESPACE {
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
  T* c;  // updated in place
  T* y;
  T* activated;
  T* cells;
};

// The cell for units [column, column + count) of one row, from its four pre-activations.
template <class D, class T, class V>
HWY_INLINE void Cell(D d, const Row<T>& row, int64_t hidden, size_t column, size_t count, const V (&pre)[4]) {
  const V i = vector_sigmoid(d, pre[0]);
  const V f = vector_sigmoid(d, pre[1]);
  const V g = vector_tanh(d, pre[2]);
  const V o = vector_sigmoid(d, pre[3]);
  const V c = hn::MulAdd(f, hn::Load(d, row.c + column), hn::Mul(i, g));
  const V h = hn::Mul(o, vector_tanh(d, c));
  hn::Store(c, d, row.c + column);
  hn::Store(h, d, row.h + column);
  StorePart(h, d, row.y + column, count);
  if (row.activated != nullptr) {
    StorePart(i, d, row.activated + column, count);
    StorePart(f, d, row.activated + hidden + column, count);
    StorePart(g, d, row.activated + 2 * hidden + column, count);
    StorePart(o, d, row.activated + 3 * hidden + column, count);
    StorePart(c, d, row.cells + column, count);
  }
}

template <size_t kRows, class D, class T>
HWY_NOINLINE void StepPanel(D d, const Row<T>* rows, int64_t hidden, const T* panel, size_t column) {
  const size_t count = std::min<size_t>(hn::MaxLanes(d), hidden - column);
  hn::Vec<D> sum[kRows][4];
  const T* h[kRows];
  for (size_t m = 0; m < kRows; ++m) {
    h[m] = rows[m].h_before;
    for (size_t g = 0; g < 4; ++g) sum[m][g] = LoadPart(d, rows[m].gates + g * hidden + column, count);
  }
  AddProduct<kRows, 4>(d, h, panel, hidden, sum);
  for (size_t m = 0; m < kRows; ++m) Cell(d, rows[m], hidden, column, count, sum[m]);
}

template <class D, class T>
void StepDirect(D d, const Row<T>& row, const T* weight, int64_t hidden, int64_t stride, T* scratch) {
  DirectProduct<4>(d, weight, row.h_before, hidden, stride, scratch);
  for (int64_t column = 0; column < hidden; column += hn::MaxLanes(d)) {
    const size_t count = std::min<size_t>(hn::MaxLanes(d), hidden - column);
    hn::Vec<D> pre[4];
    for (size_t g = 0; g < 4; ++g) {
      pre[g] = hn::Add(hn::Load(d, scratch + g * stride + column), LoadPart(d, row.gates + g * hidden + column, count));
    }
    Cell(d, row, hidden, column, count, pre);
  }
}

template <class T>
void Forward(const LstmScanForward<T>& p, int64_t begin, int64_t end) {
  const hn::ScalableTag<T> d;
  const int64_t H = p.hidden, L = p.length, rows = end - begin;
  const int64_t lanes = hn::MaxLanes(d), padded = (H + lanes - 1) / lanes * lanes;
  // Per row two h (before and after a step, exchanged by the parity of the row's active steps) and c.
  const auto memory = hwy::AllocateAligned<T>((rows * 3 + 4) * padded);
  T* const scratch = memory.get() + rows * 3 * padded;
  std::fill_n(memory.get(), (rows * 3 + 4) * padded, T(0));
  std::vector<uint8_t> parity(rows, 0);
  std::vector<Row<T>> active(rows);
  const auto h_of = [&](int64_t r, int which) { return memory.get() + (r * 3 + which) * padded; };
  const auto c_of = [&](int64_t r) { return memory.get() + (r * 3 + 2) * padded; };
  for (int64_t r = 0; r < rows; ++r) {
    if (p.h0 != nullptr) std::copy_n(p.h0 + (begin + r) * H, H, h_of(r, 0));
    if (p.c0 != nullptr) std::copy_n(p.c0 + (begin + r) * H, H, c_of(r));
  }
  for (int64_t t = 0; t < L; ++t) {
    size_t n = 0;
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t token = (begin + r) * L + t;
      const int64_t position = p.positions != nullptr ? p.positions[token] : 1;
      T* const activated = p.activated != nullptr ? p.activated + token * 4 * H : nullptr;
      T* const cells = p.activated != nullptr ? p.cells + token * H : nullptr;
      if (position < 0) {
        std::fill_n(p.y + token * H, H, T(0));
        if (activated != nullptr) {
          std::fill_n(activated, 4 * H, T(0));
          std::copy_n(c_of(r), H, cells);
        }
        continue;
      }
      if (position == 0) {
        std::fill_n(h_of(r, parity[r]), H, T(0));
        std::fill_n(c_of(r), H, T(0));
      }
      active[n++] = {p.gates + token * 4 * H,
                     h_of(r, parity[r]),
                     h_of(r, 1 - parity[r]),
                     c_of(r),
                     p.y + token * H,
                     activated,
                     cells};
      parity[r] = 1 - parity[r];
    }
    if (p.packed == nullptr) {
      for (size_t m = 0; m < n; ++m) StepDirect(d, active[m], p.weight_hh, H, padded, scratch);
      continue;
    }
    for (int64_t column = 0; column < H; column += lanes) {
      const T* panel = p.packed + column * 4 * H;
      ForRowGroups(n, [&](size_t first, auto group) {
        StepPanel<decltype(group)::value>(d, active.data() + first, H, panel, column);
      });
    }
  }
  for (int64_t r = 0; r < rows; ++r) {
    std::copy_n(h_of(r, parity[r]), H, p.h + (begin + r) * H);
    std::copy_n(c_of(r), H, p.c + (begin + r) * H);
  }
}

// One row at one time step, backwards.
template <class T>
struct AdjointCell {
  const T* activated;
  const T* c;         // c_t
  const T* c_before;  // or null for zeros
  const T* grad_y;
  T* dh;  // gradient of h_t from later steps
  T* dc;
  T* grad_gates;
  T* h_target;  // where h_t is wanted as a factor, or null
};

template <class D, class T>
HWY_INLINE void CellBackward(D d, const AdjointCell<T>& row, int64_t hidden) {
  using V = hn::Vec<D>;
  const V one = hn::Set(d, T(1));
  for (int64_t j = 0; j < hidden; j += hn::MaxLanes(d)) {
    const size_t count = std::min<size_t>(hn::MaxLanes(d), hidden - j);
    const V i = LoadPart(d, row.activated + j, count), f = LoadPart(d, row.activated + hidden + j, count);
    const V g = LoadPart(d, row.activated + 2 * hidden + j, count);
    const V o = LoadPart(d, row.activated + 3 * hidden + j, count);
    const V tanh_c = vector_tanh(d, LoadPart(d, row.c + j, count));
    const V c_before = row.c_before != nullptr ? LoadPart(d, row.c_before + j, count) : hn::Zero(d);
    const V dh = hn::Add(hn::Load(d, row.dh + j), LoadPart(d, row.grad_y + j, count));
    const V dc = hn::MulAdd(hn::Mul(dh, o), hn::NegMulAdd(tanh_c, tanh_c, one), hn::Load(d, row.dc + j));
    const V di = hn::Mul(hn::Mul(dc, g), hn::Mul(i, hn::Sub(one, i)));
    const V df = hn::Mul(hn::Mul(dc, c_before), hn::Mul(f, hn::Sub(one, f)));
    const V dg = hn::Mul(hn::Mul(dc, i), hn::NegMulAdd(g, g, one));
    const V output = hn::Mul(hn::Mul(dh, tanh_c), hn::Mul(o, hn::Sub(one, o)));
    StorePart(di, d, row.grad_gates + j, count);
    StorePart(df, d, row.grad_gates + hidden + j, count);
    StorePart(dg, d, row.grad_gates + 2 * hidden + j, count);
    StorePart(output, d, row.grad_gates + 3 * hidden + j, count);
    hn::Store(hn::Mul(dc, f), d, row.dc + j);
    if (row.h_target != nullptr) StorePart(hn::Mul(o, tanh_c), d, row.h_target + j, count);
  }
}

template <class T>
void Backward(const LstmScanBackward<T>& p, int64_t begin, int64_t end) {
  const hn::ScalableTag<T> d;
  const int64_t H = p.hidden, L = p.length, rows = end - begin;
  const int64_t lanes = hn::MaxLanes(d), padded = (H + lanes - 1) / lanes * lanes;
  const auto memory = hwy::AllocateAligned<T>(rows * 2 * padded);
  std::fill_n(memory.get(), rows * 2 * padded, T(0));
  const auto dh_of = [&](int64_t r) { return memory.get() + r * 2 * padded; };
  const auto dc_of = [&](int64_t r) { return memory.get() + (r * 2 + 1) * padded; };
  std::vector<int64_t> wanted(rows, -1);  // the later token that still needs its h_{t-1}
  std::vector<AdjointRow<T>> products(rows);
  for (int64_t r = 0; r < rows; ++r) {
    std::copy_n(p.grad_h + (begin + r) * H, H, dh_of(r));
    std::copy_n(p.grad_c + (begin + r) * H, H, dc_of(r));
  }
  for (int64_t t = L - 1; t >= 0; --t) {
    size_t n = 0;
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t b = begin + r, token = b * L + t;
      const int64_t position = p.positions != nullptr ? p.positions[token] : 1;
      if (position < 0) {
        std::fill_n(p.grad_gates + token * 4 * H, 4 * H, T(0));
        std::fill_n(p.previous_h + token * H, H, T(0));
        continue;
      }
      const T* c_before = t > 0 ? p.cells + (token - 1) * H : p.c0 != nullptr ? p.c0 + b * H : nullptr;
      if (position == 0) c_before = nullptr;
      T* const target = wanted[r] >= 0 ? p.previous_h + wanted[r] * H : nullptr;
      CellBackward(d,
                   AdjointCell<T>{p.activated + token * 4 * H, p.cells + token * H, c_before, p.grad_y + token * H,
                                  dh_of(r), dc_of(r), p.grad_gates + token * 4 * H, target},
                   H);
      if (position == 0) {
        std::fill_n(p.previous_h + token * H, H, T(0));
        std::fill_n(dh_of(r), H, T(0));
        std::fill_n(dc_of(r), H, T(0));
        wanted[r] = -1;
      } else {
        products[n++] = {p.grad_gates + token * 4 * H, nullptr, dh_of(r), nullptr};
        wanted[r] = token;
      }
    }
    AdjointProduct(d, products.data(), n, p.packed, 4 * H, int64_t{0}, H);
  }
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t b = begin + r;
    if (wanted[r] >= 0) {
      T* const target = p.previous_h + wanted[r] * H;
      p.h0 != nullptr ? std::copy_n(p.h0 + b * H, H, target) : std::fill_n(target, H, T(0));
    }
    std::copy_n(dh_of(r), H, p.grad_h0 + b * H);
    std::copy_n(dc_of(r), H, p.grad_c0 + b * H);
  }
}

template <class T>
void Activations(const T* x, int64_t count, T* sigmoid, T* tanh) {
  const hn::ScalableTag<T> d;
  for (int64_t i = 0; i < count; i += hn::MaxLanes(d)) {
    const size_t part = std::min<size_t>(hn::MaxLanes(d), count - i);
    const auto v = LoadPart(d, x + i, part);
    StorePart(vector_sigmoid(d, v), d, sigmoid + i, part);
    StorePart(vector_tanh(d, v), d, tanh + i, part);
  }
}

#define HIPPODROME_LSTM_KERNELS(T, Name)                                                                            \
  void Pack##Name(const T* weight, int64_t H, T* packed) { PackGates(hn::ScalableTag<T>(), weight, 4, H, packed); } \
  void PackAdjoint##Name(const T* weight, int64_t H, T* packed) {                                                   \
    PackColumns(hn::ScalableTag<T>(), weight, 4 * H, H, packed);                                                    \
  }                                                                                                                 \
  void Forward##Name(const LstmScanForward<T>& p, int64_t begin, int64_t end) { Forward(p, begin, end); }           \
  void Backward##Name(const LstmScanBackward<T>& p, int64_t begin, int64_t end) { Backward(p, begin, end); }        \
  void Activations##Name(const T* x, int64_t n, T* sigmoid, T* tanh) { Activations(x, n, sigmoid, tanh); }
HIPPODROME_LSTM_KERNELS(float, Float)
HIPPODROME_LSTM_KERNELS(double, Double)
#undef HIPPODROME_LSTM_KERNELS

}  // namespace hippodrome::lstm_scan_kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hippodrome {
namespace lstm_scan_kernel {
#define HIPPODROME_LSTM_EXPORTS(Name) \
  HWY_EXPORT(Pack##Name);             \
  HWY_EXPORT(PackAdjoint##Name);      \
  HWY_EXPORT(Forward##Name);          \
  HWY_EXPORT(Backward##Name);         \
  HWY_EXPORT(Activations##Name);
HIPPODROME_LSTM_EXPORTS(Float)
HIPPODROME_LSTM_EXPORTS(Double)
#undef HIPPODROME_LSTM_EXPORTS
}  // namespace lstm_scan_kernel

#define HIPPODROME_LSTM_ENTRIES(T, Name)                                              \
  template <>                                                                         \
  void lstm_scan_pack(const T* weight_hh, int64_t hidden, T* packed) {                \
    using namespace lstm_scan_kernel;                                                 \
    HWY_DYNAMIC_DISPATCH(Pack##Name)(weight_hh, hidden, packed);                      \
  }                                                                                   \
  template <>                                                                         \
  void lstm_scan_pack_adjoint(const T* weight_hh, int64_t hidden, T* packed) {        \
    using namespace lstm_scan_kernel;                                                 \
    HWY_DYNAMIC_DISPATCH(PackAdjoint##Name)(weight_hh, hidden, packed);               \
  }                                                                                   \
  template <>                                                                         \
  void lstm_scan_forward(const LstmScanForward<T>& p, int64_t begin, int64_t end) {   \
    using namespace lstm_scan_kernel;                                                 \
    HWY_DYNAMIC_DISPATCH(Forward##Name)(p, begin, end);                               \
  }                                                                                   \
  template <>                                                                         \
  void lstm_scan_backward(const LstmScanBackward<T>& p, int64_t begin, int64_t end) { \
    using namespace lstm_scan_kernel;                                                 \
    HWY_DYNAMIC_DISPATCH(Backward##Name)(p, begin, end);                              \
  }                                                                                   \
  template <>                                                                         \
  void recurrent_activations(const T* x, int64_t count, T* sigmoid, T* tanh) {        \
    using namespace lstm_scan_kernel;                                                 \
    HWY_DYNAMIC_DISPATCH(Activations##Name)(x, count, sigmoid, tanh);                 \
  }
HIPPODROME_LSTM_ENTRIES(float, Float)
HIPPODROME_LSTM_ENTRIES(double, Double)
#undef HIPPODROME_LSTM_ENTRIES

}  // namespace hippodrome
#endif  // HWY_ONCE

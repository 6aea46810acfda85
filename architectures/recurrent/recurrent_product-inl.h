// h [rows, H] · Wᵀ and its adjoint, with sums kept in registers. Included once per instruction set.
//
// Every output is one sum over k = 0 … depth-1 in order, whatever the number of rows taken together, so a row's bits do
// not depend on the batch around it or on the number of threads.
#if defined(HIPPODROME_RECURRENT_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HIPPODROME_RECURRENT_PRODUCT_INL_H_
#undef HIPPODROME_RECURRENT_PRODUCT_INL_H_
#else
#define HIPPODROME_RECURRENT_PRODUCT_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::product::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Rows per pass over a weight panel: 6 rows × 4 vectors of sums + 4 weights + 1 broadcast fill 29 of 32 registers;
// with 16 registers, 2 rows.
inline constexpr size_t kRowsTogether = (HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM) ? 6 : 2;

// Loads `count` elements (the rest are 0) without touching memory behind them.
template <class D, class T>
HWY_INLINE hn::Vec<D> LoadPart(D d, const T* p, size_t count) {
  if (HWY_LIKELY(count >= hn::MaxLanes(d))) return hn::LoadU(d, p);
  HWY_ALIGN T lanes[hn::MaxLanes(d)] = {};
  std::memcpy(lanes, p, count * sizeof(T));
  return hn::Load(d, lanes);
}

template <class D, class T>
HWY_INLINE void StorePart(hn::Vec<D> v, D d, T* p, size_t count) {
  if (HWY_LIKELY(count >= hn::MaxLanes(d))) {
    hn::StoreU(v, d, p);
    return;
  }
  HWY_ALIGN T lanes[hn::MaxLanes(d)];
  hn::Store(v, d, lanes);
  std::memcpy(p, lanes, count * sizeof(T));
}

// sum[m][v] += Σ_k rows[m][k] · panel[k][v]
template <size_t kRows, size_t kVectors, class D, class T, class V>
HWY_INLINE void AddProduct(D d, const T* const (&rows)[kRows], const T* HWY_RESTRICT panel, int64_t depth,
                           V (&sum)[kRows][kVectors]) {
  constexpr size_t kLanes = hn::MaxLanes(d);
  for (int64_t k = 0; k < depth; ++k, panel += kVectors * kLanes) {
    V w[kVectors];
#pragma GCC unroll 8
    for (size_t v = 0; v < kVectors; ++v) w[v] = hn::LoadU(d, panel + v * kLanes);
#pragma GCC unroll 8
    for (size_t m = 0; m < kRows; ++m) {
      const V x = hn::Set(d, rows[m][k]);
#pragma GCC unroll 8
      for (size_t v = 0; v < kVectors; ++v) sum[m][v] = hn::MulAdd(x, w[v], sum[m][v]);
    }
  }
}

// Calls f(first, std::integral_constant<size_t, rows>) over `n` rows in groups of at most kRowsTogether, evenly sized.
template <size_t kRows = kRowsTogether, class F>
HWY_INLINE void CallWithRows(size_t rows, size_t first, F& f) {
  if (rows == kRows) {
    f(first, std::integral_constant<size_t, kRows>());
  } else if constexpr (kRows > 1) {
    CallWithRows<kRows - 1>(rows, first, f);
  }
}

template <class F>
HWY_INLINE void ForRowGroups(size_t n, F f) {
  const size_t groups = (n + kRowsTogether - 1) / kRowsTogether;
  size_t first = 0;
  for (size_t g = 0; g < groups; ++g) {
    const size_t rows = n / groups + (g < n % groups ? 1 : 0);
    CallWithRows(rows, first, f);
    first += rows;
  }
}

// weight [gates·H, H] → packed[panel of lanes units][k][gate][lane]: what a forward step reads, in its order.
template <class D, class T>
void PackGates(D d, const T* HWY_RESTRICT weight, int64_t gates, int64_t hidden, T* HWY_RESTRICT packed) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t first = 0; first < hidden; first += lanes, packed += hidden * gates * lanes) {
    for (int64_t gate = 0; gate < gates; ++gate) {
      for (int64_t lane = 0; lane < lanes; ++lane) {
        T* out = packed + gate * lanes + lane;
        if (first + lane < hidden) {
          const T* row = weight + (gate * hidden + first + lane) * hidden;
          for (int64_t k = 0; k < hidden; ++k) out[k * gates * lanes] = row[k];
        } else {
          for (int64_t k = 0; k < hidden; ++k) out[k * gates * lanes] = T(0);
        }
      }
    }
  }
}

// How many vectors of columns the adjoint product takes at once, of `left`.
HWY_INLINE int64_t ColumnVectors(int64_t left) { return left >= 4 ? 4 : left >= 2 ? 2 : 1; }

// weight [depth, H] → packed[group of column vectors][j][vector][lane]: what a backward step reads.
template <class D, class T>
void PackColumns(D d, const T* HWY_RESTRICT weight, int64_t depth, int64_t hidden, T* HWY_RESTRICT packed) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t vectors = (hidden + lanes - 1) / lanes;
  for (int64_t q = 0; q < vectors;) {
    const int64_t width = ColumnVectors(vectors - q) * lanes;
    const int64_t first = q * lanes;
    const int64_t count = std::min(width, hidden - first);
    for (int64_t j = 0; j < depth; ++j, packed += width) {
      std::copy_n(weight + j * hidden + first, count, packed);
      std::fill(packed + count, packed + width, T(0));
    }
    q += width / lanes;
  }
}

// out[row][0 … H) = start[row] + Σ_j (a[row] ++ b[row])[j] · W[j, :], the two parts of j being depth_a and depth_b
// long.
template <class T>
struct AdjointRow {
  const T* a;
  const T* b;
  T* out;          // padded to whole vectors
  const T* start;  // likewise; null for zeros
};

template <class D, class T>
void AdjointProduct(D d, const AdjointRow<T>* rows, size_t row_count, const T* packed, int64_t depth_a, int64_t depth_b,
                    int64_t hidden) {
  constexpr size_t kLanes = hn::MaxLanes(d);
  const int64_t vectors = (hidden + kLanes - 1) / kLanes;
  for (int64_t q = 0; q < vectors;) {
    const int64_t together = ColumnVectors(vectors - q);
    const auto pass = [&](auto width, const T* panel) {
      constexpr size_t kVectors = decltype(width)::value;
      ForRowGroups(row_count, [&](size_t first, auto group) {
        constexpr size_t kRows = decltype(group)::value;
        hn::Vec<D> sum[kRows][kVectors];
        const T* a[kRows];
        const T* b[kRows];
        for (size_t m = 0; m < kRows; ++m) {
          a[m] = rows[first + m].a;
          b[m] = rows[first + m].b;
          for (size_t v = 0; v < kVectors; ++v) {
            const T* start = rows[first + m].start;
            sum[m][v] = start != nullptr ? hn::LoadU(d, start + (q + v) * kLanes) : hn::Zero(d);
          }
        }
        AddProduct<kRows, kVectors>(d, a, panel, depth_a, sum);
        if (depth_b > 0) AddProduct<kRows, kVectors>(d, b, panel + depth_a * kVectors * kLanes, depth_b, sum);
        for (size_t m = 0; m < kRows; ++m) {
          for (size_t v = 0; v < kVectors; ++v) hn::StoreU(sum[m][v], d, rows[first + m].out + (q + v) * kLanes);
        }
      });
    };
    if (together == 4) {
      pass(std::integral_constant<size_t, 4>(), packed);
    } else if (together == 2) {
      pass(std::integral_constant<size_t, 2>(), packed);
    } else {
      pass(std::integral_constant<size_t, 1>(), packed);
    }
    packed += (depth_a + depth_b) * together * kLanes;
    q += together;
  }
}

// out[gate·stride + j] = W[gate·H + j, :] · h for all units j: the weight is read once, where it lies.
template <size_t kGates, class D, class T>
void DirectProduct(D d, const T* HWY_RESTRICT weight, const T* HWY_RESTRICT h, int64_t hidden, int64_t stride,
                   T* HWY_RESTRICT out) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t j = 0; j < hidden; ++j) {
    hn::Vec<D> sum[kGates];
    for (size_t g = 0; g < kGates; ++g) sum[g] = hn::Zero(d);
    const T* row = weight + j * hidden;
    int64_t k = 0;
    for (; k + lanes <= hidden; k += lanes) {
      const auto x = hn::LoadU(d, h + k);
#pragma GCC unroll 4
      for (size_t g = 0; g < kGates; ++g) {
        sum[g] = hn::MulAdd(x, hn::LoadU(d, row + g * hidden * hidden + k), sum[g]);
      }
    }
    if (k < hidden) {
      const auto x = LoadPart(d, h + k, hidden - k);
      for (size_t g = 0; g < kGates; ++g) {
        sum[g] = hn::MulAdd(x, LoadPart(d, row + g * hidden * hidden + k, hidden - k), sum[g]);
      }
    }
    for (size_t g = 0; g < kGates; ++g) out[g * stride + j] = hn::GetLane(hn::SumOfLanes(d, sum[g]));
  }
}

}  // namespace hippodrome::product::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard

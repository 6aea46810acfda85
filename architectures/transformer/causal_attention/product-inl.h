// The one matrix product that the attention kernels are made of, for one instruction set: a scalar of one side times a
// vector of the other, sums in registers.
#if defined(HIPPODROME_CAUSAL_ATTENTION_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HIPPODROME_CAUSAL_ATTENTION_PRODUCT_INL_H_
#undef HIPPODROME_CAUSAL_ATTENTION_PRODUCT_INL_H_
#else
#define HIPPODROME_CAUSAL_ATTENTION_PRODUCT_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::causal_attention_kernel::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Rows and vectors of sums in registers: 24 of 32, or 12 of 16.
inline constexpr size_t kTileRows = (HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM) ? 8 : 4;
inline constexpr size_t kTileVectors = 3;

// What the product is added to: nothing, c, or c times a scale for each column.
enum class Start { kZero, kAdd, kScaled };

// a(r, i) = a[r a_row + i a_depth], b [depth, b_row].
template <class T>
struct Operands {
  const T* a;
  int64_t a_row, a_depth;
  const T* b;
  int64_t b_row, depth;
};

template <size_t kVectors, Start kStart, class D, class T = hn::TFromD<D>>
HWY_NOINLINE void tile(D d, const Operands<T>& o, int64_t row, int64_t column, const T* scale, T* HWY_RESTRICT c,
                       int64_t c_row) {
  using V = hn::VFromD<D>;
  const size_t lanes = hn::Lanes(d);
  V sum[kTileRows][kVectors];
  c += row * c_row + column;
  // Loops over sums are unrolled by order: only then are these kept in registers.
#pragma GCC unroll 8
  for (size_t r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 3
    for (size_t j = 0; j < kVectors; ++j) {
      if constexpr (kStart == Start::kZero) {
        sum[r][j] = hn::Zero(d);
      } else {
        sum[r][j] = hn::Load(d, c + static_cast<int64_t>(r) * c_row + j * lanes);
        if constexpr (kStart == Start::kScaled) sum[r][j] = hn::Mul(sum[r][j], hn::Load(d, scale + column + j * lanes));
      }
    }
  }
  const T *HWY_RESTRICT a = o.a + row * o.a_row, *HWY_RESTRICT b = o.b + column;
  const int64_t a_row = o.a_row, a_depth = o.a_depth, b_row = o.b_row;
  for (int64_t i = 0; i < o.depth; ++i, a += a_depth, b += b_row) {
    V right[kVectors];
#pragma GCC unroll 3
    for (size_t j = 0; j < kVectors; ++j) right[j] = hn::Load(d, b + j * lanes);
#pragma GCC unroll 8
    for (size_t r = 0; r < kTileRows; ++r) {
      const V left = hn::Set(d, a[static_cast<int64_t>(r) * a_row]);
#pragma GCC unroll 3
      for (size_t j = 0; j < kVectors; ++j) sum[r][j] = hn::MulAdd(left, right[j], sum[r][j]);
    }
  }
#pragma GCC unroll 8
  for (size_t r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 3
    for (size_t j = 0; j < kVectors; ++j) hn::Store(sum[r][j], d, c + static_cast<int64_t>(r) * c_row + j * lanes);
  }
}

// c [rows, width] = Start + a b. Rows are a multiple of kTileRows, width and all row lengths one of the vector's lanes.
template <Start kStart, class D, class T = hn::TFromD<D>>
void product(D d, const Operands<T>& o, int64_t rows, int64_t width, const T* scale, T* c, int64_t c_row) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d)), step = static_cast<int64_t>(kTileRows);
  for (int64_t column = 0; column < width;) {
    const int64_t vectors = (width - column) / lanes;
    // Four as two and two: a single vector leaves the multipliers waiting for its sums.
    const int64_t taken = vectors == 4 ? 2 : std::min<int64_t>(vectors, kTileVectors);
    for (int64_t row = 0; row < rows; row += step) {
      if (taken == 3) {
        tile<3, kStart>(d, o, row, column, scale, c, c_row);
      } else if (taken == 2) {
        tile<2, kStart>(d, o, row, column, scale, c, c_row);
      } else {
        tile<1, kStart>(d, o, row, column, scale, c, c_row);
      }
    }
    column += taken * lanes;
  }
}

}  // namespace hippodrome::causal_attention_kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif

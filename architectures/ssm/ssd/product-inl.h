// Small matrix products in registers, compiled once per instruction set: what the chunked form is made of.
#if defined(HIPPODROME_SSD_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HIPPODROME_SSD_PRODUCT_INL_H_
#undef HIPPODROME_SSD_PRODUCT_INL_H_
#else
#define HIPPODROME_SSD_PRODUCT_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "hwy/highway.h"

// The loops over registers must unroll completely, so that arrays of vectors become registers.
#if defined(__clang__)
#define HIPPODROME_SSD_UNROLL _Pragma("clang loop unroll(full)")
#else
#define HIPPODROME_SSD_UNROLL _Pragma("GCC unroll 16")
#endif

HWY_BEFORE_NAMESPACE();
namespace hippodrome::ssd_kernel {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
using Tag = hn::ScalableTag<T>;
template <class T>
using Vector = hn::Vec<Tag<T>>;
// Constant on every instruction set this file is compiled for (the scalable ones are disabled in cpu.cpp).
template <class T>
inline constexpr int64_t kLanes = HWY_TARGET == HWY_SCALAR ? 1 : HWY_MAX_BYTES / sizeof(T);

// As many sums as hide the latency of a multiply-add and fit the registers, of which AVX-512 has 32 and the others 16.
inline constexpr int kRows = HWY_MAX_BYTES == 64 ? 8 : 6;
inline constexpr int kVectors = 2;

// Element (r, k) of the left factor is data[r * row + k * column]: also a transposed one.
template <class T>
struct Left {
  const T* data;
  int64_t row;
  int64_t column;
};
// Row-major, rows padded to whole vectors.
template <class T>
struct Right {
  const T* data;
  int64_t row;
};

template <int kR, int kV, class T>
HWY_INLINE void product_block(int64_t inner, const Left<T>& left, const Right<T>& right, T scale, T* to,
                              int64_t to_row) {
  const Tag<T> d;
  Vector<T> sum[kR][kV];
  const Vector<T> factor = hn::Set(d, scale);
  HIPPODROME_SSD_UNROLL
  for (int r = 0; r < kR; ++r) {
    HIPPODROME_SSD_UNROLL
    for (int v = 0; v < kV; ++v) {
      sum[r][v] = scale == T(0) ? hn::Zero(d) : hn::Mul(factor, hn::LoadU(d, to + r * to_row + v * kLanes<T>));
    }
  }
  const T *left_at = left.data, *right_at = right.data;
  for (int64_t k = 0; k < inner; ++k, left_at += left.column, right_at += right.row) {
    Vector<T> b[kV];
    HIPPODROME_SSD_UNROLL
    for (int v = 0; v < kV; ++v) b[v] = hn::LoadU(d, right_at + v * kLanes<T>);
    HIPPODROME_SSD_UNROLL
    for (int r = 0; r < kR; ++r) {
      const Vector<T> a = hn::Set(d, left_at[r * left.row]);
      HIPPODROME_SSD_UNROLL
      for (int v = 0; v < kV; ++v) sum[r][v] = hn::MulAdd(a, b[v], sum[r][v]);
    }
  }
  HIPPODROME_SSD_UNROLL
  for (int r = 0; r < kR; ++r) {
    HIPPODROME_SSD_UNROLL
    for (int v = 0; v < kV; ++v) hn::StoreU(sum[r][v], d, to + r * to_row + v * kLanes<T>);
  }
}

// Up to kR rows in one block. Row by row, each would wait for its own few sums.
template <int kR, int kV, class T>
HWY_INLINE void product_rest(int64_t rows, int64_t inner, const Left<T>& left, const Right<T>& right, T scale, T* to,
                             int64_t to_row) {
  if constexpr (kR > 0) {
    if (rows == kR) {
      product_block<kR, kV>(inner, left, right, scale, to, to_row);
    } else {
      product_rest<kR - 1, kV>(rows, inner, left, right, scale, to, to_row);
    }
  }
}

template <int kV, class T>
HWY_NOINLINE void product_columns(int64_t rows, int64_t inner, Left<T> left, const Right<T>& right, T scale, T* to,
                                  int64_t to_row) {
  int64_t r = 0;
  for (; r + kRows <= rows; r += kRows) {
    product_block<kRows, kV>(inner, Left<T>{left.data + r * left.row, left.row, left.column}, right, scale,
                             to + r * to_row, to_row);
  }
  product_rest<kRows - 1, kV>(rows - r, inner, Left<T>{left.data + r * left.row, left.row, left.column}, right, scale,
                              to + r * to_row, to_row);
}

// to [rows, columns] = scale to + left [rows, inner] right [inner, columns]. Columns are rounded up to whole vectors,
// of which `right` and `to` must have as many. With scale 0 `to` is not read.
template <class T>
void product(int64_t rows, int64_t columns, int64_t inner, Left<T> left, Right<T> right, T scale, T* to,
             int64_t to_row) {
  const int64_t vectors = (columns + kLanes<T> - 1) / kLanes<T>;
  int64_t v = 0;
  for (; v + kVectors <= vectors; v += kVectors) {
    product_columns<kVectors>(rows, inner, left, Right<T>{right.data + v * kLanes<T>, right.row}, scale,
                              to + v * kLanes<T>, to_row);
  }
  for (; v < vectors; ++v) {
    product_columns<1>(rows, inner, left, Right<T>{right.data + v * kLanes<T>, right.row}, scale, to + v * kLanes<T>,
                       to_row);
  }
}

// The products with a lower-triangular matrix go by blocks of kRows rows. Entries above the diagonal inside a block are
// zero, those behind the block are not looked at.
inline int64_t end_of_rows(int64_t row, int64_t rows) { return std::min(row / kRows * kRows + kRows, rows); }

// lower [rows, rows] = left [rows, inner] right [inner, rows], on and below the diagonal's blocks.
template <class T>
void product_to_lower(int64_t rows, int64_t inner, Left<T> left, Right<T> right, T* lower, int64_t lower_row) {
  for (int64_t r = 0; r < rows; r += kRows) {
    const int64_t end = end_of_rows(r, rows);
    product(end - r, end, inner, Left<T>{left.data + r * left.row, left.row, left.column}, right, T(0),
            lower + r * lower_row, lower_row);
  }
}

// to [rows, columns] = scale to + lower [rows, rows] right [rows, columns].
template <class T>
void product_by_lower(int64_t rows, int64_t columns, const T* lower, int64_t lower_row, Right<T> right, T scale, T* to,
                      int64_t to_row) {
  for (int64_t r = 0; r < rows; r += kRows) {
    const int64_t end = end_of_rows(r, rows);
    product(end - r, columns, end, Left<T>{lower + r * lower_row, lower_row, 1}, right, scale, to + r * to_row, to_row);
  }
}

// to [rows, columns] = scale to + lower^T [rows, rows] right [rows, columns].
template <class T>
void product_by_lower_transposed(int64_t rows, int64_t columns, const T* lower, int64_t lower_row, Right<T> right,
                                 T scale, T* to, int64_t to_row) {
  for (int64_t r = 0; r < rows; r += kRows) {
    product(end_of_rows(r, rows) - r, columns, rows - r, Left<T>{lower + r * lower_row + r, 1, lower_row},
            Right<T>{right.data + r * right.row, right.row}, scale, to + r * to_row, to_row);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace hippodrome::ssd_kernel
HWY_AFTER_NAMESPACE();
#endif

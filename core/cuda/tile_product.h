// The product of two square tiles in shared memory, by all threads of a block (block.h), with the sums in registers:
//
//   C[kSide, kSide] += A[kSide, kSide] B[kSide, kSide]
//
// On a GPU the products of bfloat16 and float16 tiles run on its tensor cores (16 x 16 x 16, through CUDA's portable
// interface to them), with float32 sums. Other types, and every type on the CPU, take plain loops in ScalarOf<T>:
// float32 on tensor cores would mean TF32, which has 10 bits of mantissa. A product of two bfloat16 or float16 numbers
// is exact in float32, so that the two ways differ by the rounding of sums only.
#pragma once

#include <type_traits>

#include "core/cuda/block.h"

#ifdef __CUDACC__
#include <mma.h>
#endif

namespace hippodrome::cuda {

// How a tile lies in shared memory: row by row, or column by column.
enum class Stored { kByRow, kByColumn };

// A warp works on 32 x 32 of the sums. A tile of T has kRow elements between its rows (or columns) and starts at an
// address divisible by 32; tiles of sums have kSumRow.
template <class T, int kSide>
struct TileLayout {
  static_assert(kSide % 32 == 0, "a warp works on 32 x 32 sums");
  using Scalar = ScalarOf<T>;
  static constexpr int kThreads = kSide * kSide / 32;
  static constexpr int kWarpsAcross = kSide / 32;
  // 16 bytes over, or the threads of a warp that read a column would all meet in one bank.
  static constexpr int kRow = kSide + 16 / static_cast<int>(sizeof(T));
  static constexpr int kSumRow = kSide + 16 / static_cast<int>(sizeof(Scalar));
  static constexpr int kTileSize = kSide * kRow;        // elements
  static constexpr int kSumTileSize = kSide * kSumRow;  // elements
};

// By multiplying and adding: a thread has 8 x 4 sums, rows 4 and columns 8 apart, so that neighbouring threads read
// neighbouring elements. Reading shared memory is what limits it: 12 reads for 32 multiply-adds.
template <class T, int kSide>
struct PlainTileProduct : TileLayout<T, kSide> {
  using Layout = TileLayout<T, kSide>;
  using typename Layout::Scalar;
  static constexpr int kRows = 8, kColumns = 4;
  struct Sums {
    Scalar value[kRows][kColumns];
  };

  static HIPPODROME_HOST_DEVICE int row_of(int thread, int r) {
    return thread / 32 / Layout::kWarpsAcross * 32 + thread % 32 / 8 + 4 * r;
  }
  static HIPPODROME_HOST_DEVICE int column_of(int thread, int c) {
    return thread / 32 % Layout::kWarpsAcross * 32 + thread % 8 + 8 * c;
  }

  static HIPPODROME_HOST_DEVICE void clear(Sums& sums) {
    HIPPODROME_UNROLL
    for (int r = 0; r < kRows; ++r) {
      HIPPODROME_UNROLL
      for (int c = 0; c < kColumns; ++c) sums.value[r][c] = Scalar(0);
    }
  }

  template <Stored kA, Stored kB>
  static HIPPODROME_HOST_DEVICE void add(int thread, const T* A, const T* B, Sums& sums) {
    constexpr int kRow = Layout::kRow;
    A += row_of(thread, 0) * (kA == Stored::kByRow ? kRow : 1);
    B += column_of(thread, 0) * (kB == Stored::kByRow ? 1 : kRow);
    for (int k = 0; k < kSide; ++k) {
      Scalar a[kRows], b[kColumns];
      HIPPODROME_UNROLL
      for (int r = 0; r < kRows; ++r) a[r] = load(kA == Stored::kByRow ? A[4 * r * kRow + k] : A[k * kRow + 4 * r]);
      HIPPODROME_UNROLL
      for (int c = 0; c < kColumns; ++c) b[c] = load(kB == Stored::kByRow ? B[k * kRow + 8 * c] : B[8 * c * kRow + k]);
      HIPPODROME_UNROLL
      for (int r = 0; r < kRows; ++r) {
        HIPPODROME_UNROLL
        for (int c = 0; c < kColumns; ++c) sums.value[r][c] += a[r] * b[c];
      }
    }
  }

  static HIPPODROME_HOST_DEVICE void store_sums(int thread, const Sums& sums, Scalar* to) {
    HIPPODROME_UNROLL
    for (int r = 0; r < kRows; ++r) {
      HIPPODROME_UNROLL
      for (int c = 0; c < kColumns; ++c)
        to[row_of(thread, r) * Layout::kSumRow + column_of(thread, c)] = sums.value[r][c];
    }
  }
};

template <class T, int kSide>
struct TileProduct : PlainTileProduct<T, kSide> {};

#ifdef __CUDACC__

template <class T>
struct TensorCoreElement;
template <>
struct TensorCoreElement<BFloat16> {
  using Type = __nv_bfloat16;
};
template <>
struct TensorCoreElement<Half> {
  using Type = __half;
};

// On tensor cores: a warp has 2 x 2 fragments of 16 x 16 sums.
template <class T, int kSide>
struct TensorCoreTileProduct : TileLayout<T, kSide> {
  using Layout = TileLayout<T, kSide>;
  using Element = typename TensorCoreElement<T>::Type;
  struct Sums {
    nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float> part[2][2];
  };

  static __device__ __forceinline__ int row_of(int thread) { return thread / 32 / Layout::kWarpsAcross * 32; }
  static __device__ __forceinline__ int column_of(int thread) { return thread / 32 % Layout::kWarpsAcross * 32; }

  static __device__ __forceinline__ void clear(Sums& sums) {
#pragma unroll
    for (int i = 0; i < 4; ++i) nvcuda::wmma::fill_fragment(sums.part[i / 2][i % 2], 0.0f);
  }

  template <Stored kA, Stored kB>
  static __device__ __forceinline__ void add(int thread, const T* A, const T* B, Sums& sums) {
    using nvcuda::wmma::fragment;
    using LayoutA = std::conditional_t<kA == Stored::kByRow, nvcuda::wmma::row_major, nvcuda::wmma::col_major>;
    using LayoutB = std::conditional_t<kB == Stored::kByRow, nvcuda::wmma::row_major, nvcuda::wmma::col_major>;
    constexpr int kRow = Layout::kRow;
    const Element* const a = reinterpret_cast<const Element*>(A) + row_of(thread) * (kA == Stored::kByRow ? kRow : 1);
    const Element* const b =
        reinterpret_cast<const Element*>(B) + column_of(thread) * (kB == Stored::kByRow ? 1 : kRow);
#pragma unroll
    for (int k = 0; k < kSide; k += 16) {
      fragment<nvcuda::wmma::matrix_a, 16, 16, 16, Element, LayoutA> left[2];
      fragment<nvcuda::wmma::matrix_b, 16, 16, 16, Element, LayoutB> right[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        nvcuda::wmma::load_matrix_sync(left[i], a + (kA == Stored::kByRow ? 16 * i * kRow + k : k * kRow + 16 * i),
                                       kRow);
        nvcuda::wmma::load_matrix_sync(right[i], b + (kB == Stored::kByRow ? k * kRow + 16 * i : 16 * i * kRow + k),
                                       kRow);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        nvcuda::wmma::mma_sync(sums.part[i / 2][i % 2], left[i / 2], right[i % 2], sums.part[i / 2][i % 2]);
      }
    }
  }

  static __device__ __forceinline__ void store_sums(int thread, const Sums& sums, float* to) {
    to += row_of(thread) * Layout::kSumRow + column_of(thread);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      nvcuda::wmma::store_matrix_sync(to + i / 2 * 16 * Layout::kSumRow + i % 2 * 16, sums.part[i / 2][i % 2],
                                      Layout::kSumRow, nvcuda::wmma::mem_row_major);
    }
  }
};

template <int kSide>
struct TileProduct<BFloat16, kSide> : TensorCoreTileProduct<BFloat16, kSide> {};
template <int kSide>
struct TileProduct<Half, kSide> : TensorCoreTileProduct<Half, kSide> {};

#endif  // __CUDACC__

}  // namespace hippodrome::cuda

// Products of tiles against sums in double.
#include "core/cuda/tile_product.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/cuda/emulator.h"

namespace hippodrome::cuda {
namespace {

// sums [kSide, kSide] = 2 A B, in two products.
template <class T, int kSide, Stored kA, Stored kB>
struct Twice {
  using Tile = TileProduct<T, kSide>;
  using S = ScalarOf<T>;
  struct Params {
    const T *A, *B;  // [kSide, kSide], stored as kA and kB say
    S* sums;
  };
  static constexpr int kThreads = Tile::kThreads;
  static int64_t blocks(const Params&) { return 1; }
  static int64_t shared_bytes(const Params&) {
    return 2 * shared_size<T>(Tile::kTileSize) + shared_size<S>(Tile::kSumTileSize);
  }
  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Params& p) {
    T* const A = block.template shared<T>(Tile::kTileSize);
    T* const B = block.template shared<T>(Tile::kTileSize);
    S* const result = block.template shared<S>(Tile::kSumTileSize);
    typename Block::template PerThread<typename Tile::Sums> sums;
    block.each([&](int thread) {
      for (int i = thread; i < kSide * kSide; i += kThreads) {
        A[i / kSide * Tile::kRow + i % kSide] = p.A[i];
        B[i / kSide * Tile::kRow + i % kSide] = p.B[i];
      }
      Tile::clear(sums[thread]);
    });
    for (int k = 0; k < 2; ++k)
      block.alone([&](int thread) { Tile::template add<kA, kB>(thread, A, B, sums[thread]); });
    block.each([&](int thread) { Tile::store_sums(thread, sums[thread], result); });
    block.alone([&](int thread) {
      for (int i = thread; i < kSide * kSide; i += kThreads) p.sums[i] = result[i / kSide * Tile::kSumRow + i % kSide];
    });
  }
};

template <class T, int kSide, Stored kA, Stored kB>
void expect_product(double bound) {
  using S = ScalarOf<T>;
  std::vector<T> A(kSide * kSide), B(kSide * kSide);
  for (size_t i = 0; i < A.size(); ++i) {
    store(static_cast<S>(std::sin(0.7 * static_cast<double>(i))), &A[i]);
    store(static_cast<S>(std::cos(1.3 * static_cast<double>(i))), &B[i]);
  }
  std::vector<S> forwards(A.size()), backwards(A.size());
  using Kernel = Twice<T, kSide, kA, kB>;
  EmulatedLauncher{}.run<Kernel>(typename Kernel::Params{A.data(), B.data(), forwards.data()});
  EmulatedLauncher{Order::kBackwards}.run<Kernel>(typename Kernel::Params{A.data(), B.data(), backwards.data()});
  EXPECT_EQ(forwards, backwards);
  double worst = 0.0;
  for (int row = 0; row < kSide; ++row) {
    for (int column = 0; column < kSide; ++column) {
      double sum = 0.0;
      for (int k = 0; k < kSide; ++k) {
        sum += static_cast<double>(load(kA == Stored::kByRow ? A[row * kSide + k] : A[k * kSide + row])) *
               static_cast<double>(load(kB == Stored::kByRow ? B[k * kSide + column] : B[column * kSide + k]));
      }
      worst = std::max(worst, std::abs(static_cast<double>(forwards[row * kSide + column]) - 2.0 * sum));
    }
  }
  EXPECT_LE(worst, bound);
}

template <class T, int kSide>
void expect_products(double bound) {
  expect_product<T, kSide, Stored::kByRow, Stored::kByRow>(bound);
  expect_product<T, kSide, Stored::kByRow, Stored::kByColumn>(bound);
  expect_product<T, kSide, Stored::kByColumn, Stored::kByRow>(bound);
  expect_product<T, kSide, Stored::kByColumn, Stored::kByColumn>(bound);
}

TEST(CudaTileProduct, EqualsSumsInDouble) {
  expect_products<double, 32>(1e-13);
  expect_products<float, 32>(2e-5);
  expect_products<float, 64>(4e-5);
  expect_products<BFloat16, 64>(4e-5);
  expect_products<Half, 32>(2e-5);
}

// What tensor cores ask of addresses: rows at multiples of 16 bytes, tiles of 16 x 16 at multiples of 32.
TEST(CudaTileProduct, TilesAreAlignedForTensorCores) {
  using Tile = TileLayout<BFloat16, 64>;
  EXPECT_EQ(Tile::kRow * 2 % 16, 0);
  EXPECT_EQ(16 * Tile::kRow * 2 % 32, 0);
  EXPECT_EQ(Tile::kTileSize * 2 % 32, 0);
  EXPECT_EQ(Tile::kSumRow * 4 % 16, 0);
  EXPECT_EQ(Tile::kSumTileSize * 4 % 32, 0);
}

}  // namespace
}  // namespace hippodrome::cuda

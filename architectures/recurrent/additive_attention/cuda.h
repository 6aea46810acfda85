// Entries of the CUDA kernels of additive attention. No CUDA and no LibTorch headers, so that both sides can include
// it. Equations and names: op.h.
#pragma once

#include <cstdint>

#include "core/cuda/element.h"

namespace hippodrome::additive_cuda {

// Queries of a row from which on tiles of queries and keys are worth their while. Below, lanes share a pair's sum.
inline constexpr int64_t kFewQueries = 4;
// Rows and columns of a tile.
inline constexpr int kTileRows = 16;
inline constexpr int kTileColumns = 128;
// Most parts that a side is split into.
inline constexpr int64_t kMostSplits = 256;

// Device pointers to contiguous arrays of `element`, as all void pointers below unless they say scalar: ScalarOf it.
struct Inputs {
  cuda::Element element = cuda::Element::kFloat;
  int64_t batch = 0, queries = 0, keys = 0, size = 0, width = 0;  // B, Lq, S, H, M
  const void* q = nullptr;                                        // [B, Lq, H]
  const void* k = nullptr;                                        // [B, S, H]
  const void* v = nullptr;                                        // [H]
  const void* values = nullptr;                                   // [B, S, M]; the weights alone: null
  const int64_t* positions = nullptr;                             // [B, S] or null
};

// Queries that a block holds in forward and for ∂q.
inline int64_t query_rows(int64_t queries) { return queries < kFewQueries ? 1 : kTileRows; }

// Into how many parts a side of `columns` is split where the other makes that many blocks: so many that there are 1024
// blocks, or as there are tiles. A rule of shape alone, so that a shape's sums always have one order.
inline int64_t splits(int64_t blocks, int64_t columns) {
  const int64_t wanted = blocks > 0 ? (1024 + blocks - 1) / blocks : 1;
  const int64_t tiles = (columns + kTileColumns - 1) / kTileColumns;
  const int64_t least = wanted < tiles ? wanted : tiles;
  return least < 1 ? 1 : least < kMostSplits ? least : kMostSplits;
}

struct Forward {
  Inputs in;
  int64_t splits = 1;       // of the keys
  void* partial = nullptr;  // scalar [splits, B, Lq, M]: each part's own sums; zero on entry; one part: the context
  void* maximum = nullptr;  // scalar [splits, B, Lq]: the largest score, and Σ e^{score - largest}; one part: null
  void* total = nullptr;
  void* context = nullptr;  // scalar [B, Lq, M]; one part: not used
  void* lse = nullptr;      // scalar [B, Lq]
};

struct Weights {
  Inputs in;
  void* weights = nullptr;  // scalar [B, Lq, S]
};

struct Backward {
  Inputs in;
  int64_t key_splits = 1, query_splits = 1;
  const void* grad_context = nullptr;  // [B, Lq, M]
  const void* lse = nullptr;           // scalar [B, Lq]
  const void* common = nullptr;        // scalar [B, Lq]: D
  // Scalar; to be added over the first dimension; zero on entry. The last three: null for ∂q alone.
  void* grad_q = nullptr;       // [key_splits, B, Lq, H]
  void* grad_v = nullptr;       // [B ceil(Lq / query_rows) key_splits, H]
  void* grad_k = nullptr;       // [query_splits, B, S, H]
  void* grad_values = nullptr;  // [query_splits, B, S, M]
};

// They enqueue their kernels on `stream` (a cudaStream_t) of the current device. Null, or CUDA's words for what went
// wrong.
const char* additive_attention_forward_cuda(const Forward& p, void* stream);
const char* additive_attention_weights_cuda(const Weights& p, void* stream);
const char* additive_attention_backward_cuda(const Backward& p, void* stream);

}  // namespace hippodrome::additive_cuda

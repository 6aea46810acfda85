// Blocks of queries and keys as the attention kernels hold them, for one instruction set. Vectors run along the queries of
// a block, so that the softmax, whose sums run along keys, needs no sum within a vector.
#if defined(HIPPODROME_CAUSAL_ATTENTION_BLOCKS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HIPPODROME_CAUSAL_ATTENTION_BLOCKS_INL_H_
#undef HIPPODROME_CAUSAL_ATTENTION_BLOCKS_INL_H_
#else
#define HIPPODROME_CAUSAL_ATTENTION_BLOCKS_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <limits>

#include "architectures/transformer/causal_attention/op.h"
#include "architectures/transformer/causal_attention/product-inl.h"
#include "core/tensor/vector_math-inl.h"
#include "hwy/aligned_allocator.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::causal_attention_kernel::HWY_NAMESPACE {

using hippodrome::HWY_NAMESPACE::vector_exp_nonpositive;

inline constexpr int64_t kQueries = kAttentionQueries;
inline constexpr int64_t kKeys = 64;   // of a block
inline constexpr int64_t kPadding = 16;  // heads are padded to a multiple of it with zeros

inline int64_t padded(int64_t size) { return (size + kPadding - 1) / kPadding * kPadding; }
inline int64_t whole_tiles(int64_t rows) {
  constexpr auto kRows = static_cast<int64_t>(kTileRows);
  return (rows + kRows - 1) / kRows * kRows;
}

// A block of up to kQueries queries: tokens [first, last) of the row.
struct QueryBlock {
  int64_t first, last;
  int64_t count() const { return last - first; }
};

inline QueryBlock query_block(const SeenTokens& row, int64_t block) {
  const int64_t first = row.first_query() + block * kQueries;
  return {first, std::max(first, std::min(first + kQueries, row.count()))};
}

// Which keys of a block each query of another sees, as a mask of lanes for each key. Two numbers a lane, counted from the
// block's first key: so small that every T holds them.
template <class T>
class Sight {
 public:
  // False when every query sees every key, and no mask is needed.
  bool read(const SeenTokens& row, const QueryBlock& queries, int64_t key, int64_t keys) {
    if (row.first_seen(queries.last - 1) <= key && key + keys - 1 <= queries.first) return false;
    for (int64_t m = 0; m < kQueries; ++m) {
      const int64_t token = queries.first + m;
      const bool there = token < queries.last;
      first_[m] = static_cast<T>(there ? std::clamp<int64_t>(row.first_seen(token) - key, 0, keys) : keys);
      last_[m] = static_cast<T>(there ? std::clamp<int64_t>(token - key, -1, keys) : -1);
    }
    return true;
  }
  // The lanes from `lane` whose queries see the block's key.
  template <class D>
  HWY_INLINE auto mask(D d, int64_t key, int64_t lane) const {
    const auto k = hn::Set(d, static_cast<T>(key));
    return hn::And(hn::Le(hn::Load(d, first_ + lane), k), hn::Le(k, hn::Load(d, last_ + lane)));
  }

 private:
  HWY_ALIGN T first_[kQueries];
  HWY_ALIGN T last_[kQueries];
};

// rows of `size` numbers, times `scale`, one below the other in `to` [tokens, padded], zeros behind them.
template <class T>
void pack_rows(const SeenTokens& row, const AttentionHeads<const T>& from, int64_t b, int64_t head, int64_t offset,
               int64_t first, int64_t count, int64_t size, T scale, T* HWY_RESTRICT to) {
  const int64_t width = padded(size);
  for (int64_t i = 0; i < count; ++i, to += width) {
    const T* HWY_RESTRICT token = from.at(b, head, row.column(first + i) - offset);
    for (int64_t c = 0; c < size; ++c) to[c] = scale * token[c];
    std::fill(to + size, to + width, T(0));
  }
}

// A block of keys or values as rows of their padded width, `stride` apart.
template <class T>
struct Rows {
  const T* data;
  int64_t stride;
};

// Where they lie, if they lie one below the other; otherwise packed into `to`. Rows further apart share few lines of
// the cache, and products of whole tiles read behind a part of a block.
template <class T>
Rows<T> block_rows(const SeenTokens& row, const AttentionHeads<const T>& from, int64_t b, int64_t head, int64_t first,
                   int64_t count, int64_t size, T* to) {
  const int64_t width = padded(size);
  if (row.plain() && count == kKeys && size == width && from.token_stride == width)
    return {from.at(b, head, first), width};
  pack_rows(row, from, b, head, int64_t{0}, first, count, size, T(1), to);
  return {to, width};
}

// [count, width] -> [width, kQueries], zeros in the lanes behind the last.
template <class T>
void transpose_rows(const T* HWY_RESTRICT from, int64_t count, int64_t width, T* HWY_RESTRICT to) {
  for (int64_t c = 0; c < width; ++c) {
    T* HWY_RESTRICT line = to + c * kQueries;
    for (int64_t m = 0; m < count; ++m) line[m] = from[m * width + c];
    std::fill(line + count, line + kQueries, T(0));
  }
}

// Memory for a whole range of items, in arrays aligned for vectors.
template <class T>
class Workspace {
 public:
  explicit Workspace(int64_t elements) : memory_(hwy::AllocateAligned<T>(static_cast<size_t>(elements))) {
    std::fill_n(memory_.get(), elements, T(0));
  }
  T* take(int64_t elements) {
    T* array = memory_.get() + taken_;
    taken_ += elements;
    return array;
  }

 private:
  hwy::AlignedFreeUniquePtr<T[]> memory_;
  int64_t taken_ = 0;
};

}  // namespace hippodrome::causal_attention_kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif

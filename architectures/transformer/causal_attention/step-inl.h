// Forward of causal attention for few queries (decoding), for one instruction set: vectors along the head, keys and values
// read once and where they lie, long caches cut into chunks for the threads.
#if defined(HIPPODROME_CAUSAL_ATTENTION_STEP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HIPPODROME_CAUSAL_ATTENTION_STEP_INL_H_
#undef HIPPODROME_CAUSAL_ATTENTION_STEP_INL_H_
#else
#define HIPPODROME_CAUSAL_ATTENTION_STEP_INL_H_
#endif

#include <cmath>

#include "architectures/transformer/causal_attention/forward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::causal_attention_kernel::HWY_NAMESPACE {

// In few instructions, so that the processor sees the next keys, and asks for them, while it waits for these.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE T dot(D d, const T* HWY_RESTRICT a, const T* HWY_RESTRICT b, int64_t size) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  auto sum = hn::Zero(d), second = sum, third = sum, fourth = sum;
  int64_t c = 0;
  for (; c + 4 * lanes <= size; c += 4 * lanes) {
    sum = hn::MulAdd(hn::LoadU(d, a + c), hn::LoadU(d, b + c), sum);
    second = hn::MulAdd(hn::LoadU(d, a + c + lanes), hn::LoadU(d, b + c + lanes), second);
    third = hn::MulAdd(hn::LoadU(d, a + c + 2 * lanes), hn::LoadU(d, b + c + 2 * lanes), third);
    fourth = hn::MulAdd(hn::LoadU(d, a + c + 3 * lanes), hn::LoadU(d, b + c + 3 * lanes), fourth);
  }
  sum = hn::Add(hn::Add(sum, second), hn::Add(third, fourth));
  for (; c + lanes <= size; c += lanes) sum = hn::MulAdd(hn::LoadU(d, a + c), hn::LoadU(d, b + c), sum);
  T total = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; c < size; ++c) total += a[c] * b[c];
  return total;
}

// y [size] = shrink y + Σ_j weights[j] v_j over rows `stride` apart; kVectors vectors of y in registers.
template <size_t kVectors, class D, class T = hn::TFromD<D>>
HWY_INLINE void add_rows(D d, T shrink, const T* HWY_RESTRICT weights, const T* HWY_RESTRICT v, int64_t stride,
                         int64_t count, T* HWY_RESTRICT y) {
  const size_t lanes = hn::Lanes(d);
  hn::VFromD<D> sum[kVectors];
  for (size_t j = 0; j < kVectors; ++j) sum[j] = hn::Mul(hn::Set(d, shrink), hn::LoadU(d, y + j * lanes));
  for (int64_t i = 0; i < count; ++i, v += stride) {
    const auto weight = hn::Set(d, weights[i]);
    for (size_t j = 0; j < kVectors; ++j) sum[j] = hn::MulAdd(weight, hn::LoadU(d, v + j * lanes), sum[j]);
  }
  for (size_t j = 0; j < kVectors; ++j) hn::StoreU(sum[j], d, y + j * lanes);
}

template <class D, class T = hn::TFromD<D>>
void weighted_sum(D d, T shrink, const T* weights, const T* v, int64_t stride, int64_t count, int64_t size, T* y) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t c = 0;
  // As much of a row at once as registers hold: memory is then read front to back.
  for (; c + 8 * lanes <= size; c += 8 * lanes) add_rows<8>(d, shrink, weights, v + c, stride, count, y + c);
  for (; c + 4 * lanes <= size; c += 4 * lanes) add_rows<4>(d, shrink, weights, v + c, stride, count, y + c);
  for (; c + lanes <= size; c += lanes) add_rows<1>(d, shrink, weights, v + c, stride, count, y + c);
  for (; c < size; ++c) {
    T sum = shrink * y[c];
    for (int64_t i = 0; i < count; ++i) sum += weights[i] * v[i * stride + c];
    y[c] = sum;
  }
}

// The largest score, the sum of e^{score - largest} and the unscaled result of one query, over the keys seen so far.
template <class T>
struct Partial {
  T *largest, *sum, *y;
  static Partial at(const CausalAttentionForward<T>& p, int64_t index) {
    T* values = p.partial + index * (p.size + 2);
    return {values, values + 1, values + 2};
  }
};

// One query against keys [first, end) of its chunk, a block of at most kKeys.
template <class D, class T>
void step_block(D d, const CausalAttentionForward<T>& p, const SeenTokens& row, int64_t b, int64_t group, const T* q,
                int64_t first, int64_t end, const Partial<T>& partial) {
  HWY_ALIGN T weights[kKeys];
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t count = end - first;
  T largest = *partial.largest;
  for (int64_t i = 0; i < count; ++i) {
    weights[i] = p.scale * dot(d, q, p.k.at(b, group, row.column(first + i)), p.size);
    largest = std::max(largest, weights[i]);
  }
  std::fill(weights + count, weights + kKeys, kLowest<T>);
  auto sum = hn::Zero(d);
  for (int64_t i = 0; i < kKeys; i += lanes) {
    const auto e = vector_exp_nonpositive(d, hn::Sub(hn::Load(d, weights + i), hn::Set(d, largest)));
    hn::Store(e, d, weights + i);
    sum = hn::Add(sum, e);
  }
  const T shrink = std::exp(*partial.largest - largest);
  *partial.sum = *partial.sum * shrink + hn::GetLane(hn::SumOfLanes(d, sum));
  *partial.largest = largest;
  // Padding breaks the even step from token to token.
  T before = shrink;
  for (int64_t i = 0; i < count;) {
    int64_t run = 1;
    while (i + run < count && row.column(first + i + run) == row.column(first + i) + run) ++run;
    weighted_sum(d, before, weights + i, p.v.at(b, group, row.column(first + i)), p.v.token_stride, run, p.size,
                 partial.y);
    before = T(1);
    i += run;
  }
}

template <class T>
void step(const CausalAttentionForward<T>& p, int64_t begin, int64_t end) {
  const hn::ScalableTag<T> d;
  const int64_t chunks = causal_attention_chunks(p.keys), shared = p.heads / p.kv_heads, earlier = p.keys - p.queries;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t b = item / chunks / p.kv_heads, group = item / chunks % p.kv_heads, chunk = item % chunks;
    const SeenTokens& row = p.rows[b];
    for (int64_t i = 0; i < p.queries * shared; ++i) {
      const Partial<T> partial = Partial<T>::at(p, item * p.queries * shared + i);
      *partial.largest = kLowest<T>;
      *partial.sum = T(0);
      std::fill_n(partial.y, p.size, T(0));
    }
    const int64_t last = std::min((chunk + 1) * kAttentionStepKeys, row.count());
    // Every query and head of the group takes its turn at a block of keys while that is in the cache.
    for (int64_t key = chunk * kAttentionStepKeys; key < last; key += kKeys) {
      for (int64_t token = row.first_query(); token < row.count(); ++token) {
        const int64_t from = std::max(key, row.first_seen(token)), to = std::min({key + kKeys, last, token + 1});
        const int64_t query = row.column(token) - earlier;
        for (int64_t h = 0; h < shared && from < to; ++h) {
          step_block(d, p, row, b, group, p.q.at(b, group * shared + h, query), from, to,
                     Partial<T>::at(p, (item * p.queries + query) * shared + h));
        }
      }
    }
  }
}

template <class T>
void join(const CausalAttentionForward<T>& p, int64_t begin, int64_t end) {
  const int64_t chunks = causal_attention_chunks(p.keys), shared = p.heads / p.kv_heads, earlier = p.keys - p.queries;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t b = item / p.heads, head = item % p.heads;
    const SeenTokens& row = p.rows[b];
    for (int64_t token = row.first_query(); token < row.count(); ++token) {
      const int64_t query = row.column(token) - earlier;
      const auto partial = [&](int64_t chunk) {
        return Partial<T>::at(
            p, (((b * p.kv_heads + head / shared) * chunks + chunk) * p.queries + query) * shared + head % shared);
      };
      T largest = kLowest<T>, sum = 0;
      for (int64_t chunk = 0; chunk < chunks; ++chunk) largest = std::max(largest, *partial(chunk).largest);
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        sum += *partial(chunk).sum * std::exp(*partial(chunk).largest - largest);
      }
      T* y = p.y.at(b, head, query);
      std::fill_n(y, p.size, T(0));
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        const Partial<T> part = partial(chunk);
        const T scale = std::exp(*part.largest - largest) / sum;
        for (int64_t c = 0; c < p.size && scale > 0; ++c) y[c] += scale * part.y[c];
      }
      p.lse[(b * p.heads + head) * p.queries + query] = largest + std::log(sum);
    }
  }
}

}  // namespace hippodrome::causal_attention_kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif

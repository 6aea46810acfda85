// Backward of additive attention for one instruction set. Scores are computed anew, block by block, from the kept
// logarithms of sums, and so is every tanh.
#if defined(HIPPODROME_ADDITIVE_ATTENTION_ADJOINT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HIPPODROME_ADDITIVE_ATTENTION_ADJOINT_INL_H_
#undef HIPPODROME_ADDITIVE_ATTENTION_ADJOINT_INL_H_
#else
#define HIPPODROME_ADDITIVE_ATTENTION_ADJOINT_INL_H_
#endif

#include "architectures/recurrent/additive_attention/attend-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::additive_attention_kernel::HWY_NAMESPACE {

// What a block's queries bring to their adjoint.
template <class T>
struct BlockAdjoint {
  const T *context, *grad_context;  // [rows, M]
  const T *lse, *grad_lse;          // [rows]
  // ∂q / (4 v), added to.
  T* grad_q;  // [rows, H]
};

// Where sums over queries gather: ∂k / (4 v) and ∂value of all keys of the row, and ∂v.
template <class T>
struct SourceAdjoint {
  T* grad_k;       // [S, H]
  T* grad_values;  // [S, M]
  T* grad_v;       // [H]
};

// For kRows queries: with 1 - t² = 4 (r - r²), the sums over h of one vector at a time stay in registers along the
// keys.
template <Form kForm, size_t kRows, class T>
HWY_NOINLINE void feature_gradients(const T* const* q, const T* const* k, int64_t keys, int64_t size,
                                    const T* HWY_RESTRICT grad_scores, T* HWY_RESTRICT grad_q, T* const* grad_k,
                                    T* HWY_RESTRICT grad_v) {
  const hn::ScalableTag<T> d;
  using V = hn::VFromD<decltype(d)>;
  for_each_vector<T>(0, size, [&](int64_t h, auto lanes) {
    V query[kRows], sum[kRows], sum_v = hn::Zero(d);
#pragma GCC unroll 4
    for (size_t i = 0; i < kRows; ++i) {
      query[i] = lanes.load(q[i] + h);
      sum[i] = hn::Zero(d);
    }
    for (int64_t j = 0; j < keys; ++j) {
      const V key = lanes.load(k[j] + h);
      V sum_k = lanes.load(grad_k[j] + h);
#pragma GCC unroll 4
      for (size_t i = 0; i < kRows; ++i) {
        const V u = squash<kForm>(d, query[i], key), grad = hn::Set(d, grad_scores[i * kAdditiveKeys + j]);
        const V du = slope<kForm>(d, u);
        sum[i] = hn::MulAdd(grad, du, sum[i]);
        sum_k = hn::MulAdd(grad, du, sum_k);
        sum_v = hn::MulAdd(grad, u, sum_v);
      }
      lanes.store(sum_k, grad_k[j] + h);
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < kRows; ++i) {
      T* to = grad_q + static_cast<int64_t>(i) * size + h;
      lanes.store(hn::Add(lanes.load(to), sum[i]), to);
    }
    lanes.store(hn::Add(lanes.load(grad_v + h), sum_v), grad_v + h);
  });
}

template <Form kForm, class T>
void all_feature_gradients(const Block<T>& w, int64_t size, const T* grad_scores, T* grad_q, T* const* grad_k,
                           T* grad_v) {
  int64_t i = 0;
  for (; i + static_cast<int64_t>(kTileRows) <= w.rows; i += kTileRows) {
    feature_gradients<kForm, kTileRows>(w.q + i, w.k, w.keys, size, grad_scores + i * kAdditiveKeys, grad_q + i * size,
                                        grad_k, grad_v);
  }
  for (; i < w.rows; ++i) {
    feature_gradients<kForm, 1>(w.q + i, w.k, w.keys, size, grad_scores + i * kAdditiveKeys, grad_q + i * size, grad_k,
                                grad_v);
  }
}

// grad_value[j] += Σ_i weight[i][j] ∂c_i
template <class T>
void value_gradients(const Block<T>& w, const T* HWY_RESTRICT grad_context, int64_t width, T* grad_values) {
  const hn::ScalableTag<T> d;
  using V = hn::VFromD<decltype(d)>;
  const auto keys = [&](int64_t j, auto together) {
    constexpr size_t kKeys = decltype(together)::value;
    for_each_vector<T>(0, width, [&](int64_t m, auto lanes) {
      V sum[kKeys];
#pragma GCC unroll 4
      for (size_t n = 0; n < kKeys; ++n) sum[n] = lanes.load(grad_values + w.columns[j + n] * width + m);
      for (int64_t i = 0; i < w.rows; ++i) {
        const V grad = lanes.load(grad_context + i * width + m);
        const T* weight = w.weights + i * kAdditiveKeys + j;
#pragma GCC unroll 4
        for (size_t n = 0; n < kKeys; ++n) sum[n] = hn::MulAdd(hn::Set(d, weight[n]), grad, sum[n]);
      }
#pragma GCC unroll 4
      for (size_t n = 0; n < kKeys; ++n) lanes.store(sum[n], grad_values + w.columns[j + n] * width + m);
    });
  };
  int64_t j = 0;
  for (; j + 4 <= w.keys; j += 4) keys(j, std::integral_constant<size_t, 4>());
  for (; j < w.keys; ++j) keys(j, std::integral_constant<size_t, 1>());
}

// The block's queries against the visible keys [first, last).
template <class T>
void attend_backward(const Source<T>& source, Block<T>& w, T total_v, int64_t first, int64_t last,
                     const BlockAdjoint<T>& block, const SourceAdjoint<T>& to) {
  const hn::ScalableTag<T> d;
  HWY_ALIGN T grad_scores[kAdditiveQueries * kAdditiveKeys];
  T common[kAdditiveQueries], all_scores = 0;
  const T* grad_context[kAdditiveQueries];
  T* grad_k[kAdditiveKeys];
  for (int64_t i = 0; i < w.rows; ++i) {
    const T *c = block.context + i * source.width, *grad = block.grad_context + i * source.width;
    auto sum = hn::Zero(d);
    for_each_vector<T>(0, source.width,
                       [&](int64_t m, auto lanes) { sum = hn::MulAdd(lanes.load(c + m), lanes.load(grad + m), sum); });
    common[i] = hn::GetLane(hn::SumOfLanes(d, sum)) - block.grad_lse[i];
    grad_context[i] = grad;
  }
  // Sums of sums: one run over all pairs would lose digits of ∂v.
  std::fill(w.grad_v.begin(), w.grad_v.end(), T(0));
  for (; first < last; first += kAdditiveKeys) {
    w.take_keys(source, first, std::min(kAdditiveKeys, last - first));
    w.score(source, total_v);
    dots(grad_context, w.rows, w.values, w.keys, source.width, grad_scores);
    T block_scores = 0;
    for (int64_t i = 0; i < w.rows; ++i) {
      T *weights = w.weights + i * kAdditiveKeys, *grads = grad_scores + i * kAdditiveKeys;
      // Behind the last key lies what an earlier block left.
      std::fill(weights + w.keys, weights + kAdditiveKeys, -std::numeric_limits<T>::infinity());
      std::fill(grads + w.keys, grads + kAdditiveKeys, T(0));
      auto sum = hn::Zero(d);
      for (int64_t j = 0; j < kAdditiveKeys; j += static_cast<int64_t>(hn::Lanes(d))) {
        const auto p = vector_exp_nonpositive(d, hn::Sub(hn::Load(d, weights + j), hn::Set(d, block.lse[i])));
        const auto grad = hn::Mul(p, hn::Sub(hn::Load(d, grads + j), hn::Set(d, common[i])));
        hn::Store(p, d, weights + j);
        hn::Store(grad, d, grads + j);
        sum = hn::Add(sum, grad);
      }
      block_scores += hn::GetLane(hn::SumOfLanes(d, sum));
    }
    all_scores += block_scores;
    value_gradients(w, block.grad_context, source.width, to.grad_values);
    for (int64_t j = 0; j < w.keys; ++j) grad_k[j] = to.grad_k + w.columns[j] * source.size;
    with_form(w.form, [&](auto form) {
      all_feature_gradients<decltype(form)::value>(w, source.size, grad_scores, block.grad_q, grad_k, w.grad_v.data());
    });
  }
  with_form(w.form, [&](auto form) {
    const T offset = kOffset<decltype(form)::value, T> * all_scores, factor = kFactor<decltype(form)::value, T>;
    for (int64_t h = 0; h < source.size; ++h) to.grad_v[h] += offset + factor * w.grad_v[static_cast<size_t>(h)];
  });
}

// x *= 4 v: what the sums above were left without.
template <class T>
HWY_INLINE void scale_by_v(const T* HWY_RESTRICT v, int64_t size, T* HWY_RESTRICT x) {
  const hn::ScalableTag<T> d;
  for_each_vector<T>(0, size, [&](int64_t h, auto lanes) {
    lanes.store(hn::Mul(hn::Mul(hn::Set(d, T(4)), lanes.load(v + h)), lanes.load(x + h)), x + h);
  });
}

}  // namespace hippodrome::additive_attention_kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif

// Additive attention with Highway: compiled once per instruction set, chosen at run time.
#include "architectures/recurrent/additive_attention/op.h"
#include "core/tensor/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "architectures/recurrent/additive_attention/cpu.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

#include "architectures/recurrent/additive_attention/adjoint-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::additive_attention_kernel::HWY_NAMESPACE {

template <class Params, class T = std::remove_cvref_t<decltype(*Params::k)>>
Source<T> source_of(const Params& p, int64_t b) {
  const int64_t at = b * p.keys;
  return {p.rows + b,
          p.k + at * p.size,
          p.exponentials != nullptr ? p.exponentials + at * p.size : nullptr,
          p.v,
          p.values != nullptr ? p.values + at * p.width : nullptr,
          p.size,
          p.width};
}

template <class T, class Body>
void for_each_block(const AdditiveAttentionForward<T>& p, int64_t begin, int64_t end, const Body& body) {
  Block<T> w(p.size);
  const int64_t blocks = additive_attention_blocks(p.queries);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t b = item / blocks, first = item % blocks * kAdditiveQueries, query = b * p.queries + first;
    const Source<T> source = source_of(p, b);
    w.take_queries(p.q + query * p.size, std::min(kAdditiveQueries, p.queries - first), source);
    body(source, w, query);
  }
}

template <class T>
void forward(const AdditiveAttentionForward<T>& p, int64_t begin, int64_t end) {
  const T total_v = total(p.v, p.size);
  for_each_block(p, begin, end, [&](const Source<T>& source, Block<T>& w, int64_t query) {
    attend(source, w, total_v, p.context + query * p.width, p.lse + query);
  });
}

template <class T>
void weights(const AdditiveAttentionForward<T>& p, int64_t begin, int64_t end) {
  const T total_v = total(p.v, p.size);
  for_each_block(p, begin, end, [&](const Source<T>& source, Block<T>& w, int64_t query) {
    weigh(source, w, total_v, p.keys, p.context + query * p.keys, p.lse + query);
  });
}

template <class T>
void backward(const AdditiveAttentionBackward<T>& p, int64_t begin, int64_t end) {
  Block<T> w(p.size);
  const T total_v = total(p.v, p.size);
  const int64_t parts = additive_attention_parts(p.keys), size = p.size, width = p.width;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t b = p.first_row + item / parts, part = item % parts;
    const Source<T> source = source_of(p, b);
    const int64_t count = source.visible->count();
    const int64_t share = (count + parts * kAdditiveKeys - 1) / (parts * kAdditiveKeys) * kAdditiveKeys;
    const int64_t first = std::min(count, part * share), last = std::min(count, first + share);
    T *grad_k = p.grad_k + b * p.keys * size, *grad_v = p.partial_v + (b * parts + part) * size;
    std::fill_n(p.partial_q + item * p.queries * size, p.queries * size, T(0));
    std::fill_n(grad_v, size, T(0));
    for (int64_t i = 0; i < p.queries && first < last; i += kAdditiveQueries) {
      const int64_t query = b * p.queries + i;
      w.take_queries(p.q + query * size, std::min(kAdditiveQueries, p.queries - i), source);
      attend_backward(source, w, total_v, first, last,
                      {p.context + query * width, p.grad_context + query * width, p.lse + query, p.grad_lse + query,
                       p.partial_q + (item * p.queries + i) * size},
                      {grad_k, p.grad_values + b * p.keys * width, grad_v});
    }
    for (int64_t j = first; j < last; ++j) scale_by_v(p.v, size, grad_k + source.visible->column(j) * size);
  }
}

template <class T>
void exponentials_of_rows(const T* x, int64_t size, int64_t begin, int64_t end, T* y, Magnitude* magnitudes) {
  for (int64_t row = begin; row < end; ++row) magnitudes[row] = exponentials(x + row * size, size, y + row * size);
}

#define HIPPODROME_ADDITIVE_KERNELS(T, Name)                                                                       \
  void Exponentials##Name(const T* x, int64_t size, int64_t begin, int64_t end, T* y, Magnitude* magnitudes) {     \
    exponentials_of_rows(x, size, begin, end, y, magnitudes);                                                      \
  }                                                                                                                \
  void Forward##Name(const AdditiveAttentionForward<T>& p, int64_t begin, int64_t end) { forward(p, begin, end); } \
  void Weights##Name(const AdditiveAttentionForward<T>& p, int64_t begin, int64_t end) { weights(p, begin, end); } \
  void Backward##Name(const AdditiveAttentionBackward<T>& p, int64_t begin, int64_t end) { backward(p, begin, end); }
HIPPODROME_ADDITIVE_KERNELS(float, Float)
HIPPODROME_ADDITIVE_KERNELS(double, Double)
#undef HIPPODROME_ADDITIVE_KERNELS

}  // namespace hippodrome::additive_attention_kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hippodrome {
namespace additive_attention_kernel {
#define HIPPODROME_ADDITIVE_EXPORTS(Name) \
  HWY_EXPORT(Exponentials##Name);         \
  HWY_EXPORT(Forward##Name);              \
  HWY_EXPORT(Weights##Name);              \
  HWY_EXPORT(Backward##Name);
HIPPODROME_ADDITIVE_EXPORTS(Float)
HIPPODROME_ADDITIVE_EXPORTS(Double)
#undef HIPPODROME_ADDITIVE_EXPORTS
}  // namespace additive_attention_kernel

#define HIPPODROME_ADDITIVE_ENTRIES(T, Name)                                                            \
  template <>                                                                                           \
  void additive_attention_exponentials(const T* x, int64_t size, int64_t begin, int64_t end, T* y,      \
                                       Magnitude* magnitudes) {                                         \
    using namespace additive_attention_kernel;                                                          \
    HWY_DYNAMIC_DISPATCH(Exponentials##Name)(x, size, begin, end, y, magnitudes);                       \
  }                                                                                                     \
  template <>                                                                                           \
  void additive_attention_forward(const AdditiveAttentionForward<T>& p, int64_t begin, int64_t end) {   \
    using namespace additive_attention_kernel;                                                          \
    HWY_DYNAMIC_DISPATCH(Forward##Name)(p, begin, end);                                                 \
  }                                                                                                     \
  template <>                                                                                           \
  void additive_attention_weights(const AdditiveAttentionForward<T>& p, int64_t begin, int64_t end) {   \
    using namespace additive_attention_kernel;                                                          \
    HWY_DYNAMIC_DISPATCH(Weights##Name)(p, begin, end);                                                 \
  }                                                                                                     \
  template <>                                                                                           \
  void additive_attention_backward(const AdditiveAttentionBackward<T>& p, int64_t begin, int64_t end) { \
    using namespace additive_attention_kernel;                                                          \
    HWY_DYNAMIC_DISPATCH(Backward##Name)(p, begin, end);                                                \
  }
HIPPODROME_ADDITIVE_ENTRIES(float, Float)
HIPPODROME_ADDITIVE_ENTRIES(double, Double)
#undef HIPPODROME_ADDITIVE_ENTRIES

}  // namespace hippodrome
#endif  // HWY_ONCE

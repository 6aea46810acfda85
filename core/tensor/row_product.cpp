// row_product with Highway.
#include "core/tensor/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/tensor/row_product.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

#include "core/tensor/row_product.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// kRows outputs side by side share the loads of x and keep enough sums going to hide a product's latency.
template <int kRows>
HWY_INLINE void row_product_of(const float* weight, const float* x, const float* bias, int64_t in, float* y) {
  const hn::ScalableTag<float> tag;
  using V = hn::VFromD<decltype(tag)>;
  const auto lanes = static_cast<int64_t>(hn::Lanes(tag));
  V even[kRows], odd[kRows];
  for (int r = 0; r < kRows; ++r) even[r] = odd[r] = hn::Zero(tag);
  int64_t i = 0;
  for (; i + 2 * lanes <= in; i += 2 * lanes) {
    const V first = hn::LoadU(tag, x + i), second = hn::LoadU(tag, x + i + lanes);
    for (int r = 0; r < kRows; ++r) {
      even[r] = hn::MulAdd(hn::LoadU(tag, weight + r * in + i), first, even[r]);
      odd[r] = hn::MulAdd(hn::LoadU(tag, weight + r * in + i + lanes), second, odd[r]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    float sum = hn::GetLane(hn::SumOfLanes(tag, hn::Add(even[r], odd[r])));
    for (int64_t rest = i; rest < in; ++rest) sum += weight[r * in + rest] * x[rest];
    y[r] = bias == nullptr ? sum : sum + bias[r];
  }
}

void RowProduct(const float* weight, const float* x, const float* bias, int64_t in, int64_t begin, int64_t end, float* y) {
  int64_t o = begin;
  const auto bias_at = [bias](int64_t output) { return bias == nullptr ? nullptr : bias + output; };
  for (; o + 4 <= end; o += 4) row_product_of<4>(weight + o * in, x, bias_at(o), in, y + o);
  for (; o < end; ++o) row_product_of<1>(weight + o * in, x, bias_at(o), in, y + o);
}

}  // namespace HWY_NAMESPACE
}  // namespace hippodrome
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hippodrome {

HWY_EXPORT(RowProduct);

void row_product(const float* weight, const float* x, const float* bias, int64_t in, int64_t begin, int64_t end, float* y) {
  HWY_DYNAMIC_DISPATCH(RowProduct)(weight, x, bias, in, begin, end, y);
}

}  // namespace hippodrome
#endif

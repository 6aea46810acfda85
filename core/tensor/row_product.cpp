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

// Several sums hide a product's latency. One output after the other, so that the weight is read strictly front to back:
// four outputs side by side share the loads of x, but their rows lie in one page, and prefetchers lost their way there
// (rows of 256 numbers from memory on Zen 3: 13 GB/s a core, and 21 so).
HWY_INLINE float row_times_vector(const float* HWY_RESTRICT row, const float* HWY_RESTRICT x, int64_t in) {
  const hn::ScalableTag<float> tag;
  const auto lanes = static_cast<int64_t>(hn::Lanes(tag));
  auto a = hn::Zero(tag), b = a, c = a, d = a;
  int64_t i = 0;
  for (; i + 4 * lanes <= in; i += 4 * lanes) {
    a = hn::MulAdd(hn::LoadU(tag, row + i), hn::LoadU(tag, x + i), a);
    b = hn::MulAdd(hn::LoadU(tag, row + i + lanes), hn::LoadU(tag, x + i + lanes), b);
    c = hn::MulAdd(hn::LoadU(tag, row + i + 2 * lanes), hn::LoadU(tag, x + i + 2 * lanes), c);
    d = hn::MulAdd(hn::LoadU(tag, row + i + 3 * lanes), hn::LoadU(tag, x + i + 3 * lanes), d);
  }
  for (; i + lanes <= in; i += lanes) a = hn::MulAdd(hn::LoadU(tag, row + i), hn::LoadU(tag, x + i), a);
  float sum = hn::GetLane(hn::SumOfLanes(tag, hn::Add(hn::Add(a, b), hn::Add(c, d))));
  for (; i < in; ++i) sum += row[i] * x[i];
  return sum;
}

void RowProduct(const float* weight, const float* x, const float* bias, int64_t in, int64_t begin, int64_t end,
                float* y) {
  for (int64_t o = begin; o < end; ++o) {
    const float sum = row_times_vector(weight + o * in, x, in);
    y[o] = bias == nullptr ? sum : sum + bias[o];
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace hippodrome
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hippodrome {

HWY_EXPORT(RowProduct);

void row_product(const float* weight, const float* x, const float* bias, int64_t in, int64_t begin, int64_t end,
                 float* y) {
  HWY_DYNAMIC_DISPATCH(RowProduct)(weight, x, bias, in, begin, end, y);
}

}  // namespace hippodrome
#endif

// Whole and partial vectors under one interface, so that a kernel is written once and its last, narrower group of
// channels touches no memory beyond them. Include after hwy/highway.h in files compiled through hwy/foreach_target.h.

#if defined(HIPPODROME_CORE_TENSOR_VECTOR_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HIPPODROME_CORE_TENSOR_VECTOR_LANES_INL_H_
#undef HIPPODROME_CORE_TENSOR_VECTOR_LANES_INL_H_
#else
#define HIPPODROME_CORE_TENSOR_VECTOR_LANES_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// All lanes of a vector.
template <class T>
struct WholeLanes {
  using D = hn::ScalableTag<T>;
  using V = hn::VFromD<D>;
  static constexpr bool kWhole = true;
  HWY_INLINE int64_t count() const { return static_cast<int64_t>(hn::Lanes(D())); }
  HWY_INLINE V load(const T* from) const { return hn::LoadU(D(), from); }
  HWY_INLINE void store(V v, T* to) const { hn::StoreU(v, D(), to); }
};

// The first `count` lanes; loads fill the others with 0, stores leave what lies behind them alone.
template <class T>
class FirstLanes {
 public:
  using D = hn::ScalableTag<T>;
  using V = hn::VFromD<D>;
  static constexpr bool kWhole = false;
  explicit FirstLanes(int64_t count) : count_(static_cast<size_t>(count)) {}
  HWY_INLINE int64_t count() const { return static_cast<int64_t>(count_); }

  HWY_INLINE V load(const T* from) const {
#if HWY_MEM_OPS_MIGHT_FAULT
    HWY_ALIGN T lanes[hn::MaxLanes(D())] = {};
    for (size_t i = 0; i < count_; ++i) lanes[i] = from[i];
    return hn::Load(D(), lanes);
#else
    return hn::MaskedLoad(hn::FirstN(D(), count_), D(), from);
#endif
  }

  HWY_INLINE void store(V v, T* to) const {
#if HWY_MEM_OPS_MIGHT_FAULT
    HWY_ALIGN T lanes[hn::MaxLanes(D())];
    hn::Store(v, D(), lanes);
    for (size_t i = 0; i < count_; ++i) to[i] = lanes[i];
#else
    hn::BlendedStore(v, hn::FirstN(D(), count_), D(), to);
#endif
  }

 private:
  size_t count_;
};

// Calls body(first_channel, lanes) for vectors that cover channels [begin, end), the last one narrower where it must
// be.
template <class T, class Body>
HWY_INLINE void for_each_vector(int64_t begin, int64_t end, const Body& body) {
  const WholeLanes<T> whole;
  int64_t c = begin;
  for (; c + whole.count() <= end; c += whole.count()) body(c, whole);
  if (c < end) body(c, FirstLanes<T>(end - c));
}

}  // namespace HWY_NAMESPACE
}  // namespace hippodrome
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard

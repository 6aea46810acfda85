// gated_rms_norm with Highway: compiled once per instruction set, chosen at run time. Two passes over a row, the second
// of which finds it in the cache; what the first computed of the gate waits in the row that the second will write.
#include "core/tensor/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "architectures/ssm/gated_rms_norm/cpu.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "architectures/ssm/gated_rms_norm/op.h"
#include "core/tensor/vector_lanes-inl.h"
#include "core/tensor/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::gated_rms_norm_op::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using namespace hippodrome::HWY_NAMESPACE;  // NOLINT: the lanes and functions of this instruction set

// Four sums in turn: one alone would wait for its last addition.
template <class T>
class Sum {
 public:
  using D = hn::ScalableTag<T>;
  using V = hn::VFromD<D>;
  HWY_INLINE Sum() {
    for (V& sum : sums_) sum = hn::Zero(D());
  }
  HWY_INLINE void add_product(V a, V b) {
    const V next = hn::MulAdd(a, b, sums_[0]);
    sums_[0] = sums_[1];
    sums_[1] = sums_[2];
    sums_[2] = sums_[3];
    sums_[3] = next;
  }
  HWY_INLINE T total() const {
    return hn::GetLane(hn::SumOfLanes(D(), hn::Add(hn::Add(sums_[0], sums_[1]), hn::Add(sums_[2], sums_[3]))));
  }

 private:
  V sums_[4];
};

template <bool kNormFirst, class T>
HWY_INLINE void forward_group(const T* x, const T* z, const T* weight, int64_t width, T epsilon, T* y, T* scale) {
  const hn::ScalableTag<T> d;
  Sum<T> squares;
  for_each_vector<T>(0, width, [&](int64_t i, const auto& lanes) HWY_ATTR {
    auto u = lanes.load(x + i);
    if constexpr (!kNormFirst) {
      u = hn::Mul(u, vector_silu(d, lanes.load(z + i)));
      lanes.store(u, y + i);
    }
    squares.add_product(u, u);
  });
  const T s = T(1) / std::sqrt(squares.total() / static_cast<T>(width) + epsilon);
  *scale = s;
  const auto factor = hn::Set(d, s);
  for_each_vector<T>(0, width, [&](int64_t i, const auto& lanes) HWY_ATTR {
    auto result = hn::Mul(hn::Mul(lanes.load(kNormFirst ? x + i : y + i), factor), lanes.load(weight + i));
    if constexpr (kNormFirst) result = hn::Mul(result, vector_silu(d, lanes.load(z + i)));
    lanes.store(result, y + i);
  });
}

// 1 / (1 + e^-z), and 0 where vector_silu is.
template <class D, class V>
HWY_INLINE V gate_sigmoid(D d, V z) {
  const V low = hn::Set(d, -vector_math::Constants<hn::TFromD<D>>::kHighestExp);
  return hn::IfThenZeroElse(hn::Lt(z, low), vector_sigmoid(d, z));
}

template <bool kNormFirst, class T>
HWY_INLINE void backward_group(const T* x, const T* z, const T* weight, const T* grad_y, T scale, int64_t width,
                               T* grad_x, T* grad_z, T* grad_weight) {
  const hn::ScalableTag<T> d;
  Sum<T> projection;
  for_each_vector<T>(0, width, [&](int64_t i, const auto& lanes) HWY_ATTR {
    const auto zi = lanes.load(z + i), q = gate_sigmoid(d, zi);
    lanes.store(q, grad_z + i);
    // Either way the gate is a factor of e u.
    const auto product = hn::Mul(hn::Mul(lanes.load(grad_y + i), lanes.load(x + i)), hn::Mul(zi, q));
    projection.add_product(lanes.load(weight + i), product);
  });
  const auto s = hn::Set(d, scale), one = hn::Set(d, T(1));
  const auto along = hn::Set(d, projection.total() * scale * scale / static_cast<T>(width));
  for_each_vector<T>(0, width, [&](int64_t i, const auto& lanes) HWY_ATTR {
    const auto xi = lanes.load(x + i), zi = lanes.load(z + i), w = lanes.load(weight + i);
    const auto dy = lanes.load(grad_y + i), q = lanes.load(grad_z + i);
    const auto gate = hn::Mul(zi, q), slope = hn::Mul(q, hn::MulAdd(zi, hn::Sub(one, q), one));
    const auto u = kNormFirst ? xi : hn::Mul(xi, gate), e = kNormFirst ? hn::Mul(dy, gate) : dy;
    const auto du = hn::Mul(s, hn::NegMulAdd(u, along, hn::Mul(w, e)));
    lanes.store(kNormFirst ? du : hn::Mul(du, gate), grad_x + i);
    const auto before_slope = kNormFirst ? hn::Mul(hn::Mul(dy, xi), hn::Mul(s, w)) : hn::Mul(du, xi);
    lanes.store(hn::Mul(before_slope, slope), grad_z + i);
    lanes.store(hn::MulAdd(hn::Mul(e, u), s, lanes.load(grad_weight + i)), grad_weight + i);
  });
}

template <bool kNormFirst, class T>
void forward(const Forward<T>& p, int64_t begin, int64_t end) {
  const int64_t W = p.sizes.width, G = p.sizes.groups, m = p.sizes.group_width();
  for (int64_t row = begin; row < end; ++row) {
    const T *x = p.x.data + row * p.x.stride, *z = p.z.data + row * p.z.stride;
    for (int64_t g = 0; g < G; ++g) {
      forward_group<kNormFirst>(x + g * m, z + g * m, p.weight + g * m, m, static_cast<T>(p.sizes.epsilon),
                                p.y + row * W + g * m, p.scale + row * G + g);
    }
  }
}

template <bool kNormFirst, class T>
void backward(const Backward<T>& p, int64_t begin, int64_t end) {
  const int64_t W = p.sizes.width, G = p.sizes.groups, m = p.sizes.group_width(), count = parts(p.sizes.rows);
  for (int64_t part = begin; part < end; ++part) {
    T* grad_weight = p.grad_weight_parts + part * W;
    std::fill(grad_weight, grad_weight + W, T(0));
    for (int64_t row = p.sizes.rows * part / count; row < p.sizes.rows * (part + 1) / count; ++row) {
      const T *x = p.x.data + row * p.x.stride, *z = p.z.data + row * p.z.stride;
      const T* grad_y = p.grad_y.data + row * p.grad_y.stride;
      for (int64_t g = 0; g < G; ++g) {
        const int64_t i = g * m;
        backward_group<kNormFirst>(x + i, z + i, p.weight + i, grad_y + i, p.scale[row * G + g], m,
                                   p.grad_x + row * W + i, p.grad_z + row * W + i, grad_weight + i);
      }
    }
  }
}

template <class T>
void forward_either(const Forward<T>& p, int64_t begin, int64_t end) {
  p.sizes.norm_before_gate ? forward<true>(p, begin, end) : forward<false>(p, begin, end);
}
template <class T>
void backward_either(const Backward<T>& p, int64_t begin, int64_t end) {
  p.sizes.norm_before_gate ? backward<true>(p, begin, end) : backward<false>(p, begin, end);
}

void ForwardFloat(const Forward<float>& p, int64_t begin, int64_t end) { forward_either(p, begin, end); }
void ForwardDouble(const Forward<double>& p, int64_t begin, int64_t end) { forward_either(p, begin, end); }
void BackwardFloat(const Backward<float>& p, int64_t begin, int64_t end) { backward_either(p, begin, end); }
void BackwardDouble(const Backward<double>& p, int64_t begin, int64_t end) { backward_either(p, begin, end); }

}  // namespace hippodrome::gated_rms_norm_op::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hippodrome::gated_rms_norm_op {

HWY_EXPORT(ForwardFloat);
HWY_EXPORT(ForwardDouble);
HWY_EXPORT(BackwardFloat);
HWY_EXPORT(BackwardDouble);

template <>
void forward_rows(const Forward<float>& p, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(ForwardFloat)(p, begin, end);
}
template <>
void forward_rows(const Forward<double>& p, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(ForwardDouble)(p, begin, end);
}
template <>
void backward_parts(const Backward<float>& p, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(BackwardFloat)(p, begin, end);
}
template <>
void backward_parts(const Backward<double>& p, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(BackwardDouble)(p, begin, end);
}

}  // namespace hippodrome::gated_rms_norm_op
#endif  // HWY_ONCE

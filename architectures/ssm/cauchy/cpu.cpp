// The sums of op.h with Highway: vectors across nodes, up to four rows of weights at a time over one set of resolvents,
// with one division for the two of a conjugate pair.
#include "architectures/ssm/cauchy/op.h"

#include <algorithm>
#include <type_traits>

#include "core/tensor/vector_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "architectures/ssm/cauchy/cpu.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

#include "hwy/aligned_allocator.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::cauchy_kernel::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Rows of weights that share a pass: their eight sums, the resolvents and what they are made of fit 32 registers.
constexpr int64_t kRows = 4;

// 1/(i s - c λ) = g - i h for λ, and g' - i h' for its conjugate.
template <class V>
struct Resolvents {
  V g, h, other_g, other_h;

  template <class D>
  HWY_INLINE Resolvents(D d, V s, V c, V lambda_re, V lambda_im) {
    const V re = hn::Neg(hn::Mul(c, lambda_re)), im = hn::NegMulAdd(c, lambda_im, s),
            other_im = hn::MulAdd(c, lambda_im, s), re_square = hn::Mul(re, re);
    const V square = hn::MulAdd(im, im, re_square), other_square = hn::MulAdd(other_im, other_im, re_square);
    const V inverse = hn::Div(hn::Set(d, 1), hn::Mul(square, other_square));
    const V one = hn::Mul(other_square, inverse), other = hn::Mul(square, inverse);
    g = hn::Mul(re, one);
    h = hn::Mul(im, one);
    other_g = hn::Mul(re, other);
    other_h = hn::Mul(other_im, other);
  }
};

// Calls body(first row, number of rows as a constant) for the rows in blocks of up to kRows.
template <class Body>
HWY_INLINE void ForEachBlock(int64_t rows, const Body& body) {
  int64_t m = 0;
  for (; m + kRows <= rows; m += kRows) body(m, std::integral_constant<size_t, kRows>());
  if (rows - m == 3) body(m, std::integral_constant<size_t, 3>());
  if (rows - m == 2) body(m, std::integral_constant<size_t, 2>());
  if (rows - m == 1) body(m, std::integral_constant<size_t, 1>());
}

// v points at the block's first row; sums [kBlock][2][padded nodes].
template <size_t kBlock, class T>
HWY_NOINLINE void ForwardBlock(const CauchyForward<T>& p, const T* HWY_RESTRICT v, const T* HWY_RESTRICT lambda,
                               T* HWY_RESTRICT sums) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  for (int64_t k = 0; k < p.padded_nodes; k += static_cast<int64_t>(hn::Lanes(d))) {
    const V s = hn::LoadU(d, p.sine + k), c = hn::LoadU(d, p.cosine + k);
    V re[kBlock], im[kBlock];
    for (size_t m = 0; m < kBlock; ++m) re[m] = im[m] = hn::Zero(d);
    for (int64_t n = 0; n < p.states; ++n) {
      const Resolvents<V> r(d, s, c, hn::Set(d, lambda[2 * n]), hn::Set(d, lambda[2 * n + 1]));
      const V g_sum = hn::Add(r.g, r.other_g), g_difference = hn::Sub(r.g, r.other_g);
      const V h_sum = hn::Add(r.h, r.other_h), h_difference = hn::Sub(r.h, r.other_h);
      for (size_t m = 0; m < kBlock; ++m) {
        const T* weight = v + (static_cast<int64_t>(m) * p.states + n) * 2;
        const V v_re = hn::Set(d, weight[0]), v_im = hn::Set(d, weight[1]);
        re[m] = hn::MulAdd(v_re, g_sum, hn::MulAdd(v_im, h_difference, re[m]));
        im[m] = hn::NegMulAdd(v_re, h_sum, hn::MulAdd(v_im, g_difference, im[m]));
      }
    }
    for (size_t m = 0; m < kBlock; ++m) {
      hn::StoreU(re[m], d, sums + 2 * static_cast<int64_t>(m) * p.padded_nodes + k);
      hn::StoreU(im[m], d, sums + (2 * static_cast<int64_t>(m) + 1) * p.padded_nodes + k);
    }
  }
}

template <class T>
void Forward(const CauchyForward<T>& p, int64_t begin, int64_t end) {
  const auto memory = hwy::AllocateAligned<T>(2 * kRows * p.padded_nodes);
  T* sums = memory.get();
  for (int64_t h = begin; h < end; ++h) {
    ForEachBlock(p.rows, [&](int64_t first, auto rows) {
      constexpr size_t kBlock = decltype(rows)::value;
      const int64_t row = h * p.rows + first;
      ForwardBlock<kBlock>(p, p.v + row * p.states * 2, p.lambda + h * p.states * 2, sums);
      for (size_t m = 0; m < kBlock; ++m) {
        const T *re = sums + 2 * static_cast<int64_t>(m) * p.padded_nodes, *im = re + p.padded_nodes;
        T* to = p.sums + (row + static_cast<int64_t>(m)) * p.nodes * 2;
        for (int64_t k = 0; k < p.nodes; ++k) {
          to[2 * k] = re[k];
          to[2 * k + 1] = im[k];
        }
      }
    });
  }
}

// g [kBlock][2][padded nodes] are the block's cotangents; writes grad_v and adds to grad_lambda.
template <size_t kBlock, class T>
HWY_NOINLINE void BackwardBlock(const CauchyBackward<T>& p, const T* HWY_RESTRICT v, const T* HWY_RESTRICT lambda,
                                const T* HWY_RESTRICT g, T* HWY_RESTRICT grad_v, T* HWY_RESTRICT grad_lambda) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  for (int64_t n = 0; n < p.states; ++n) {
    const V lambda_re = hn::Set(d, lambda[2 * n]), lambda_im = hn::Set(d, lambda[2 * n + 1]);
    V grad_re = hn::Zero(d), grad_im = hn::Zero(d), v_re[kBlock], v_im[kBlock], grad_v_re[kBlock], grad_v_im[kBlock];
    for (size_t m = 0; m < kBlock; ++m) {
      const T* weight = v + (static_cast<int64_t>(m) * p.states + n) * 2;
      v_re[m] = hn::Set(d, weight[0]);
      v_im[m] = hn::Set(d, weight[1]);
      grad_v_re[m] = grad_v_im[m] = hn::Zero(d);
    }
    for (int64_t k = 0; k < p.padded_nodes; k += static_cast<int64_t>(hn::Lanes(d))) {
      const V c = hn::LoadU(d, p.cosine + k);
      const Resolvents<V> r(d, hn::LoadU(d, p.sine + k), c, lambda_re, lambda_im);
      const V g_sum = hn::Add(r.g, r.other_g), g_difference = hn::Sub(r.g, r.other_g);
      const V h_sum = hn::Add(r.h, r.other_h), h_difference = hn::Sub(r.h, r.other_h);
      // Σ_m of the four products of parts of ∂S and v; U and U' are sums and differences of them.
      V re_re = hn::Zero(d), im_im = hn::Zero(d), re_im = hn::Zero(d), im_re = hn::Zero(d);
      for (size_t m = 0; m < kBlock; ++m) {
        const V g_re = hn::LoadU(d, g + 2 * static_cast<int64_t>(m) * p.padded_nodes + k),
                g_im = hn::LoadU(d, g + (2 * static_cast<int64_t>(m) + 1) * p.padded_nodes + k);
        grad_v_re[m] = hn::MulAdd(g_re, g_sum, hn::NegMulAdd(g_im, h_sum, grad_v_re[m]));
        grad_v_im[m] = hn::MulAdd(g_re, h_difference, hn::MulAdd(g_im, g_difference, grad_v_im[m]));
        re_re = hn::MulAdd(g_re, v_re[m], re_re);
        im_im = hn::MulAdd(g_im, v_im[m], im_im);
        re_im = hn::MulAdd(g_re, v_im[m], re_im);
        im_re = hn::MulAdd(g_im, v_re[m], im_re);
      }
      const V u_re = hn::Add(re_re, im_im), u_im = hn::Sub(re_im, im_re);
      const V other_u_re = hn::Sub(re_re, im_im), other_u_im = hn::Neg(hn::Add(re_im, im_re));
      // R² = (g² - h²) - 2 i g h.
      const V square_re = hn::NegMulAdd(r.h, r.h, hn::Mul(r.g, r.g));
      const V square_im = hn::Mul(hn::Set(d, -2), hn::Mul(r.g, r.h));
      const V other_re = hn::NegMulAdd(r.other_h, r.other_h, hn::Mul(r.other_g, r.other_g));
      const V other_im = hn::Mul(hn::Set(d, -2), hn::Mul(r.other_g, r.other_h));
      const V t_re = hn::NegMulAdd(u_im, square_im, hn::Mul(u_re, square_re));
      const V t_im = hn::MulAdd(u_re, square_im, hn::Mul(u_im, square_re));
      const V other_t_re = hn::NegMulAdd(other_u_im, other_im, hn::Mul(other_u_re, other_re));
      const V other_t_im = hn::MulAdd(other_u_re, other_im, hn::Mul(other_u_im, other_re));
      grad_re = hn::MulAdd(c, hn::Add(t_re, other_t_re), grad_re);
      grad_im = hn::NegMulAdd(c, hn::Sub(t_im, other_t_im), grad_im);
    }
    for (size_t m = 0; m < kBlock; ++m) {
      T* to = grad_v + (static_cast<int64_t>(m) * p.states + n) * 2;
      to[0] = hn::GetLane(hn::SumOfLanes(d, grad_v_re[m]));
      to[1] = hn::GetLane(hn::SumOfLanes(d, grad_v_im[m]));
    }
    grad_lambda[2 * n] += hn::GetLane(hn::SumOfLanes(d, grad_re));
    grad_lambda[2 * n + 1] += hn::GetLane(hn::SumOfLanes(d, grad_im));
  }
}

template <class T>
void Backward(const CauchyBackward<T>& p, int64_t begin, int64_t end) {
  const auto memory = hwy::AllocateAligned<T>(2 * kRows * p.padded_nodes);
  T* g = memory.get();
  for (int64_t h = begin; h < end; ++h) {
    std::fill_n(p.grad_lambda + h * p.states * 2, p.states * 2, T(0));
    ForEachBlock(p.rows, [&](int64_t first, auto rows) {
      constexpr size_t kBlock = decltype(rows)::value;
      const int64_t row = h * p.rows + first;
      std::fill_n(g, 2 * static_cast<int64_t>(kBlock) * p.padded_nodes, T(0));
      for (size_t m = 0; m < kBlock; ++m) {
        const T* from = p.grad_sums + (row + static_cast<int64_t>(m)) * p.nodes * 2;
        T *re = g + 2 * static_cast<int64_t>(m) * p.padded_nodes, *im = re + p.padded_nodes;
        for (int64_t k = 0; k < p.nodes; ++k) {
          re[k] = from[2 * k];
          im[k] = from[2 * k + 1];
        }
      }
      BackwardBlock<kBlock>(p, p.v + row * p.states * 2, p.lambda + h * p.states * 2, g, p.grad_v + row * p.states * 2,
                            p.grad_lambda + h * p.states * 2);
    });
  }
}

#define HIPPODROME_CAUCHY_KERNELS(T, Name)                                                              \
  void Forward##Name(const CauchyForward<T>& p, int64_t begin, int64_t end) { Forward(p, begin, end); } \
  void Backward##Name(const CauchyBackward<T>& p, int64_t begin, int64_t end) { Backward(p, begin, end); }
HIPPODROME_CAUCHY_KERNELS(float, Float)
HIPPODROME_CAUCHY_KERNELS(double, Double)
#undef HIPPODROME_CAUCHY_KERNELS

}  // namespace hippodrome::cauchy_kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hippodrome {
namespace cauchy_kernel {
#define HIPPODROME_CAUCHY_EXPORTS(Name) \
  HWY_EXPORT(Forward##Name);            \
  HWY_EXPORT(Backward##Name);
HIPPODROME_CAUCHY_EXPORTS(Float)
HIPPODROME_CAUCHY_EXPORTS(Double)
#undef HIPPODROME_CAUCHY_EXPORTS
}  // namespace cauchy_kernel

#define HIPPODROME_CAUCHY_ENTRIES(T, Name)                                       \
  template <>                                                                    \
  void cauchy_forward(const CauchyForward<T>& p, int64_t begin, int64_t end) {   \
    using namespace cauchy_kernel;                                               \
    HWY_DYNAMIC_DISPATCH(Forward##Name)(p, begin, end);                          \
  }                                                                              \
  template <>                                                                    \
  void cauchy_backward(const CauchyBackward<T>& p, int64_t begin, int64_t end) { \
    using namespace cauchy_kernel;                                               \
    HWY_DYNAMIC_DISPATCH(Backward##Name)(p, begin, end);                         \
  }
HIPPODROME_CAUCHY_ENTRIES(float, Float)
HIPPODROME_CAUCHY_ENTRIES(double, Double)
#undef HIPPODROME_CAUCHY_ENTRIES

}  // namespace hippodrome
#endif  // HWY_ONCE

// SwiGLU's gate with Highway: compiled once per instruction set, chosen at run time.
#include "architectures/transformer/swiglu/op.h"
#include "core/tensor/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "architectures/transformer/swiglu/cpu.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

#include "core/tensor/vector_lanes-inl.h"
#include "core/tensor/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::swiglu_kernel::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using namespace hippodrome::HWY_NAMESPACE;  // NOLINT: the lanes and functions of this instruction set

template <class T>
void forward(const SwigluForward<T>& p, int64_t begin, int64_t end) {
  const hn::ScalableTag<T> d;
  for (int64_t row = begin; row < end; ++row) {
    const T *gate = p.h + row * 2 * p.width, *value = gate + p.width;
    T* y = p.y + row * p.width;
    for_each_vector<T>(0, p.width, [&](int64_t i, const auto& lanes) {
      lanes.store(hn::Mul(vector_silu(d, lanes.load(gate + i)), lanes.load(value + i)), y + i);
    });
  }
}

template <class T>
void backward(const SwigluBackward<T>& p, int64_t begin, int64_t end) {
  const hn::ScalableTag<T> d;
  const auto one = hn::Set(d, T(1));
  for (int64_t row = begin; row < end; ++row) {
    const T *gate = p.h + row * 2 * p.width, *value = gate + p.width, *grad_y = p.grad_y + row * p.width;
    T *grad_gate = p.grad_h + row * 2 * p.width, *grad_value = grad_gate + p.width;
    for_each_vector<T>(0, p.width, [&](int64_t i, const auto& lanes) {
      const auto g = lanes.load(gate + i);
      const auto s = vector_sigmoid(d, g), grad = hn::Mul(lanes.load(grad_y + i), s);
      const auto slope = hn::MulAdd(g, hn::Sub(one, s), one);
      lanes.store(hn::Mul(hn::Mul(grad, lanes.load(value + i)), slope), grad_gate + i);
      lanes.store(hn::Mul(grad, g), grad_value + i);
    });
  }
}

void ForwardFloat(const SwigluForward<float>& p, int64_t begin, int64_t end) { forward(p, begin, end); }
void ForwardDouble(const SwigluForward<double>& p, int64_t begin, int64_t end) { forward(p, begin, end); }
void BackwardFloat(const SwigluBackward<float>& p, int64_t begin, int64_t end) { backward(p, begin, end); }
void BackwardDouble(const SwigluBackward<double>& p, int64_t begin, int64_t end) { backward(p, begin, end); }

}  // namespace hippodrome::swiglu_kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hippodrome {
namespace swiglu_kernel {
HWY_EXPORT(ForwardFloat);
HWY_EXPORT(ForwardDouble);
HWY_EXPORT(BackwardFloat);
HWY_EXPORT(BackwardDouble);
}  // namespace swiglu_kernel

#define HIPPODROME_SWIGLU_ENTRY(name, Kernel, Params, T)      \
  template <>                                                 \
  void name(const Params<T>& p, int64_t begin, int64_t end) { \
    using namespace swiglu_kernel;                            \
    HWY_DYNAMIC_DISPATCH(Kernel)(p, begin, end);              \
  }
HIPPODROME_SWIGLU_ENTRY(swiglu_forward, ForwardFloat, SwigluForward, float)
HIPPODROME_SWIGLU_ENTRY(swiglu_forward, ForwardDouble, SwigluForward, double)
HIPPODROME_SWIGLU_ENTRY(swiglu_backward, BackwardFloat, SwigluBackward, float)
HIPPODROME_SWIGLU_ENTRY(swiglu_backward, BackwardDouble, SwigluBackward, double)
#undef HIPPODROME_SWIGLU_ENTRY

}  // namespace hippodrome
#endif  // HWY_ONCE

// Causal attention with Highway: compiled once per instruction set, chosen at run time.
#include "architectures/transformer/causal_attention/op.h"
#include "core/tensor/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "architectures/transformer/causal_attention/cpu.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

#include "architectures/transformer/causal_attention/backward-inl.h"
#include "architectures/transformer/causal_attention/forward-inl.h"
#include "architectures/transformer/causal_attention/step-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::causal_attention_kernel::HWY_NAMESPACE {

#define HIPPODROME_ATTENTION_KERNELS(T, Name)                                                                       \
  void Forward##Name(const CausalAttentionForward<T>& p, int64_t begin, int64_t end) { forward(p, begin, end); }    \
  void Step##Name(const CausalAttentionForward<T>& p, int64_t begin, int64_t end) { step(p, begin, end); }          \
  void Join##Name(const CausalAttentionForward<T>& p, int64_t begin, int64_t end) { join(p, begin, end); }          \
  void Backward##Name(const CausalAttentionBackward<T>& p, int64_t begin, int64_t end) { backward(p, begin, end); }
HIPPODROME_ATTENTION_KERNELS(float, Float)
HIPPODROME_ATTENTION_KERNELS(double, Double)
#undef HIPPODROME_ATTENTION_KERNELS

}  // namespace hippodrome::causal_attention_kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hippodrome {
namespace causal_attention_kernel {
#define HIPPODROME_ATTENTION_EXPORTS(Name) \
  HWY_EXPORT(Forward##Name);               \
  HWY_EXPORT(Step##Name);                  \
  HWY_EXPORT(Join##Name);                  \
  HWY_EXPORT(Backward##Name);
HIPPODROME_ATTENTION_EXPORTS(Float)
HIPPODROME_ATTENTION_EXPORTS(Double)
#undef HIPPODROME_ATTENTION_EXPORTS
}  // namespace causal_attention_kernel

#define HIPPODROME_ATTENTION_ENTRY(name, Kernel, Params, T)           \
  template <>                                                         \
  void name(const Params<T>& p, int64_t begin, int64_t end) {         \
    using namespace causal_attention_kernel;                          \
    HWY_DYNAMIC_DISPATCH(Kernel)(p, begin, end);                      \
  }
HIPPODROME_ATTENTION_ENTRY(causal_attention_forward, ForwardFloat, CausalAttentionForward, float)
HIPPODROME_ATTENTION_ENTRY(causal_attention_forward, ForwardDouble, CausalAttentionForward, double)
HIPPODROME_ATTENTION_ENTRY(causal_attention_step, StepFloat, CausalAttentionForward, float)
HIPPODROME_ATTENTION_ENTRY(causal_attention_step, StepDouble, CausalAttentionForward, double)
HIPPODROME_ATTENTION_ENTRY(causal_attention_join, JoinFloat, CausalAttentionForward, float)
HIPPODROME_ATTENTION_ENTRY(causal_attention_join, JoinDouble, CausalAttentionForward, double)
HIPPODROME_ATTENTION_ENTRY(causal_attention_backward, BackwardFloat, CausalAttentionBackward, float)
HIPPODROME_ATTENTION_ENTRY(causal_attention_backward, BackwardDouble, CausalAttentionBackward, double)
#undef HIPPODROME_ATTENTION_ENTRY

}  // namespace hippodrome
#endif  // HWY_ONCE

// attentive_scan with Highway: compiled once per instruction set, chosen at run time.
#include "architectures/recurrent/attentive_scan/op.h"
#include "core/tensor/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "architectures/recurrent/attentive_scan/cpu.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

#include "architectures/recurrent/attentive_scan/scan-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::attentive_scan_kernel::HWY_NAMESPACE {

#define HIPPODROME_ATTENTIVE_KERNELS(T, Name)                                                                  \
  void Forward##Name(const AttentiveScanForward<T>& p, int64_t begin, int64_t end) { forward(p, begin, end); } \
  void Backward##Name(const AttentiveScanBackward<T>& p, int64_t begin, int64_t end) { backward(p, begin, end); }
HIPPODROME_ATTENTIVE_KERNELS(float, Float)
HIPPODROME_ATTENTIVE_KERNELS(double, Double)
#undef HIPPODROME_ATTENTIVE_KERNELS

}  // namespace hippodrome::attentive_scan_kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hippodrome {
namespace attentive_scan_kernel {
HWY_EXPORT(ForwardFloat);
HWY_EXPORT(ForwardDouble);
HWY_EXPORT(BackwardFloat);
HWY_EXPORT(BackwardDouble);
}  // namespace attentive_scan_kernel

#define HIPPODROME_ATTENTIVE_ENTRIES(T, Name)                                                   \
  template <>                                                                                   \
  void attentive_scan_forward(const AttentiveScanForward<T>& p, int64_t begin, int64_t end) {   \
    using namespace attentive_scan_kernel;                                                      \
    HWY_DYNAMIC_DISPATCH(Forward##Name)(p, begin, end);                                         \
  }                                                                                             \
  template <>                                                                                   \
  void attentive_scan_backward(const AttentiveScanBackward<T>& p, int64_t begin, int64_t end) { \
    using namespace attentive_scan_kernel;                                                      \
    HWY_DYNAMIC_DISPATCH(Backward##Name)(p, begin, end);                                        \
  }
HIPPODROME_ATTENTIVE_ENTRIES(float, Float)
HIPPODROME_ATTENTIVE_ENTRIES(double, Double)
#undef HIPPODROME_ATTENTIVE_ENTRIES

}  // namespace hippodrome
#endif  // HWY_ONCE

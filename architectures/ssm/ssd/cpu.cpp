// SSD on the CPU: compiled once per instruction set, chosen at run time.
#include <cmath>

#include "architectures/ssm/ssd/op.h"

// Versions compiled: AVX-512, AVX2 with FMA, SSE4 or NEON, and the compiler's baseline (with g++ 12 one lane of plain
// C++). The scalable instruction sets are out because arrays of their vectors do not exist in C++.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "architectures/ssm/ssd/cpu.cpp"
#include "hwy/foreach_target.h"

#include "architectures/ssm/ssd/backward-inl.h"
#include "architectures/ssm/ssd/forward-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::ssd_kernel {
namespace HWY_NAMESPACE {

void forward_float(const Params<float>& p, int64_t begin, int64_t end) { forward_range(p, begin, end); }
void forward_double(const Params<double>& p, int64_t begin, int64_t end) { forward_range(p, begin, end); }
void backward_float(const Params<float>& p, const Gradients<float>& grad, int64_t begin, int64_t end) {
  backward_range(p, grad, begin, end);
}
void backward_double(const Params<double>& p, const Gradients<double>& grad, int64_t begin, int64_t end) {
  backward_range(p, grad, begin, end);
}
const char* target_name() { return hwy::TargetName(HWY_TARGET); }

}  // namespace HWY_NAMESPACE
}  // namespace hippodrome::ssd_kernel
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hippodrome::ssd_kernel {

HWY_EXPORT(forward_float);
HWY_EXPORT(forward_double);
HWY_EXPORT(backward_float);
HWY_EXPORT(backward_double);
HWY_EXPORT(target_name);

template <>
void forward(const Params<float>& p, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(forward_float)(p, begin, end);
}
template <>
void forward(const Params<double>& p, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(forward_double)(p, begin, end);
}
template <>
void backward(const Params<float>& p, const Gradients<float>& grad, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(backward_float)(p, grad, begin, end);
}
template <>
void backward(const Params<double>& p, const Gradients<double>& grad, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(backward_double)(p, grad, begin, end);
}

const char* instruction_set() { return HWY_DYNAMIC_DISPATCH(target_name)(); }

}  // namespace hippodrome::ssd_kernel
#endif  // HWY_ONCE

// Selective scan on the CPU: compiled once per instruction set, chosen at run time.
#include "architectures/ssm/selective_scan/op.h"

// Versions compiled: AVX-512, AVX2 with FMA, SSE4 or NEON, and the compiler's baseline (with g++ 12 one lane of plain
// C++). The scalable instruction sets are out because arrays of their vectors do not exist in C++.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "architectures/ssm/selective_scan/cpu.cpp"
#include "hwy/foreach_target.h"

#include "architectures/ssm/selective_scan/backward-inl.h"
#include "architectures/ssm/selective_scan/forward-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::s6 {
namespace HWY_NAMESPACE {

template <class T>
void apply_to_array(Function function, const T* x, T* result, int64_t count) {
  const Tag<T> d;
  for (int64_t i = 0; i < count; i += kLanes<T>) {
    const int64_t rest = std::min<int64_t>(kLanes<T>, count - i);
    Vector<T> v = load_channels(x + i, rest);
    if (function == Function::kExp) v = vector_exp(d, v);
    if (function == Function::kExp2) v = vector_exp2(d, v);
    if (function == Function::kSoftplus) v = vector_softplus(d, v, static_cast<T>(kSoftplusThreshold));
    if (function == Function::kSigmoid) v = vector_sigmoid(d, v);
    store_channels(v, result + i, rest);
  }
}

int64_t lanes_float() { return kLanes<float>; }
int64_t lanes_double() { return kLanes<double>; }
void forward_float(const Params<float>& p, int64_t begin, int64_t end) { forward_range(p, begin, end); }
void forward_double(const Params<double>& p, int64_t begin, int64_t end) { forward_range(p, begin, end); }
void backward_float(const Params<float>& p, const Gradients<float>& grad, int64_t begin, int64_t end) {
  backward_range(p, grad, begin, end);
}
void backward_double(const Params<double>& p, const Gradients<double>& grad, int64_t begin, int64_t end) {
  backward_range(p, grad, begin, end);
}
void apply_float(Function function, const float* x, float* result, int64_t count) {
  apply_to_array(function, x, result, count);
}
void apply_double(Function function, const double* x, double* result, int64_t count) {
  apply_to_array(function, x, result, count);
}
const char* target_name() { return hwy::TargetName(HWY_TARGET); }

}  // namespace HWY_NAMESPACE
}  // namespace hippodrome::s6
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hippodrome::s6 {

HWY_EXPORT(lanes_float);
HWY_EXPORT(lanes_double);
HWY_EXPORT(forward_float);
HWY_EXPORT(forward_double);
HWY_EXPORT(backward_float);
HWY_EXPORT(backward_double);
HWY_EXPORT(apply_float);
HWY_EXPORT(apply_double);
HWY_EXPORT(target_name);

template <class T>
int64_t forward_items(const Params<T>& p) {
  const int64_t lanes = sizeof(T) == 4 ? HWY_DYNAMIC_DISPATCH(lanes_float)() : HWY_DYNAMIC_DISPATCH(lanes_double)();
  return p.batch * p.groups * ((p.channels / p.groups + lanes - 1) / lanes);
}
template int64_t forward_items(const Params<float>&);
template int64_t forward_items(const Params<double>&);

template <class T>
int64_t backward_items(const Params<T>& p) {
  return p.batch * p.groups * superblocks(p.channels, p.groups);
}
template int64_t backward_items(const Params<float>&);
template int64_t backward_items(const Params<double>&);

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
template <>
void apply(Function function, const float* x, float* result, int64_t count) {
  HWY_DYNAMIC_DISPATCH(apply_float)(function, x, result, count);
}
template <>
void apply(Function function, const double* x, double* result, int64_t count) {
  HWY_DYNAMIC_DISPATCH(apply_double)(function, x, result, count);
}

const char* instruction_set() { return HWY_DYNAMIC_DISPATCH(target_name)(); }

}  // namespace hippodrome::s6
#endif  // HWY_ONCE

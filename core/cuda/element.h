// Numbers as a GPU's memory holds them, for kernels that also compile for the CPU (block.h). No CUDA and no LibTorch
// headers outside device code.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define HIPPODROME_HOST_DEVICE __host__ __device__ __forceinline__
#define HIPPODROME_KERNEL __device__ __forceinline__  // code of a block: the CPU's compiler sees it in tests only
#else
#define HIPPODROME_HOST_DEVICE inline
#define HIPPODROME_KERNEL inline
#endif

namespace hippodrome::cuda {

// The bits of LibTorch's c10::BFloat16 and c10::Half.
struct alignas(2) BFloat16 {
  uint16_t bits;
};
struct alignas(2) Half {
  uint16_t bits;
};

// Element types of inputs and outputs; the scalar that kernels compute in and keep their states in is ScalarOf.
enum class Element { kFloat, kBFloat16, kHalf, kDouble };

template <class T>
struct ScalarOfElement {
  using Type = float;
};
template <>
struct ScalarOfElement<double> {
  using Type = double;
};
// float32 for float32, bfloat16 and float16; float64 for float64.
template <class T>
using ScalarOf = typename ScalarOfElement<T>::Type;

template <class T>
struct TypeTag {
  using Type = T;
};
// f(TypeTag<T>{}) for the type T of `element`.
template <class F>
auto with_element(Element element, const F& f) {
  switch (element) {
    case Element::kBFloat16:
      return f(TypeTag<BFloat16>{});
    case Element::kHalf:
      return f(TypeTag<Half>{});
    case Element::kDouble:
      return f(TypeTag<double>{});
    default:
      return f(TypeTag<float>{});
  }
}

HIPPODROME_HOST_DEVICE float float_of_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}
HIPPODROME_HOST_DEVICE uint32_t bits_of_float(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

// ---- reading ----

HIPPODROME_HOST_DEVICE float load(float x) { return x; }
HIPPODROME_HOST_DEVICE double load(double x) { return x; }
HIPPODROME_HOST_DEVICE float load(BFloat16 x) { return float_of_bits(static_cast<uint32_t>(x.bits) << 16); }
HIPPODROME_HOST_DEVICE float load(Half x) {
#ifdef __CUDA_ARCH__
  return __half2float(__ushort_as_half(x.bits));
#else
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16, exponent = (x.bits >> 10) & 31u,
                 mantissa = x.bits & 1023u;
  if (exponent == 31) return float_of_bits(sign | 0x7F800000u | (mantissa << 13));
  if (exponent != 0) return float_of_bits(sign | ((exponent + 112u) << 23) | (mantissa << 13));
  const float small = static_cast<float>(mantissa) * 5.9604644775390625e-8f;  // subnormal: mantissa * 2^-24
  return sign != 0 ? -small : small;
#endif
}

// ---- writing: to nearest, ties to even ----

HIPPODROME_HOST_DEVICE void store(float x, float* to) { *to = x; }
HIPPODROME_HOST_DEVICE void store(double x, double* to) { *to = x; }
HIPPODROME_HOST_DEVICE void store(float x, BFloat16* to) {
#ifdef __CUDA_ARCH__
  to->bits = __bfloat16_as_ushort(__float2bfloat16_rn(x));
#else
  const uint32_t bits = bits_of_float(x);
  to->bits = std::isnan(x) ? 0x7FC0 : static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
#endif
}
HIPPODROME_HOST_DEVICE void store(float x, Half* to) {
#ifdef __CUDA_ARCH__
  to->bits = __half_as_ushort(__float2half_rn(x));
#else
  const uint32_t bits = bits_of_float(x);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const float size = std::fabs(x);
  if (std::isnan(x)) {
    to->bits = 0x7FFF;
  } else if (size >= 65520.0f) {
    to->bits = sign | 0x7C00u;
  } else if (size < 6.103515625e-5f) {  // below 2^-14: a multiple of 2^-24
    to->bits = sign | static_cast<uint16_t>(std::nearbyint(size * 16777216.0f));
  } else {
    const uint32_t rounded = (bits & 0x7FFFFFFFu) + 0xFFFu + ((bits >> 13) & 1u);
    to->bits = sign | static_cast<uint16_t>((rounded >> 13) - (112u << 10));
  }
#endif
}

}  // namespace hippodrome::cuda

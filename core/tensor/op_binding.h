// What the bindings of operators to LibTorch (architectures/*/*/op.cpp) share: arguments that may be absent, the dtype
// that kernels compute in, look-ups and conditions of the dispatcher.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_strided.h>
#include <c10/core/ScalarType.h>
#include <c10/core/SymInt.h>
#include <c10/util/ArrayRef.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

#include "core/tensor/at_least_float32.h"
#include "core/tensor/tensor.h"

namespace hippodrome {

inline bool given(const OptionalTensor& t) { return t.has_value() && t->defined(); }

// The way there and back of an absent tensor among those that autograd saves.
inline Tensor or_undefined(const OptionalTensor& t) { return t.value_or(Tensor()); }
inline OptionalTensor if_defined(const Tensor& t) { return t.defined() ? OptionalTensor(t) : std::nullopt; }

// Whether t has these sizes, which may be symbolic.
inline bool has_shape(const Tensor& t, c10::ArrayRef<c10::SymInt> sizes) {
  if (t.dim() != static_cast<int64_t>(sizes.size())) return false;
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (t.sym_size(static_cast<int64_t>(i)) != sizes[i]) return false;
  }
  return true;
}

inline void check_positions(const char* op, const OptionalTensor& positions, const c10::SymInt& batch,
                            const c10::SymInt& length) {
  TORCH_CHECK(!given(positions) || (positions->scalar_type() == at::kLong && has_shape(*positions, {batch, length})),
              op, ": positions must be int64 [B, L] = [", batch, ", ", length, "]");
}

// What a kernel computes in and keeps its states in, given its main input.
inline at::ScalarType compute_dtype(const Tensor& input) { return at_least_float32(input.scalar_type()); }

// As kernels read it: contiguous; undefined where it is absent.
inline Tensor in_compute_dtype(const Tensor& t, at::ScalarType dtype) { return t.to(dtype).contiguous(); }
inline Tensor in_compute_dtype(const OptionalTensor& t, at::ScalarType dtype) {
  return given(t) ? in_compute_dtype(*t, dtype) : Tensor();
}
template <size_t N>
std::array<Tensor, N> in_compute_dtype(const std::array<Tensor, N>& tensors, at::ScalarType dtype) {
  std::array<Tensor, N> result;
  for (size_t i = 0; i < N; ++i) result[i] = in_compute_dtype(tensors[i], dtype);
  return result;
}
inline Tensor contiguous_if_given(const OptionalTensor& t) { return given(t) ? t->contiguous() : Tensor(); }

template <class T>
const T* data_or_null(const Tensor& t) {
  return t.defined() ? t.const_data_ptr<T>() : nullptr;
}

// The same for a kernel's parameters, kept in `owner`: t itself or a copy.
template <class T>
const T* bind_contiguous(const Tensor& t, Tensor& owner) {
  owner = in_compute_dtype(t, c10::CppTypeToScalarType<T>::value);
  return owner.const_data_ptr<T>();
}

// Of the sizes of `like`, [B, D, L], stored as a contiguous [B, L, D].
inline Tensor empty_channels_last(const Tensor& like, at::ScalarType dtype) {
  const c10::SymInt channels = like.sym_size(1), length = like.sym_size(2);
  return at::empty_strided_symint(like.sym_sizes(), {length * channels, c10::SymInt(1), channels},
                                  like.options().dtype(dtype));
}

// Items per thread: below about 10^5 multiply-adds a second thread costs more than it saves.
inline int64_t grain(int64_t work_per_item) {
  return std::max<int64_t>(1, 100'000 / std::max<int64_t>(1, work_per_item));
}

template <class Signature>
c10::TypedOperatorHandle<Signature> find_op(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

inline bool requires_grad(const Tensor& t) { return t.defined() && t.requires_grad(); }
inline bool requires_grad(const OptionalTensor& t) { return given(t) && t->requires_grad(); }
// Whether autograd must see a call with these tensors.
template <class... Tensors>
bool wants_gradient(const Tensors&... tensors) {
  return at::GradMode::is_enabled() && (requires_grad(tensors) || ...);
}

}  // namespace hippodrome

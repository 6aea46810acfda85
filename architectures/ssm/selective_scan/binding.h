// From LibTorch tensors to the kernels' parameters: checks, layouts, allocation. Shared by the CPU and the CUDA
// operators.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <c10/core/ScalarType.h>
#include <c10/util/Exception.h>

#include <optional>

#include "architectures/ssm/selective_scan/op.h"
#include "architectures/ssm/selective_scan/selective_scan.h"
#include "core/tensor/op_binding.h"

namespace hippodrome::s6 {

using Arguments = SelectiveScanArguments;

struct Outputs {
  at::Tensor y;            // [B, D, L], channels contiguous
  at::Tensor last_state;   // [B, D, N]
  at::Tensor checkpoints;  // [B, ceil(L / kChunk), N, D], or no elements
};

// Of the shapes of the inputs; an absent input's has no elements.
struct InputGradients {
  at::Tensor u, delta, A, B, C, D, z, delta_bias, initial_state;
};

// Shapes and dtypes; symbolic sizes are read, so that the check also runs on meta and fake tensors.
inline void check_arguments(const Arguments& a) {
  const auto fail_unless = [](bool good, const char* what) { TORCH_CHECK(good, "selective_scan: ", what); };
  fail_unless(a.u.dim() == 3, "u must be [B, D, L]");
  fail_unless(a.A.dim() == 2, "A must be [D, N]");
  const c10::SymInt batch = a.u.sym_size(0), channels = a.u.sym_size(1), length = a.u.sym_size(2);
  const c10::SymInt states = a.A.sym_size(1);
  fail_unless(has_shape(a.delta, {batch, channels, length}), "delta must have the shape of u, [B, D, L]");
  fail_unless(a.A.sym_size(0) == channels, "A must be [D, N] with the D of u");
  fail_unless(states >= 1 && states <= kMaxStates, "A must be [D, N] with N from 1 to 256");
  fail_unless(!a.complex || states % 2 == 0, "A must be [D, N] with N even when it is complex");
  fail_unless(a.B.dim() == 3 || a.B.dim() == 4, "B must be [B, N, L] or [B, G, N, L]");
  const c10::SymInt groups = a.B.dim() == 4 ? a.B.sym_size(1) : c10::SymInt(1);
  fail_unless(groups >= 1 && channels % groups == 0, "the channels D must divide into the groups G of B");
  for (const at::Tensor* t : {&a.B, &a.C}) {
    const bool good = t->dim() == 4 ? has_shape(*t, {batch, groups, states, length})
                                    : a.B.dim() == 3 && has_shape(*t, {batch, states, length});
    fail_unless(good, "B and C must both be [B, N, L] or both [B, G, N, L]");
  }
  fail_unless(!a.D.has_value() || has_shape(*a.D, {channels}), "D must be [D]");
  fail_unless(!a.z.has_value() || has_shape(*a.z, {batch, channels, length}), "z must have the shape of u, [B, D, L]");
  fail_unless(!a.delta_bias.has_value() || has_shape(*a.delta_bias, {channels}), "delta_bias must be [D]");
  fail_unless(!a.initial_state.has_value() || has_shape(*a.initial_state, {batch, channels, states}),
              "initial_state must be [B, D, N]");
  if (a.positions.has_value()) {
    fail_unless(has_shape(*a.positions, {batch, length}), "positions must be [B, L]");
    fail_unless(a.positions->scalar_type() == at::kLong, "positions must be int64");
  }
  const auto real = [&](const at::Tensor& t) {
    return at::isFloatingType(t.scalar_type()) && t.device() == a.u.device();
  };
  const auto real_if_given = [&](const std::optional<at::Tensor>& t) { return !t.has_value() || real(*t); };
  fail_unless(real(a.u) && real(a.delta) && real(a.A) && real(a.B) && real(a.C) && real_if_given(a.D) &&
                  real_if_given(a.z) && real_if_given(a.delta_bias) && real_if_given(a.initial_state),
              "all tensors must be real floating-point tensors on one device");
}

// `t` itself, or a copy in the dtype and a layout that kernels take.
inline at::Tensor with_channels_last(const at::Tensor& t, at::ScalarType dtype) {  // [B, D, L] -> [B, L, D]
  const at::Tensor rows = t.to(dtype).transpose(1, 2);
  return rows.stride(2) != 1 && rows.size(2) != 1 ? rows.contiguous() : rows;
}
inline at::Tensor with_states_last(const at::Tensor& t,
                                   at::ScalarType dtype) {  // [B, N, L] or [B, G, N, L] -> [B, L, G, N]
  const at::Tensor groups = t.dim() == 3 ? t.unsqueeze(1) : t, rows = groups.to(dtype).permute({0, 3, 1, 2});
  return rows.stride(3) != 1 && rows.size(3) != 1 ? rows.contiguous() : rows;
}

// Keeps in `owner` what the returned pointers point to.
template <class T>
Strided<const T> bind_channels(const at::Tensor& t, at::Tensor& owner) {  // [B, D, L]
  owner = with_channels_last(t, c10::CppTypeToScalarType<T>::value);
  return {owner.const_data_ptr<T>(), owner.stride(0), owner.stride(1)};
}

template <class T>
StridedGroups<T> bind_groups(const at::Tensor& t, at::Tensor& owner) {  // [B, N, L] or [B, G, N, L]
  owner = with_states_last(t, c10::CppTypeToScalarType<T>::value);
  return {owner.const_data_ptr<T>(), owner.stride(0), owner.stride(2), owner.stride(1)};
}

// The inputs as the kernels take them, and the tensors that hold them.
template <class T>
struct Bound {
  explicit Bound(const Arguments& a) {
    params.batch = a.u.size(0), params.channels = a.u.size(1), params.length = a.u.size(2);
    params.states = a.A.size(1);
    params.groups = a.B.dim() == 4 ? a.B.size(1) : 1;
    params.delta_softplus = a.delta_softplus, params.complex = a.complex, params.zero_order_hold = a.zero_order_hold;
    params.u = bind_channels<T>(a.u, owners[0]);
    params.delta = bind_channels<T>(a.delta, owners[1]);
    params.A = bind_contiguous<T>(a.A, owners[2]);
    params.B = bind_groups<T>(a.B, owners[3]);
    params.C = bind_groups<T>(a.C, owners[4]);
    if (a.D.has_value()) params.D = bind_contiguous<T>(*a.D, owners[5]);
    if (a.z.has_value()) params.z = bind_channels<T>(*a.z, owners[6]);
    if (a.delta_bias.has_value()) params.delta_bias = bind_contiguous<T>(*a.delta_bias, owners[7]);
    if (a.initial_state.has_value()) params.initial_state = bind_contiguous<T>(*a.initial_state, owners[8]);
    if (a.positions.has_value()) params.positions = bind_contiguous<int64_t>(*a.positions, owners[9]);
  }

  Params<T> params;
  at::Tensor owners[10];
};

// Without `state` a last state of its own.
template <class T>
Outputs allocate_outputs(const Params<T>& p, const Arguments& a, bool keep, const at::Tensor& state) {
  constexpr auto dtype = c10::CppTypeToScalarType<T>::value;
  const auto options = a.u.options().dtype(dtype);
  return {empty_channels_last(a.u, dtype),
          state.defined() ? state : at::empty({p.batch, p.channels, p.states}, options),
          keep ? at::empty({p.batch, chunks(p.length), p.states, p.channels}, options) : at::Tensor()};
}

// Those of u, delta and z in the dtype `rows`, the others in `rest`.
inline InputGradients allocate_gradients(const Arguments& a, at::ScalarType rows, at::ScalarType rest) {
  const auto options = a.u.options().dtype(rest);
  const auto if_given = [&](const std::optional<at::Tensor>& input) {
    return input.has_value() ? at::empty(input->sizes(), options) : at::empty({0}, options);
  };
  const auto groups_like = [&](const at::Tensor& like) {
    const int64_t N = like.size(-2), L = like.size(-1), row = like.dim() == 3 ? N : like.size(1) * N;
    if (like.dim() == 3) return at::empty_strided(like.sizes(), {L * row, 1, row}, options);
    return at::empty_strided(like.sizes(), {L * row, N, 1, row}, options);
  };
  return {empty_channels_last(a.u, rows),
          empty_channels_last(a.u, rows),
          at::empty(a.A.sizes(), options),
          groups_like(a.B),
          groups_like(a.C),
          if_given(a.D),
          a.z.has_value() ? empty_channels_last(*a.z, rows) : at::empty({0}, options),
          if_given(a.delta_bias),
          if_given(a.initial_state)};
}

// Of a scan without steps.
inline void set_gradients_of_nothing(InputGradients& g, const std::optional<at::Tensor>& grad_last_state) {
  for (const at::Tensor& t : {g.A, g.B, g.C, g.D, g.delta_bias, g.initial_state}) t.zero_();
  if (g.initial_state.numel() > 0 && grad_last_state.has_value()) g.initial_state.copy_(*grad_last_state);
}

// Gradients in the dtypes of their inputs.
inline InputGradients cast_to_inputs(const InputGradients& g, const Arguments& a) {
  const auto like = [](const at::Tensor& t, const at::Tensor& input) { return t.to(input.scalar_type()); };
  const auto like_if_given = [&](const at::Tensor& t, const std::optional<at::Tensor>& input) {
    return t.to(input.has_value() ? input->scalar_type() : a.u.scalar_type());
  };
  return {like(g.u, a.u),
          like(g.delta, a.delta),
          like(g.A, a.A),
          like(g.B, a.B),
          like(g.C, a.C),
          like_if_given(g.D, a.D),
          like_if_given(g.z, a.z),
          like_if_given(g.delta_bias, a.delta_bias),
          like_if_given(g.initial_state, a.initial_state)};
}

}  // namespace hippodrome::s6

// From LibTorch tensors to the kernels' parameters: checks and layouts. Shared by the CPU and the CUDA operators.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <initializer_list>
#include <limits>
#include <optional>

#include "architectures/ssm/scan_step/op.h"
#include "core/tensor/op_binding.h"

namespace hippodrome::scan_step {

// The arguments in the schema's order, and as one thing.
#define SCAN_STEP_PARAMETERS                                                                                     \
  const Tensor &x, const Tensor &dt, const Tensor &A, const Tensor &B, const Tensor &C, const OptionalTensor &D, \
      const OptionalTensor &z, const OptionalTensor &dt_bias, bool dt_softplus, double dt_low,                   \
      std::optional<double> dt_high, const Tensor &state, const OptionalTensor &positions
#define SCAN_STEP_ARGUMENTS x, dt, A, B, C, D, z, dt_bias, dt_softplus, dt_low, dt_high, state, positions

struct Arguments {
  const Tensor& x;                // [B, H, P]
  const Tensor& dt;               // [B, H]
  const Tensor& A;                // [H, N] or [H, 1]
  const Tensor& B;                // [B, G, N]
  const Tensor& C;                // as B
  const OptionalTensor& D;        // [H]
  const OptionalTensor& z;        // as x
  const OptionalTensor& dt_bias;  // [H]
  bool dt_softplus;
  double dt_low;
  std::optional<double> dt_high;
  const Tensor& state;              // [B, H, P, N], written
  const OptionalTensor& positions;  // int64 [B, 1]
};

inline void check(const Arguments& a) {
  const auto fail_unless = [](bool good, const char* what) { TORCH_CHECK(good, "scan_step: ", what); };
  fail_unless(a.x.dim() == 3, "x must be [B, H, P]");
  fail_unless(a.B.dim() == 3, "B must be [B, G, N]");
  const c10::SymInt batch = a.x.sym_size(0), heads = a.x.sym_size(1), head_size = a.x.sym_size(2);
  const c10::SymInt groups = a.B.sym_size(1), states = a.B.sym_size(2);
  fail_unless(has_shape(a.dt, {batch, heads}), "dt must be [B, H]");
  fail_unless(states >= 1 && states <= kMaxStates, "B must be [B, G, N] with N from 1 to 1024");
  fail_unless(groups >= 1 && heads % groups == 0, "the heads H must divide into the groups G of B");
  fail_unless(has_shape(a.A, {heads, states}) || has_shape(a.A, {heads, c10::SymInt(1)}), "A must be [H, N] or [H, 1]");
  fail_unless(has_shape(a.B, {batch, groups, states}) && has_shape(a.C, {batch, groups, states}),
              "B and C must both be [B, G, N]");
  fail_unless(!given(a.D) || has_shape(*a.D, {heads}), "D must be [H]");
  fail_unless(!given(a.z) || has_shape(*a.z, {batch, heads, head_size}), "z must have the shape of x, [B, H, P]");
  fail_unless(!given(a.dt_bias) || has_shape(*a.dt_bias, {heads}), "dt_bias must be [H]");
  fail_unless(has_shape(a.state, {batch, heads, head_size, states}) && a.state.is_contiguous() &&
                  a.state.scalar_type() == compute_dtype(a.x),
              "state must be [B, H, P, N], contiguous and in the working dtype");
  check_positions("scan_step", a.positions, batch, 1);
  for (const OptionalTensor& t : {OptionalTensor(a.dt), OptionalTensor(a.A), OptionalTensor(a.B), OptionalTensor(a.C),
                                  a.D, a.z, a.dt_bias, OptionalTensor(a.state)}) {
    fail_unless(!given(t) || (t->is_floating_point() && t->device() == a.x.device()),
                "all tensors must be real floating-point tensors on one device");
  }
  fail_unless(!given(a.positions) || a.positions->device() == a.x.device(), "positions must be on x's device");
  fail_unless(!at::GradMode::is_enabled(), "it updates its state in place: call it without gradients");
}

// t [B, ...] as rows of T that are contiguous, its memory in `owner`.
template <class T>
Rows<const T> bind_rows(const Tensor& t, at::ScalarType dtype, Tensor& owner) {
  owner = t.to(dtype).flatten(1);
  if (owner.stride(1) != 1 && owner.size(1) > 1) owner = owner.contiguous();
  return {static_cast<const T*>(owner.const_data_ptr()), owner.stride(0)};
}
template <class S>
const S* bind_parameter(const OptionalTensor& t, Tensor& owner) {
  return given(t) ? bind_contiguous<S>(*t, owner) : nullptr;
}

// What depends on the token in `dtype`, whose elements the kernels know as T, the rest in the scalar S.
template <class T, class S>
struct Bound {
  Bound(const Arguments& a, at::ScalarType dtype) {
    params.batch = a.x.size(0), params.heads = a.x.size(1), params.head_size = a.x.size(2);
    params.groups = a.B.size(1), params.states = a.B.size(2), params.decays = a.A.size(1);
    params.dt_softplus = a.dt_softplus;
    params.dt_low = a.dt_low, params.dt_high = a.dt_high.value_or(std::numeric_limits<double>::infinity());
    params.x = bind_rows<T>(a.x, dtype, owners[0]);
    params.dt = bind_rows<T>(a.dt, dtype, owners[1]);
    params.B = bind_rows<T>(a.B, dtype, owners[2]);
    params.C = bind_rows<T>(a.C, dtype, owners[3]);
    if (given(a.z)) params.z = bind_rows<T>(*a.z, dtype, owners[4]);
    params.A = bind_contiguous<S>(a.A, owners[5]);
    params.D = bind_parameter<S>(a.D, owners[6]);
    params.dt_bias = bind_parameter<S>(a.dt_bias, owners[7]);
    if (given(a.positions)) params.positions = bind_contiguous<int64_t>(*a.positions, owners[8]);
    params.state = static_cast<S*>(a.state.mutable_data_ptr());
    y = at::empty(a.x.sizes(), a.x.options().dtype(dtype));
    params.y = static_cast<T*>(y.mutable_data_ptr());
  }

  Params<T, S> params;
  Tensor owners[9], y;
};

}  // namespace hippodrome::scan_step

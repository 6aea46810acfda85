#include "architectures/transformer/attention/rotary.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace hippodrome {
namespace rotary_detail {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Tokens a task takes at least: some 20 µs of work at eight heads of 64.
constexpr int64_t kTokenGrain = 32;

// Tokens whose angles are found by turning on from those of the first: cosine and sine are taken once per step and once per
// block, and a few products give the rest to float64's precision.
constexpr int64_t kTurns = 64;

// positions [rows, L] -> table [rows, L, 2 half].
template <class T>
void fill_table(const Tensor& positions, c10::ArrayRef<double> frequencies, Tensor& table) {
  const auto half = static_cast<int64_t>(frequencies.size()), length = positions.size(1);
  const int64_t row_stride = positions.stride(0), stride = positions.stride(1);
  const auto* at = positions.const_data_ptr<int64_t>();
  T* out = table.mutable_data_ptr<T>();
  std::vector<double> turned;  // [turns, 2 half]
  const auto turns = [&](int64_t count) {
    for (auto k = static_cast<int64_t>(turned.size()) / (2 * half); k < count; ++k) {
      for (const double f : frequencies) turned.push_back(std::cos(static_cast<double>(k) * f));
      for (const double f : frequencies) turned.push_back(std::sin(static_cast<double>(k) * f));
    }
    return turned.data();
  };
  std::vector<double> anchor(static_cast<size_t>(2 * half));
  for (int64_t row = 0; row < positions.size(0); ++row) {
    for (int64_t t = 0; t < length;) {
      const int64_t first = at[row * row_stride + t * stride];
      for (int64_t i = 0; i < half; ++i) {
        const double angle = static_cast<double>(first) * frequencies[static_cast<size_t>(i)];
        anchor[static_cast<size_t>(i)] = std::cos(angle);
        anchor[static_cast<size_t>(half + i)] = std::sin(angle);
      }
      for (int64_t k = 0; k < kTurns && t < length && at[row * row_stride + t * stride] == first + k; ++k, ++t) {
        const double *by = turns(k + 1) + k * 2 * half, *from = anchor.data();
        T* to = out + (row * length + t) * 2 * half;
        for (int64_t i = 0; i < half; ++i) {
          to[i] = static_cast<T>(from[i] * by[i] - from[half + i] * by[half + i]);
          to[half + i] = static_cast<T>(from[half + i] * by[i] + from[i] * by[half + i]);
        }
      }
    }
  }
}

// One pass where LibTorch's operators take seven. `sign` -1 rotates back. Heads are contiguous in x and y.
template <class T, class Wide>
void rotate_tokens(const Tensor& x, const Tensor& table, RotaryLayout layout, Wide sign, const Tensor& y) {
  const int64_t length = x.size(1), heads = x.size(2), half = x.size(3) / 2;
  const int64_t stride_b = x.stride(0), stride_t = x.stride(1), stride_h = x.stride(2);
  const int64_t y_b = y.stride(0), y_t = y.stride(1), y_h = y.stride(2);
  const int64_t table_rows = table.size(0);
  const T* in = x.const_data_ptr<T>();
  const Wide* angles = table.const_data_ptr<Wide>();
  T* out = y.mutable_data_ptr<T>();
  at::parallel_for(0, x.size(0) * length, kTokenGrain, [&](int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; ++token) {
      const int64_t b = token / length, t = token % length;
      const Wide* cosine = angles + ((table_rows == 1 ? 0 : b) * length + t) * 2 * half;
      const Wide* sine = cosine + half;
      for (int64_t h = 0; h < heads; ++h) {
        const T* from = in + b * stride_b + t * stride_t + h * stride_h;
        T* to = out + b * y_b + t * y_t + h * y_h;
        if (layout == RotaryLayout::kHalf) {
          for (int64_t i = 0; i < half; ++i) {
            const auto first = static_cast<Wide>(from[i]), second = static_cast<Wide>(from[half + i]);
            to[i] = static_cast<T>(first * cosine[i] - sign * second * sine[i]);
            to[half + i] = static_cast<T>(second * cosine[i] + sign * first * sine[i]);
          }
        } else {
          for (int64_t i = 0; i < half; ++i) {
            const auto first = static_cast<Wide>(from[2 * i]), second = static_cast<Wide>(from[2 * i + 1]);
            to[2 * i] = static_cast<T>(first * cosine[i] - sign * second * sine[i]);
            to[2 * i + 1] = static_cast<T>(second * cosine[i] + sign * first * sine[i]);
          }
        }
      }
    }
  });
}

// By LibTorch's operators, for devices other than the CPU.
Tensor rotate_composite(const Tensor& x, const Tensor& table, RotaryLayout layout, double sign) {
  const int64_t half = x.size(3) / 2;
  const Tensor wide = x.to(table.scalar_type());
  const Tensor cosine = table.narrow(-1, 0, half).unsqueeze(2),
               sine = table.narrow(-1, half, half).unsqueeze(2).mul(sign);
  const bool is_half = layout == RotaryLayout::kHalf;
  const Tensor first = is_half ? wide.narrow(-1, 0, half) : wide.slice(-1, 0, std::nullopt, 2);
  const Tensor second = is_half ? wide.narrow(-1, half, half) : wide.slice(-1, 1, std::nullopt, 2);
  const Tensor a = first.mul(cosine).sub(second.mul(sine)), b = second.mul(cosine).add(first.mul(sine));
  const Tensor y = is_half ? at::cat({a, b}, -1) : at::cat({a.unsqueeze(-1), b.unsqueeze(-1)}, -1).flatten(-2);
  return y.to(x.scalar_type());
}

// x's rotation into y, of the same shape.
void rotate_into(const Tensor& x, const Tensor& table, RotaryLayout layout, double sign, const Tensor& y) {
  const Tensor dense = x.stride(3) == 1 ? x : x.contiguous();
  if (x.scalar_type() == at::kDouble) {
    rotate_tokens<double, double>(dense, table, layout, sign, y);
  } else {
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, x.scalar_type(), "rotate", [&] {
      if constexpr (!std::is_same_v<scalar_t, double>) {
        rotate_tokens<scalar_t, float>(dense, table, layout, static_cast<float>(sign), y);
      }
    });
  }
}

Tensor rotate_values(const Tensor& x, const Tensor& table, RotaryLayout layout, double sign) {
  if (!x.device().is_cpu()) return rotate_composite(x, table, layout, sign);
  Tensor y = at::empty(x.sizes(), x.options());
  rotate_into(x, table, layout, sign, y);
  return y;
}

// A rotation's adjoint is the rotation back, so it is its own derivative's derivative.
struct Rotate : torch::autograd::Function<Rotate> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& table, int64_t layout, double sign) {
    context->save_for_backward({table});
    context->saved_data["layout"] = layout;
    context->saved_data["sign"] = sign;
    return rotate_values(x, table, static_cast<RotaryLayout>(layout), sign);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const Tensor dx = Rotate::apply(gradients[0], context->get_saved_variables()[0],
                                    context->saved_data["layout"].toInt(), -context->saved_data["sign"].toDouble());
    return {dx, Tensor(), Tensor(), Tensor()};
  }
};

struct RotateHeads : torch::autograd::Function<RotateHeads> {
  static variable_list forward(AutogradContext* context, const Tensor& projected, int64_t heads, int64_t kv_heads,
                               const Tensor& table, int64_t layout) {
    at::AutoDispatchBelowADInplaceOrView guard;
    context->save_for_backward({table});
    context->saved_data["layout"] = layout;
    const auto [qk, v] = split(projected, heads, kv_heads, table.size(-1));
    // A head's tokens one below the other, as the attention kernels read fastest; and the projection need not be kept.
    const Tensor all = at::empty({qk.size(0), heads + 2 * kv_heads, qk.size(1), qk.size(3)}, qk.options()).transpose(1, 2);
    if (qk.device().is_cpu()) {
      rotate_into(qk, table, static_cast<RotaryLayout>(layout), 1.0, all.narrow(2, 0, heads + kv_heads));
    } else {
      all.narrow(2, 0, heads + kv_heads).copy_(rotate_composite(qk, table, static_cast<RotaryLayout>(layout), 1.0));
    }
    all.narrow(2, heads + kv_heads, kv_heads).copy_(v);
    return {all.narrow(2, 0, heads), all.narrow(2, heads, kv_heads), all.narrow(2, heads + kv_heads, kv_heads)};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const Tensor table = context->get_saved_variables()[0];
    const int64_t layout = context->saved_data["layout"].toInt();
    const Tensor &dq = gradients[0], &dk = gradients[1], &dv = gradients[2];
    const int64_t rows = dq.size(0), length = dq.size(1), heads = dq.size(2), kv_heads = dk.size(2), size = dq.size(3);
    if (at::GradMode::is_enabled() || !dq.device().is_cpu()) {
      const auto back = [&](const Tensor& gradient) { return Rotate::apply(gradient, table, layout, -1.0).flatten(2); };
      return {at::cat({back(dq), back(dk), dv.flatten(2)}, 2), Tensor(), Tensor(), Tensor(), Tensor()};
    }
    const Tensor dprojected = at::empty({rows, length, (heads + 2 * kv_heads) * size}, dq.options());
    const Tensor all = dprojected.view({rows, length, heads + 2 * kv_heads, size});
    rotate_into(dq, table, static_cast<RotaryLayout>(layout), -1.0, all.narrow(2, 0, heads));
    rotate_into(dk, table, static_cast<RotaryLayout>(layout), -1.0, all.narrow(2, heads, kv_heads));
    all.narrow(2, heads + kv_heads, kv_heads).copy_(dv);
    return {dprojected, Tensor(), Tensor(), Tensor(), Tensor()};
  }

  // Queries and keys [B, L, H + G, hd], and values [B, L, G, hd].
  static std::pair<Tensor, Tensor> split(const Tensor& projected, int64_t heads, int64_t kv_heads, int64_t size) {
    const Tensor all = projected.view({projected.size(0), projected.size(1), heads + 2 * kv_heads, size});
    return {all.narrow(2, 0, heads + kv_heads), all.narrow(2, heads + kv_heads, kv_heads)};
  }
};

}  // namespace
}  // namespace rotary_detail

std::vector<double> rotary_frequencies(int64_t head_size, double base, const RotaryScaling& scaling) {
  std::vector<double> frequencies;
  for (int64_t i = 0; i < head_size / 2; ++i) {
    double f = std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(head_size));
    if (scaling.kind == "linear") {
      f /= scaling.factor;
    } else if (scaling.kind == "llama3") {
      const double waves = scaling.original_length * f / (2.0 * std::numbers::pi);
      const double kept = std::clamp((waves - scaling.low) / (scaling.high - scaling.low), 0.0, 1.0);
      f = kept * f + (1.0 - kept) * f / scaling.factor;
    }
    frequencies.push_back(f);
  }
  return frequencies;
}

Tensor rotary_table(const Tensor& positions, const Tensor& frequencies, at::ScalarType activations) {
  TORCH_CHECK(frequencies.dim() == 1 && frequencies.scalar_type() == at::kDouble && frequencies.is_contiguous() &&
                  frequencies.device() == positions.device(),
              "rotary_table takes float64 frequencies [hd / 2] on the device of the positions; got ",
              frequencies.scalar_type(), " ", frequencies.sizes(), " on ", frequencies.device());
  const Tensor distinct = positions.size(0) > 1 && positions.stride(0) == 0 ? positions.narrow(0, 0, 1) : positions;
  const auto dtype = activations == at::kDouble ? at::kDouble : at::kFloat;
  if (positions.device().is_cpu()) {
    Tensor table =
        at::empty({distinct.size(0), distinct.size(1), 2 * frequencies.size(0)}, positions.options().dtype(dtype));
    const c10::ArrayRef<double> values(frequencies.const_data_ptr<double>(), static_cast<size_t>(frequencies.numel()));
    dtype == at::kDouble ? rotary_detail::fill_table<double>(distinct, values, table)
                         : rotary_detail::fill_table<float>(distinct, values, table);
    return table;
  }
  const Tensor angles = distinct.to(at::kDouble).unsqueeze(-1).mul(frequencies);
  return at::cat({angles.cos(), angles.sin()}, -1).to(dtype);
}

Tensor rotate(const Tensor& x, const Tensor& table, RotaryLayout layout) {
  TORCH_CHECK(x.dim() == 4 && x.size(3) % 2 == 0 && table.size(-1) == x.size(3) && table.size(1) == x.size(1),
              "rotate takes x [B, L, H, hd] with an even hd and a table [B or 1, L, hd]; got ", x.sizes(), " and ",
              table.sizes());
  if (!at::GradMode::is_enabled() || !x.requires_grad()) return rotary_detail::rotate_values(x, table, layout, 1.0);
  return rotary_detail::Rotate::apply(x, table, static_cast<int64_t>(layout), 1.0);
}

QueriesKeysValues rotate_heads(const Tensor& projected, int64_t heads, int64_t kv_heads, const Tensor& table,
                               RotaryLayout layout) {
  TORCH_CHECK(projected.dim() == 3 && projected.size(2) == (heads + 2 * kv_heads) * table.size(-1) &&
                  table.size(1) == projected.size(1),
              "rotate_heads takes a projection [B, L, (H + 2G) hd] and a table [B or 1, L, hd]; got ",
              projected.sizes(), " and ", table.sizes());
  using rotary_detail::RotateHeads;
  if (at::GradMode::is_enabled() && projected.requires_grad()) {
    const auto parts = RotateHeads::apply(projected, heads, kv_heads, table, static_cast<int64_t>(layout));
    return {parts[0], parts[1], parts[2]};
  }
  const auto [qk, v] = RotateHeads::split(projected, heads, kv_heads, table.size(-1));
  const Tensor rotated = rotary_detail::rotate_values(qk, table, layout, 1.0);
  return {rotated.narrow(2, 0, heads), rotated.narrow(2, heads, kv_heads), v};
}

}  // namespace hippodrome

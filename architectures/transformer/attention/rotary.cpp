#include "architectures/transformer/attention/rotary.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

namespace hippodrome {
namespace rotary_detail {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Tokens a task takes at least: some 20 µs of work at eight heads of 64.
constexpr int64_t kTokenGrain = 32;

// One pass where LibTorch's operators take seven. `sign` -1 rotates back.
template <class T, class Wide>
void rotate_tokens(const Tensor& x, const Tensor& table, RotaryLayout layout, Wide sign, Tensor& y) {
  const int64_t length = x.size(1), heads = x.size(2), half = x.size(3) / 2;
  const int64_t stride_b = x.stride(0), stride_t = x.stride(1), stride_h = x.stride(2);
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
        T* to = out + (token * heads + h) * 2 * half;
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

Tensor rotate_values(const Tensor& x, const Tensor& table, RotaryLayout layout, double sign) {
  if (!x.device().is_cpu()) return rotate_composite(x, table, layout, sign);
  const Tensor dense = x.stride(3) == 1 ? x : x.contiguous();
  Tensor y = at::empty(x.sizes(), x.options());
  if (x.scalar_type() == at::kDouble) {
    rotate_tokens<double, double>(dense, table, layout, sign, y);
  } else {
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, x.scalar_type(), "rotate", [&] {
      if constexpr (!std::is_same_v<scalar_t, double>) {
        rotate_tokens<scalar_t, float>(dense, table, layout, static_cast<float>(sign), y);
      }
    });
  }
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

}  // namespace
}  // namespace rotary_detail

Tensor rotary_table(const Tensor& positions, int64_t head_size, double base, at::ScalarType activations) {
  const Tensor distinct = positions.size(0) > 1 && positions.stride(0) == 0 ? positions.narrow(0, 0, 1) : positions;
  const auto options = positions.options().dtype(at::kDouble);
  const Tensor frequencies =
      at::arange(0, head_size, 2, options).mul(-std::log(base) / static_cast<double>(head_size)).exp();
  const Tensor angles = distinct.to(at::kDouble).unsqueeze(-1).mul(frequencies);
  const auto dtype = activations == at::kDouble ? at::kDouble : at::kFloat;
  return at::cat({angles.cos(), angles.sin()}, -1).to(dtype);
}

Tensor rotate(const Tensor& x, const Tensor& table, RotaryLayout layout) {
  TORCH_CHECK(x.dim() == 4 && x.size(3) % 2 == 0 && table.size(-1) == x.size(3) && table.size(1) == x.size(1),
              "rotate takes x [B, L, H, hd] with an even hd and a table [B or 1, L, hd]; got ", x.sizes(), " and ",
              table.sizes());
  if (!at::GradMode::is_enabled() || !x.requires_grad()) return rotary_detail::rotate_values(x, table, layout, 1.0);
  return rotary_detail::Rotate::apply(x, table, static_cast<int64_t>(layout), 1.0);
}

}  // namespace hippodrome

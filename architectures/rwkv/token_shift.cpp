#include "architectures/rwkv/token_shift.h"

#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/lerp.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/tensor/at_least_float32.h"

#include "architectures/ssm/causal_conv1d/causal_conv1d.h"

namespace hippodrome {
namespace token_shift_detail {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Tokens a task takes at least: some 20 µs of work at width 256.
constexpr int64_t kTokenGrain = 64;
// Partial sums of the mixes' gradients: a fixed number, so that the result does not depend on the thread count.
constexpr int64_t kPartialSums = 16;

// One run per row. One pass for all mixes, where LibTorch's operators take two a mix forward and seven backward.
// x [B, L, D], first [B, D] (what came before), M mixes [D] -> M times [B, L, D]; all contiguous.
variable_list shift_plain(const Tensor& x, const Tensor& first, const std::vector<Tensor>& mixes) {
  const int64_t rows = x.size(0), length = x.size(1), width = x.size(2);
  const auto count = static_cast<int64_t>(mixes.size());
  variable_list y;
  for (int64_t m = 0; m < count; ++m) y.push_back(at::empty_like(x));
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, x.scalar_type(), "token_shift", [&] {
    using Wide = at::opmath_type<scalar_t>;
    const scalar_t *in = x.const_data_ptr<scalar_t>(), *before = first.const_data_ptr<scalar_t>();
    std::vector<scalar_t*> out;
    for (const Tensor& part : y) out.push_back(part.mutable_data_ptr<scalar_t>());
    std::vector<const scalar_t*> mix;
    for (const Tensor& part : mixes) mix.push_back(part.const_data_ptr<scalar_t>());
    at::parallel_for(0, rows * length, kTokenGrain, [&](int64_t begin, int64_t end) {
      for (int64_t token = begin; token < end; ++token) {
        const scalar_t* now = in + token * width;
        const scalar_t* last = token % length == 0 ? before + token / length * width : now - width;
        for (int64_t m = 0; m < count; ++m) {
          const scalar_t* mu = mix[m];
          scalar_t* to = out[m] + token * width;
          for (int64_t c = 0; c < width; ++c) {
            const auto previous = static_cast<Wide>(last[c]);
            to[c] = static_cast<scalar_t>(previous + static_cast<Wide>(mu[c]) * (static_cast<Wide>(now[c]) - previous));
          }
        }
      }
    });
  });
  return y;
}

struct PlainGradients {
  Tensor x, first, mixes;
};

// dx_t = Σ_m µ g_t + (1 - µ) g_{t+1},   dµ = Σ_t g_t (x_t - x_{t-1}),   g M times [B, L, D].
PlainGradients shift_plain_backward(const Tensor& x, const Tensor& first, const Tensor& mixes,
                                    const variable_list& gradients) {
  const int64_t rows = x.size(0), length = x.size(1), width = x.size(2), count = mixes.size(0);
  const int64_t tokens = rows * length;
  const auto wide_options = x.options().dtype(at_least_float32(x.scalar_type()));
  PlainGradients result{at::empty_like(x), at::zeros(first.sizes(), first.options()), {}};
  Tensor partial = at::zeros({kPartialSums, count, width}, wide_options);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, x.scalar_type(), "token_shift_backward", [&] {
    using Wide = at::opmath_type<scalar_t>;
    const scalar_t *in = x.const_data_ptr<scalar_t>(), *before = first.const_data_ptr<scalar_t>();
    const scalar_t* mix = mixes.const_data_ptr<scalar_t>();
    variable_list dense;
    std::vector<const scalar_t*> g;
    for (const Tensor& gradient : gradients) {
      dense.push_back(gradient.contiguous());
      g.push_back(dense.back().const_data_ptr<scalar_t>());
    }
    scalar_t *dx = result.x.mutable_data_ptr<scalar_t>(), *dfirst = result.first.mutable_data_ptr<scalar_t>();
    Wide* sums = partial.mutable_data_ptr<Wide>();
    at::parallel_for(0, kPartialSums, 1, [&](int64_t begin, int64_t end) {
      std::vector<Wide> sum(static_cast<size_t>(width));
      for (int64_t p = begin, token = tokens * begin / kPartialSums; token < tokens * end / kPartialSums; ++token) {
        while (token >= tokens * (p + 1) / kPartialSums) ++p;
        const int64_t t = token % length;
        const scalar_t* now = in + token * width;
        const scalar_t* last = t == 0 ? before + token / length * width : now - width;
        sum.assign(static_cast<size_t>(width), Wide(0));
        for (int64_t m = 0; m < count; ++m) {
          const scalar_t *mu = mix + m * width, *here = g[m] + token * width;
          Wide* dmu = sums + (p * count + m) * width;
          for (int64_t c = 0; c < width; ++c) {
            const auto gradient_here = static_cast<Wide>(here[c]);
            sum[c] += static_cast<Wide>(mu[c]) * gradient_here;
            dmu[c] += gradient_here * (static_cast<Wide>(now[c]) - static_cast<Wide>(last[c]));
          }
          if (t + 1 < length) {
            const scalar_t* next = here + width;
            for (int64_t c = 0; c < width; ++c) {
              sum[c] += (Wide(1) - static_cast<Wide>(mu[c])) * static_cast<Wide>(next[c]);
            }
          }
        }
        for (int64_t c = 0; c < width; ++c) dx[token * width + c] = static_cast<scalar_t>(sum[c]);
        if (t == 0) {
          scalar_t* to = dfirst + token / length * width;
          for (int64_t c = 0; c < width; ++c) {
            Wide total(0);
            for (int64_t m = 0; m < count; ++m) {
              total += (Wide(1) - static_cast<Wide>(mix[m * width + c])) * static_cast<Wide>(g[m][token * width + c]);
            }
            to[c] = static_cast<scalar_t>(total);
          }
        }
      }
    });
  });
  result.mixes = partial.sum(0).to(x.scalar_type());
  return result;
}

struct PlainShift : torch::autograd::Function<PlainShift> {
  static variable_list forward(AutogradContext* context, const Tensor& x, const Tensor& first, const Tensor& mixes) {
    context->save_for_backward({x, first, mixes});
    return shift_plain(x, first, mixes.unbind(0));
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "token_shift can be differentiated once only");
    const variable_list saved = context->get_saved_variables();
    const PlainGradients result = shift_plain_backward(saved[0], saved[1], saved[2], gradients);
    return {result.x, result.first, result.mixes};
  }
};

}  // namespace
}  // namespace token_shift_detail

TokenShift token_shift(const Tensor& x, const Context& context, const Tensor& previous,
                       const std::vector<Tensor>& mixes) {
  using namespace token_shift_detail;
  const int64_t rows = x.size(0), length = x.size(1), width = x.size(2);
  const auto wide = at_least_float32(x.scalar_type());
  TokenShift result;
  if (!context.ragged && x.device().is_cpu()) {
    const Tensor first =
        previous.defined() ? previous.to(x.scalar_type()).contiguous() : at::zeros({rows, width}, x.options());
    if (at::GradMode::is_enabled()) {
      result.mixed = PlainShift::apply(x.contiguous(), first, at::stack(mixes));
      result.last = x.select(1, length - 1).to(wide).clone();
    } else {  // decoding calls this twice a block and token: no graph, no copies
      std::vector<Tensor> dense;
      for (const Tensor& mix : mixes) dense.push_back(mix.contiguous());
      result.mixed = shift_plain(x.contiguous(), first, dense);
      result.last = x.select(1, length - 1).to(wide);
    }
    return result;
  }
  Tensor before;
  if (!context.ragged) {
    const Tensor first = previous.defined() ? previous.to(x.scalar_type()) : at::zeros({rows, width}, x.options());
    before = at::cat({first.unsqueeze(1), x.narrow(1, 0, length - 1)}, 1);
    result.last = x.select(1, length - 1).to(wide).clone();
  } else {
    // A causal convolution with the taps (1, 0): it skips padding and restarts at position 0, exactly.
    const Tensor taps = at::cat({at::ones({width, 1}, x.options()), at::zeros({width, 1}, x.options())}, 1);
    const auto shifted =
        causal_conv1d(x.transpose(1, 2), taps, std::nullopt, "",
                      previous.defined() ? OptionalTensor(previous.unsqueeze(-1)) : std::nullopt, context.positions);
    before = shifted.y.transpose(1, 2);
    result.last = shifted.final_state.squeeze(-1);
  }
  for (const Tensor& mix : mixes) result.mixed.push_back(at::lerp(before, x, mix));
  return result;
}

}  // namespace hippodrome

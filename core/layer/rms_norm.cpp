#include "core/layer/rms_norm.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <utility>

namespace hippodrome {
namespace {

// Rows a task takes at least: some 50 µs of work at width 256.
constexpr int64_t kRowGrain = 128;
// Partial sums of the weight gradient: a fixed number, so that the result does not depend on the thread count.
constexpr int64_t kPartials = 16;

template <class T>
T sum_of_products(const T* a, const T* b, int64_t n) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) {
    sum += a[i] * b[i];
  }
  return sum;
}

template <class T>
void rms_norm_rows(const T* x, const T* weight, T* y, T* scale, int64_t begin, int64_t end, int64_t width,
                   double epsilon) {
  for (int64_t row = begin; row < end; ++row) {
    const T* x_row = x + row * width;
    const T mean_square = sum_of_products(x_row, x_row, width) / static_cast<T>(width);
    const T s = T(1) / std::sqrt(mean_square + static_cast<T>(epsilon));
    scale[row] = s;
    T* y_row = y + row * width;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) {
      y_row[i] = x_row[i] * s * weight[i];
    }
  }
}

// dx = s (w∘dy − x s² mean(w∘dy∘x)); dw = Σ_rows dy∘x s.
template <class T>
void rms_norm_backward_rows(const T* x, const T* weight, const T* scale, const T* dy, T* dx, T* dweight, int64_t begin,
                            int64_t end, int64_t width) {
  for (int64_t row = begin; row < end; ++row) {
    const T *x_row = x + row * width, *dy_row = dy + row * width;
    T* dx_row = dx + row * width;
    const T s = scale[row];
    T projection = 0;
#pragma omp simd reduction(+ : projection)
    for (int64_t i = 0; i < width; ++i) {
      projection += weight[i] * dy_row[i] * x_row[i];
    }
    const T along = projection * s * s / static_cast<T>(width);
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) {
      dx_row[i] = s * (weight[i] * dy_row[i] - x_row[i] * along);
      dweight[i] += dy_row[i] * x_row[i] * s;
    }
  }
}

// y, and the factor of each row that backward takes up again.
std::pair<Tensor, Tensor> rms_norm_values(const Tensor& x, const Tensor& weight, double epsilon) {
  const int64_t width = x.size(-1), rows = width == 0 ? 0 : x.numel() / width;
  Tensor y = at::empty_like(x), scale = at::empty({rows}, x.options());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "rms_norm", [&] {
    at::parallel_for(0, rows, kRowGrain, [&](int64_t begin, int64_t end) {
      rms_norm_rows(x.const_data_ptr<scalar_t>(), weight.const_data_ptr<scalar_t>(), y.mutable_data_ptr<scalar_t>(),
                    scale.mutable_data_ptr<scalar_t>(), begin, end, width, epsilon);
    });
  });
  return {y, scale};
}

struct RmsNormFunction : torch::autograd::Function<RmsNormFunction> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x_in, const Tensor& weight,
                        double epsilon) {
    const Tensor x = x_in.contiguous();
    const auto [y, scale] = rms_norm_values(x, weight, epsilon);
    context->save_for_backward({x, weight, scale});
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &scale = saved[2];
    const Tensor dy = gradients[0].contiguous();
    const int64_t width = x.size(-1), rows = scale.numel();
    Tensor dx = at::empty_like(x), partials = at::zeros({kPartials, width}, x.options());
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "rms_norm_backward", [&] {
      at::parallel_for(0, kPartials, 1, [&](int64_t begin, int64_t end) {
        for (int64_t part = begin; part < end; ++part) {
          rms_norm_backward_rows(x.const_data_ptr<scalar_t>(), weight.const_data_ptr<scalar_t>(),
                                 scale.const_data_ptr<scalar_t>(), dy.const_data_ptr<scalar_t>(),
                                 dx.mutable_data_ptr<scalar_t>(), partials.mutable_data_ptr<scalar_t>() + part * width,
                                 rows * part / kPartials, rows * (part + 1) / kPartials, width);
        }
      });
    });
    return {dx, partials.sum(0), Tensor()};
  }
};

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& weight, double epsilon) {
  TORCH_CHECK(x.dim() > 0 && weight.dim() == 1 && weight.size(0) == x.size(-1) && weight.is_contiguous() &&
                  weight.scalar_type() == x.scalar_type(),
              "rms_norm takes a contiguous weight [D] of x's dtype for x [..., D], not ", weight.scalar_type(), " ",
              weight.sizes(), " for ", x.scalar_type(), " ", x.sizes());
  if (!x.device().is_cpu()) return at::rms_norm(x, {x.size(-1)}, weight, epsilon);
  // A graph costs more than a single token's norm.
  if (!at::GradMode::is_enabled()) return rms_norm_values(x.contiguous(), weight, epsilon).first;
  return RmsNormFunction::apply(x, weight, epsilon);
}

}  // namespace hippodrome

#include "core/tensor/matmul.h"

#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <chrono>
#include <limits>

#include "core/tensor/row_product.h"

namespace hippodrome {
namespace {

MatrixLibrary library_of_process = MatrixLibrary::kMkl;

// oneDNN's product on plain dense tensors. LibTorch exposes it without autograd, as an operator of its fusion passes.
Tensor onednn_linear(const Tensor& x, const Tensor& weight, const OptionalTensor& bias) {
  using Signature = Tensor(const Tensor&, const Tensor&, const OptionalTensor&, c10::string_view,
                           c10::List<std::optional<at::Scalar>>, std::optional<c10::string_view>);
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_linear_pointwise", "").typed<Signature>();
  return op.call(x, weight, bias, "none", c10::List<std::optional<at::Scalar>>(), "");
}

// A single row is a matrix-vector product, bound by memory.
bool suits_onednn(const Tensor& x) {
  return library_of_process == MatrixLibrary::kOneDnn && x.device().is_cpu() && x.scalar_type() == at::kFloat &&
         x.numel() > x.size(-1);
}

// Weights that one thread reads in some 6 µs; below, a second one costs more than it saves.
constexpr int64_t kRowGrain = 1 << 15;

// One row in float32 without gradients, as in decoding: both libraries read the weight at a half to a third of what memory gives,
// and LibTorch spends as long again on the way to them.
bool is_plain_row(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const auto dense = [](const Tensor& tensor) { return tensor.scalar_type() == at::kFloat && tensor.is_contiguous(); };
  return !at::GradMode::is_enabled() && x.device().is_cpu() && x.numel() == weight.size(1) && x.size(-1) == weight.size(1) &&
         dense(x) && dense(weight) && (!bias.defined() || dense(bias));
}

Tensor plain_row(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const int64_t out = weight.size(0), in = weight.size(1);
  auto sizes = x.sizes().vec();
  sizes.back() = out;
  Tensor y = at::empty(sizes, x.options());
  const float *weights = weight.const_data_ptr<float>(), *row = x.const_data_ptr<float>();
  const float* biases = bias.defined() ? bias.const_data_ptr<float>() : nullptr;
  float* to = y.mutable_data_ptr<float>();
  at::parallel_for(0, out, std::max<int64_t>(1, kRowGrain / in), [&](int64_t begin, int64_t end) {
    row_product(weights, row, biases, in, begin, end, to);
  });
  return y;
}

struct OneDnnLinear : torch::autograd::Function<OneDnnLinear> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x, const Tensor& weight,
                        const OptionalTensor& bias) {
    context->save_for_backward({x, weight});
    context->saved_data["bias"] = bias.has_value();
    return onednn_linear(x, weight, bias);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1];
    const Tensor dy = gradients[0].reshape({-1, weight.size(0)});
    torch::autograd::variable_list result(3);
    if (context->needs_input_grad(0)) {
      result[0] = onednn_linear(dy, weight.t(), std::nullopt).view(x.sizes());
    }
    if (context->needs_input_grad(1)) {
      // oneDNN first re-orders both transposed operands here, which made it the slower of the two (0.4–0.8× on Zen 5).
      result[1] = at::mm(dy.t(), x.reshape({-1, x.size(-1)}));
    }
    if (context->saved_data["bias"].toBool() && context->needs_input_grad(2)) {
      result[2] = dy.sum(0);
    }
    return result;
  }
};

// visit(group, first row, rows) for each group that has rows.
template <class Visit>
void for_each_group(const std::vector<int64_t>& counts, const Visit& visit) {
  int64_t first = 0;
  for (size_t group = 0; group < counts.size(); ++group) {
    if (counts[group] > 0) visit(static_cast<int64_t>(group), first, counts[group]);
    first += counts[group];
  }
}

Tensor grouped_products(const Tensor& x, const Tensor& weight, const std::vector<int64_t>& counts) {
  std::vector<Tensor> outputs;
  for_each_group(counts, [&](int64_t group, int64_t first, int64_t rows) {
    const Tensor part = x.narrow(0, first, rows), own = weight.select(0, group);
    outputs.push_back(is_plain_row(part, own, Tensor()) ? plain_row(part, own, Tensor())
                      : suits_onednn(part)              ? onednn_linear(part, own, std::nullopt)
                                                        : at::linear(part, own));
  });
  if (outputs.empty()) return at::empty({0, weight.size(1)}, x.options());
  return outputs.size() == 1 ? outputs.front() : at::cat(outputs);
}

struct GroupedProducts : torch::autograd::Function<GroupedProducts> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x, const Tensor& weight,
                        const std::vector<int64_t>& counts) {
    context->save_for_backward({x, weight});
    context->saved_data["counts"] = counts;
    return grouped_products(x, weight, counts);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], dy = gradients[0].contiguous();
    const std::vector<int64_t> counts = context->saved_data["counts"].toIntVector();
    torch::autograd::variable_list result(3);
    if (context->needs_input_grad(0)) result[0] = grouped_products(dy, weight.transpose(1, 2), counts);
    if (context->needs_input_grad(1)) {
      Tensor dweight = at::empty(weight.sizes(), weight.options());
      for (size_t group = 0; group < counts.size(); ++group) {
        if (counts[group] == 0) dweight.select(0, static_cast<int64_t>(group)).zero_();
      }
      for_each_group(counts, [&](int64_t group, int64_t first, int64_t rows) {
        Tensor own = dweight.select(0, group);
        at::mm_out(own, dy.narrow(0, first, rows).t(), x.narrow(0, first, rows));
      });
      result[1] = dweight;
    }
    return result;
  }
};

}  // namespace

std::string matrix_library_name(MatrixLibrary library) { return library == MatrixLibrary::kMkl ? "mkl" : "onednn"; }

absl::StatusOr<MatrixLibrary> parse_matrix_library(const std::string& name) {
  if (name == "mkl") return MatrixLibrary::kMkl;
  if (name == "onednn") return MatrixLibrary::kOneDnn;
  return absl::InvalidArgumentError("unknown matrix library \"" + name + "\": use mkl or onednn");
}

MatrixLibrary measure_matrix_library() {
  const Tensor x = at::ones({2048, 192}), weight = at::ones({512, 192});
  const auto best_of = [&](auto product) {
    double best = std::numeric_limits<double>::infinity();
    for (int repeat = 0; repeat < 7; ++repeat) {
      const auto start = std::chrono::steady_clock::now();
      product();
      best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return best;
  };
  const double mkl = best_of([&] { return at::linear(x, weight); });
  const double onednn = best_of([&] { return onednn_linear(x, weight, std::nullopt); });
  return onednn < mkl ? MatrixLibrary::kOneDnn : MatrixLibrary::kMkl;
}

void set_matrix_library(MatrixLibrary library) { library_of_process = library; }
MatrixLibrary matrix_library() { return library_of_process; }

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  if (is_plain_row(x, weight, bias)) {
    return plain_row(x, weight, bias);
  }
  const OptionalTensor optional_bias = bias.defined() ? OptionalTensor(bias) : std::nullopt;
  if (suits_onednn(x)) {
    if (!at::GradMode::is_enabled()) return onednn_linear(x, weight, optional_bias);
    return OneDnnLinear::apply(x, weight, optional_bias);
  }
  return at::linear(x, weight, optional_bias);
}

Tensor grouped_linear(const Tensor& x, const Tensor& weight, const std::vector<int64_t>& counts) {
  TORCH_CHECK(static_cast<int64_t>(counts.size()) == weight.size(0), "grouped_linear: ", counts.size(), " counts for ",
              weight.size(0), " groups");
  if (!at::GradMode::is_enabled()) return grouped_products(x, weight, counts);
  return GroupedProducts::apply(x, weight, counts);
}

}  // namespace hippodrome

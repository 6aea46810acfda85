// hippodrome::swiglu: schema, checks, autograd, meta and the CPU binding.
#include "architectures/transformer/swiglu/op.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/silu.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>

#include "architectures/transformer/swiglu/reference.h"
#include "architectures/transformer/swiglu/swiglu.h"

namespace hippodrome {
namespace swiglu_op {
namespace {

using at::Tensor;

// Elements a thread takes at least: some 20 µs of work.
constexpr int64_t kGrain = 1 << 15;

at::ScalarType compute_dtype(const Tensor& h) { return h.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

void check(const Tensor& h) {
  TORCH_CHECK(h.scalar_type() == at::kFloat || h.scalar_type() == at::kDouble || h.scalar_type() == at::kBFloat16,
              "swiglu: h must be float32, float64 or bfloat16, not ", h.scalar_type());
  TORCH_CHECK(h.dim() > 0 && h.sym_size(-1) % 2 == 0, "swiglu: h must be [..., 2F], gates then values, got ", h.sym_sizes());
}

// [..., F] for h [..., 2F].
Tensor half_of(const Tensor& h, at::ScalarType dtype) {
  auto sizes = h.sym_sizes().vec();
  sizes.back() = sizes.back() / 2;
  return at::empty_symint(sizes, h.options().dtype(dtype));
}

template <class T>
Tensor run_forward(const Tensor& h_in, bool reference) {
  const Tensor h = h_in.to(compute_dtype(h_in)).contiguous();
  const Tensor y = half_of(h, h.scalar_type());
  const int64_t width = h.size(-1) / 2;
  if (h.numel() > 0) {
    const SwigluForward<T> p{h.numel() / (2 * width), width, h.const_data_ptr<T>(), y.mutable_data_ptr<T>()};
    if (reference) {
      swiglu_forward_reference(p);
    } else {
      at::parallel_for(0, p.rows, std::max<int64_t>(1, kGrain / width),
                       [&](int64_t begin, int64_t end) { swiglu_forward(p, begin, end); });
    }
  }
  return y.to(h_in.scalar_type());
}

Tensor forward_cpu(const Tensor& h, bool reference) {
  check(h);
  return h.scalar_type() == at::kDouble ? run_forward<double>(h, reference) : run_forward<float>(h, reference);
}

Tensor forward_meta(const Tensor& h, bool) {
  check(h);
  return half_of(h, h.scalar_type());
}

template <class T>
Tensor run_backward(const Tensor& grad_y_in, const Tensor& h_in, bool reference) {
  const auto dtype = compute_dtype(h_in);
  const Tensor h = h_in.to(dtype).contiguous(), grad_y = grad_y_in.to(dtype).contiguous();
  const Tensor grad_h = at::empty(h.sizes(), h.options());
  const int64_t width = h.size(-1) / 2;
  if (h.numel() > 0) {
    const SwigluBackward<T> p{h.numel() / (2 * width), width, h.const_data_ptr<T>(), grad_y.const_data_ptr<T>(),
                              grad_h.mutable_data_ptr<T>()};
    if (reference) {
      swiglu_backward_reference(p);
    } else {
      at::parallel_for(0, p.rows, std::max<int64_t>(1, kGrain / width),
                       [&](int64_t begin, int64_t end) { swiglu_backward(p, begin, end); });
    }
  }
  return grad_h.to(h_in.scalar_type());
}

Tensor backward_cpu(const Tensor& grad_y, const Tensor& h, bool reference) {
  return h.scalar_type() == at::kDouble ? run_backward<double>(grad_y, h, reference)
                                        : run_backward<float>(grad_y, h, reference);
}

Tensor backward_meta(const Tensor&, const Tensor& h, bool) { return at::empty_symint(h.sym_sizes(), h.options()); }

Tensor call_forward(const Tensor& h, bool reference) {
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("hippodrome::_swiglu_forward", "").typed<decltype(forward_cpu)>();
  return op.call(h, reference);
}

class Swiglu : public torch::autograd::Function<Swiglu> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& h, bool reference) {
    at::AutoDispatchBelowADInplaceOrView guard;
    context->save_for_backward({h});
    context->saved_data["reference"] = reference;
    return call_forward(h, reference);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("hippodrome::_swiglu_backward", "")
                               .typed<decltype(backward_cpu)>();
    const auto saved = context->get_saved_variables();
    return {op.call(grads[0], saved[0], context->saved_data["reference"].toBool()), Tensor()};
  }
};

template <bool kReference>
Tensor without_autograd(const Tensor& h) {
  return call_forward(h, kReference);
}

template <bool kReference>
Tensor with_autograd(const Tensor& h) {
  if (at::GradMode::is_enabled() && h.requires_grad()) return Swiglu::apply(h, kReference);
  at::AutoDispatchBelowADInplaceOrView guard;
  return without_autograd<kReference>(h);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(hippodrome, m) {
  m.def("swiglu(Tensor h) -> Tensor");
  m.def("swiglu_reference(Tensor h) -> Tensor");
  m.def("_swiglu_forward(Tensor h, bool reference) -> Tensor");
  m.def("_swiglu_backward(Tensor grad_y, Tensor h, bool reference) -> Tensor");
}

TORCH_LIBRARY_IMPL(hippodrome, CompositeExplicitAutograd, m) {
  m.impl("swiglu", without_autograd<false>);
  m.impl("swiglu_reference", without_autograd<true>);
}

TORCH_LIBRARY_IMPL(hippodrome, Autograd, m) {
  m.impl("swiglu", with_autograd<false>);
  m.impl("swiglu_reference", with_autograd<true>);
  m.impl("_swiglu_forward", torch::autograd::autogradNotImplementedFallback());
  m.impl("_swiglu_backward", torch::autograd::autogradNotImplementedFallback());
}

TORCH_LIBRARY_IMPL(hippodrome, CPU, m) {
  m.impl("_swiglu_forward", forward_cpu);
  m.impl("_swiglu_backward", backward_cpu);
}

TORCH_LIBRARY_IMPL(hippodrome, Meta, m) {
  m.impl("_swiglu_forward", forward_meta);
  m.impl("_swiglu_backward", backward_meta);
}

}  // namespace swiglu_op

at::Tensor swiglu(const at::Tensor& h, bool reference) {
  using Signature = decltype(swiglu_op::without_autograd<false>);
  if (!h.device().is_cpu() && !h.is_meta()) {
    const auto halves = h.chunk(2, -1);
    return at::silu(halves[0]).mul(halves[1]);
  }
  static const auto fused = c10::Dispatcher::singleton().findSchemaOrThrow("hippodrome::swiglu", "").typed<Signature>();
  static const auto plain =
      c10::Dispatcher::singleton().findSchemaOrThrow("hippodrome::swiglu_reference", "").typed<Signature>();
  return (reference ? plain : fused).call(h);
}

}  // namespace hippodrome

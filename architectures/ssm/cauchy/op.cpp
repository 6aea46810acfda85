// hippodrome::cauchy: schema, checks, autograd, meta and the CPU binding.
#include "architectures/ssm/cauchy/op.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <cmath>
#include <numbers>
#include <tuple>
#include <vector>

#include "architectures/ssm/cauchy/binding.h"
#include "architectures/ssm/cauchy/cauchy.h"
#include "architectures/ssm/cauchy/reference.h"
#include "core/tensor/flop_meter.h"
#include "core/tensor/op_binding.h"

namespace hippodrome {
namespace cauchy_op {
namespace {

// sin(πk/L) and cos(πk/L) for k ≤ L/2, the cosine as the sine of the complement, so that both ends are exact; then the
// padding.
template <class T>
std::vector<T> nodes_of(int64_t length) {
  const int64_t nodes = cauchy_nodes(length), padded = cauchy_padded_nodes(length);
  std::vector<T> table(2 * padded, T(0));
  const double unit = std::numbers::pi / (2.0 * static_cast<double>(length));
  for (int64_t k = 0; k < padded; ++k) {
    const int64_t numerator = k < nodes ? 2 * k : length;  // of the angle, in units of π/2L
    table[k] = static_cast<T>(std::sin(unit * static_cast<double>(numerator)));
    table[padded + k] = static_cast<T>(std::sin(unit * static_cast<double>(length - numerator)));
  }
  return table;
}

template <class T, class P>
void set_problem(P& p, const Tensor& v, const Tensor& lambda, int64_t length, const std::vector<T>& nodes) {
  p.channels = v.size(0);
  p.rows = v.size(1);
  p.states = v.size(2);
  p.nodes = cauchy_nodes(length);
  p.padded_nodes = cauchy_padded_nodes(length);
  p.sine = nodes.data();
  p.cosine = nodes.data() + p.padded_nodes;
  p.v = v.const_data_ptr<T>();
  p.lambda = lambda.const_data_ptr<T>();
}

// Channels per thread: below about 10^5 operations a second thread costs more than it saves.
template <class P>
int64_t channels_per_thread(const P& p) {
  return grain(p.padded_nodes * p.states * (12 + 4 * p.rows));
}

template <class T>
void run_forward(const Tensor& v, const Tensor& lambda, int64_t length, bool reference, Tensor& sums) {
  const std::vector<T> nodes = nodes_of<T>(length);
  CauchyForward<T> p;
  set_problem(p, v, lambda, length, nodes);
  p.sums = sums.mutable_data_ptr<T>();
  if (reference) {
    run_counted(p, [](const auto& params) { cauchy_forward_reference(params); });
  } else {
    at::parallel_for(0, p.channels, channels_per_thread(p),
                     [&](int64_t begin, int64_t end) { cauchy_forward(p, begin, end); });
  }
}

template <class T>
void run_backward(const Tensor& grad_sums, const Tensor& v, const Tensor& lambda, int64_t length, bool reference,
                  Tensor& grad_v, Tensor& grad_lambda) {
  const std::vector<T> nodes = nodes_of<T>(length);
  CauchyBackward<T> p;
  set_problem(p, v, lambda, length, nodes);
  p.grad_sums = grad_sums.const_data_ptr<T>();
  p.grad_v = grad_v.mutable_data_ptr<T>();
  p.grad_lambda = grad_lambda.mutable_data_ptr<T>();
  if (reference) {
    cauchy_backward_reference(p);
  } else {
    at::parallel_for(0, p.channels, channels_per_thread(p),
                     [&](int64_t begin, int64_t end) { cauchy_backward(p, begin, end); });
  }
}

Tensor forward_meta(const Tensor& v, const Tensor& lambda, c10::SymInt length, bool) {
  check(v, lambda, length);
  return make_sums(v, length);
}

Tensor forward_cpu(const Tensor& v_in, const Tensor& lambda_in, c10::SymInt symbolic_length, bool reference) {
  Tensor sums = forward_meta(v_in, lambda_in, symbolic_length, reference);
  const Tensor v = v_in.contiguous(), lambda = lambda_in.contiguous();
  const int64_t length = symbolic_length.guard_int(__FILE__, __LINE__);
  v.scalar_type() == at::kDouble ? run_forward<double>(v, lambda, length, reference, sums)
                                 : run_forward<float>(v, lambda, length, reference, sums);
  return sums;
}

Gradients backward_meta(const Tensor&, const Tensor& v, const Tensor& lambda, c10::SymInt, bool) {
  return {at::empty_symint(v.sym_sizes(), v.options()), at::empty_symint(lambda.sym_sizes(), lambda.options())};
}

Gradients backward_cpu(const Tensor& grad_sums_in, const Tensor& v_in, const Tensor& lambda_in,
                       c10::SymInt symbolic_length, bool reference) {
  Gradients gradients = backward_meta(grad_sums_in, v_in, lambda_in, symbolic_length, reference);
  auto& [grad_v, grad_lambda] = gradients;
  const Tensor grad_sums = grad_sums_in.contiguous(), v = v_in.contiguous(), lambda = lambda_in.contiguous();
  const int64_t length = symbolic_length.guard_int(__FILE__, __LINE__);
  v.scalar_type() == at::kDouble ? run_backward<double>(grad_sums, v, lambda, length, reference, grad_v, grad_lambda)
                                 : run_backward<float>(grad_sums, v, lambda, length, reference, grad_v, grad_lambda);
  return gradients;
}

Tensor call_forward(const Tensor& v, const Tensor& lambda, c10::SymInt length, bool reference) {
  static const auto op = find_op<decltype(forward_cpu)>("hippodrome::_cauchy_forward");
  return op.call(v, lambda, std::move(length), reference);
}

class Cauchy : public torch::autograd::Function<Cauchy> {
 public:
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& v, const Tensor& lambda,
                        c10::SymInt length, bool reference) {
    at::AutoDispatchBelowADInplaceOrView guard;
    context->save_for_backward({v, lambda});
    context->saved_data["length"] = length;
    context->saved_data["reference"] = reference;
    return call_forward(v, lambda, std::move(length), reference);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    static const auto op = find_op<decltype(backward_cpu)>("hippodrome::_cauchy_backward");
    const auto saved = context->get_saved_variables();
    auto [v, lambda] = op.call(grads[0], saved[0], saved[1], context->saved_data["length"].toSymInt(),
                               context->saved_data["reference"].toBool());
    return {v, lambda, Tensor(), Tensor()};
  }
};

template <bool kReference>
Tensor without_autograd(const Tensor& v, const Tensor& lambda, c10::SymInt length) {
  return call_forward(v, lambda, std::move(length), kReference);
}

template <bool kReference>
Tensor with_autograd(const Tensor& v, const Tensor& lambda, c10::SymInt length) {
  if (!wants_gradient(v, lambda)) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return without_autograd<kReference>(v, lambda, std::move(length));
  }
  return Cauchy::apply(v, lambda, length, kReference);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(hippodrome, m) {
  m.def("cauchy(Tensor v, Tensor lambda_, SymInt length) -> Tensor sums");
  m.def("cauchy_reference(Tensor v, Tensor lambda_, SymInt length) -> Tensor sums");
  m.def("_cauchy_forward(Tensor v, Tensor lambda_, SymInt length, bool reference) -> Tensor sums");
  m.def(
      "_cauchy_backward(Tensor grad_sums, Tensor v, Tensor lambda_, SymInt length, bool reference)"
      " -> (Tensor grad_v, Tensor grad_lambda)");
}

TORCH_LIBRARY_IMPL(hippodrome, CompositeExplicitAutograd, m) {
  m.impl("cauchy", without_autograd<false>);
  m.impl("cauchy_reference", without_autograd<true>);
}

TORCH_LIBRARY_IMPL(hippodrome, Autograd, m) {
  m.impl("cauchy", with_autograd<false>);
  m.impl("cauchy_reference", with_autograd<true>);
  m.impl("_cauchy_forward", torch::autograd::autogradNotImplementedFallback());
  m.impl("_cauchy_backward", torch::autograd::autogradNotImplementedFallback());
}

TORCH_LIBRARY_IMPL(hippodrome, CPU, m) {
  m.impl("_cauchy_forward", forward_cpu);
  m.impl("_cauchy_backward", backward_cpu);
}

TORCH_LIBRARY_IMPL(hippodrome, Meta, m) {
  m.impl("_cauchy_forward", forward_meta);
  m.impl("_cauchy_backward", backward_meta);
}

}  // namespace cauchy_op

at::Tensor cauchy(const at::Tensor& v, const at::Tensor& lambda, int64_t length, bool reference) {
  using Signature = decltype(cauchy_op::without_autograd<false>);
  static const auto fused = find_op<Signature>("hippodrome::cauchy");
  static const auto plain = find_op<Signature>("hippodrome::cauchy_reference");
  return (reference ? plain : fused).call(v, lambda, length);
}

}  // namespace hippodrome

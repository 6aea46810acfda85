#include <ATen/TensorOperators.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>
#include <c10/util/accumulate.h>

#include <tuple>

#include "architectures/recurrent/additive_attention/additive_attention.h"
#include "architectures/rwkv/wkv4/wkv4.h"
#include "architectures/ssm/cauchy/cauchy.h"
#include "architectures/ssm/causal_conv1d/causal_conv1d.h"
#include "architectures/ssm/causal_fir/causal_fir.h"
#include "architectures/ssm/gated_rms_norm/gated_rms_norm.h"
#include "architectures/ssm/selective_scan/selective_scan.h"
#include "architectures/ssm/ssd/op.h"
#include "architectures/ssm/ssd/ssd.h"
#include "benchmarks/gpu/problem.h"
#include "benchmarks/gpu/rivals.h"

namespace hippodrome::gpu_benchmark {

using at::Tensor;

namespace {

constexpr double kRoom = 60e9;  // bytes that a rival may take

double as_double(int64_t x) { return static_cast<double>(x); }
// Small ones are drawn on the CPU, so that after at::manual_seed every device gets the same.
Tensor drawn(Tensor (*draw)(at::IntArrayRef, at::TensorOptions), const std::vector<int64_t>& sizes,
             const at::TensorOptions& options) {
  const bool small = c10::multiply_integers(sizes) < int64_t{1} << 20;
  return small ? draw(sizes, options.device(at::kCPU)).to(options.device()) : draw(sizes, options);
}
Tensor normal(const std::vector<int64_t>& sizes, const at::TensorOptions& options) {
  return drawn(at::randn, sizes, options);
}
Tensor uniform(const std::vector<int64_t>& sizes, const at::TensorOptions& options) {
  return drawn(at::rand, sizes, options);
}
at::TensorOptions in_float(const at::TensorOptions& options) { return options.dtype(at::kFloat); }

// Mamba-1's, with all that its layer asks for. Per element and N states, after Mamba's recurrence step by step: 7 N +
// 10 operations, N exponentials, two special functions each for softplus and silu; backward some 20 N and N + 6.
Problem scan(const Shape& s, at::TensorOptions options) {
  const int64_t states = 16;
  const auto tokens = [&] { return normal({s.batch, s.length, s.width}, options).transpose(1, 2); };
  const auto by_state = [&] { return normal({s.batch, s.length, states}, options).transpose(1, 2); };
  SelectiveScanArguments in;
  in.u = tokens(), in.delta = tokens(), in.z = tokens();
  in.A = uniform({s.width, states}, in_float(options)).add(0.5).neg();
  in.B = by_state(), in.C = by_state();
  in.D = uniform({s.width}, in_float(options));
  in.delta_bias = uniform({s.width}, in_float(options)).sub(4.0);
  in.delta_softplus = true;
  const double elements = as_double(s.batch * s.length * s.width), n = as_double(states);
  Problem problem;
  problem.inputs = {in.u, in.delta, in.A, in.B, in.C, *in.D, *in.z, *in.delta_bias};
  problem.forward = [in] { return std::get<0>(selective_scan(in)); };
  problem.forward_work = {.flops = (7 * n + 10) * elements, .specials = (n + 4) * elements};
  problem.backward_work = {.flops = 20 * n * elements, .specials = (n + 6) * elements};
  if (elements * n * 4 * 6 < kRoom) {
    problem.rivals.push_back(
        {"libtorch_doubling", [in] { return rivals::selective_scan_by_doubling(in); }, {}, {}, false});
  }
  return problem;
}

template <class Signature>
auto rival_op(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}
bool has_rival_op(const char* name) { return c10::Dispatcher::singleton().findSchema({name, ""}).has_value(); }

// Per element two exponentials and a reciprocal, some 20 operations; backward as many again for the states and as many
// for the gradients.
Problem wkv(const Shape& s, at::TensorOptions options) {
  const Tensor w = uniform({s.width}, in_float(options)).neg(), u = uniform({s.width}, in_float(options));
  const Tensor k = normal({s.batch, s.length, s.width}, options), v = normal({s.batch, s.length, s.width}, options);
  const double elements = as_double(s.batch * s.length * s.width);
  Problem problem;
  problem.inputs = {w, u, k, v};
  problem.forward = [=] { return wkv4(w, u, k, v).y; };
  problem.forward_work = {.flops = 20 * elements, .specials = 3 * elements};
  problem.backward_work = {.flops = 45 * elements, .specials = 3 * elements};
  if (options.device().is_cuda() && has_rival_op("hippodrome_rivals::sequential_wkv4")) {
    using Forward = Tensor(const Tensor&, const Tensor&, const Tensor&, const Tensor&);
    using Backward = std::tuple<Tensor, Tensor, Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&,
                                                                const Tensor&, const Tensor&, const Tensor&);
    const auto forward = rival_op<Forward>("hippodrome_rivals::sequential_wkv4");
    const auto backward = rival_op<Backward>("hippodrome_rivals::sequential_wkv4_backward");
    const Tensor gradient = at::ones_like(k);
    Rival rival{"published_algorithm", [=] { return forward.call(w, u, k, v); },
                [=, y = Tensor()]() mutable {
                  if (!y.defined()) y = forward.call(w, u, k, v);
                  backward.call(w, u, k, v, y, gradient);
                }};
    if (s.batch == 1 && s.length == 65536) rival.target_forward = 20.0;
    problem.rivals.push_back(rival);
  }
  return problem;
}

// Mamba's short convolution with silu: pure traffic.
Problem convolution(const Shape& s, at::TensorOptions options) {
  const int64_t taps = 4;
  const Tensor x = normal({s.batch, s.length, s.width}, options).transpose(1, 2);
  const Tensor weight = normal({s.width, taps}, options), bias = normal({s.width}, options);
  const double elements = as_double(s.batch * s.length * s.width), k = as_double(taps);
  Problem problem;
  problem.inputs = {x, weight, bias};
  problem.forward = [=] { return causal_conv1d(x, weight, bias, "silu").y; };
  problem.forward_work = {.flops = (2 * k + 3) * elements, .specials = 2 * elements};
  problem.backward_work = {.flops = (6 * k + 10) * elements, .specials = 2 * elements};
  const Tensor contiguous = x.contiguous();
  Rival rival{"libtorch_conv1d", [=] { return rivals::conv1d_silu(contiguous, weight, bias); }};
  rival.inputs = {contiguous, weight, bias};
  problem.rivals = {rival};
  return problem;
}

// Mamba-2's norm; the gate is a slice of its projection, as there.
Problem gated_norm(const Shape& s, at::TensorOptions options) {
  const Tensor x = normal({s.batch, s.length, s.width}, options), weight = normal({s.width}, options);
  const Tensor z = normal({s.batch, s.length, 2 * s.width}, options).slice(2, 0, s.width).detach();
  const double elements = as_double(s.batch * s.length * s.width);
  Problem problem;
  problem.inputs = {x, z, weight};
  problem.forward = [=] { return gated_rms_norm(x, z, weight); };
  problem.forward_work = {.flops = 8 * elements, .specials = 2 * elements};
  problem.backward_work = {.flops = 20 * elements, .specials = 2 * elements};
  problem.rivals = {{"libtorch", [=] { return rivals::gated_rms_norm(x, z, weight); }}};
  return problem;
}

// H3's shift: a convolution of many taps.
Problem long_convolution(const Shape& s, at::TensorOptions options) {
  const int64_t taps = 64;
  const Tensor x = normal({s.batch, s.length, s.width}, options), weight = normal({taps, s.width}, in_float(options));
  const double elements = as_double(s.batch * s.length * s.width), k = as_double(taps);
  Problem problem;
  problem.inputs = {x, weight};
  problem.forward = [=] { return std::get<0>(causal_fir(x, weight)); };
  problem.forward_work = {.flops = 2 * k * elements};
  problem.backward_work = {.flops = 4 * k * elements};
  problem.rivals = {{"libtorch_fft", [=] { return rivals::fft_convolution(x, weight); }}};
  return problem;
}

// Mamba-2's. Products per token and head: the state in and out, 4 N P, and half of a tile's scores with its values,
// kTile P; those of C and B are shared by the heads of a group.
Problem state_space_duality(const Shape& s, at::TensorOptions options) {
  const int64_t size = 64, states = 128;
  SsdArguments in;
  in.x = normal({s.batch, s.length, s.width, size}, options);
  in.dt = uniform({s.batch, s.length, s.width}, options).mul(0.1);
  in.A = uniform({s.width}, in_float(options)).add(0.5).neg();
  in.B = normal({s.batch, s.length, 1, states}, options), in.C = normal({s.batch, s.length, 1, states}, options);
  const double token_heads = as_double(s.batch * s.length * s.width);
  const double products = as_double(4 * states * size + ssd_kernel::kTile * size) +
                          as_double(ssd_kernel::kTile * states) / as_double(s.width);
  Problem problem;
  problem.inputs = {in.x, in.dt, in.A, in.B, in.C};
  problem.forward = [in] { return std::get<0>(ssd(in)); };
  problem.forward_work = {.products = products * token_heads};
  problem.backward_work = {.products = 2.5 * products * token_heads};
  const int64_t chunk = s.length % 256 == 0 ? 256 : s.length;
  Rival rival{"libtorch_chunks", [in, chunk] { return rivals::ssd_in_chunks(in, chunk); }};
  // Squares of decays and scores of every chunk, in float32 and the inputs' dtype; autograd keeps them.
  rival.differentiable = token_heads * as_double(chunk) * 4 * 5 < kRoom;
  if (token_heads * as_double(chunk) * 4 * 3 < kRoom) problem.rivals = {rival};
  return problem;
}

// The generating function of S4's kernel: four rows of weights, 32 pairs of poles. Per pole and node two reciprocals
// and some 12 operations, per row of weights 16 more.
Problem s4_kernel(const Shape& s, at::TensorOptions options) {
  const int64_t rows = 4, states = 32, nodes = s.length / 2 + 1;
  const Tensor v = normal({s.width, rows, states, 2}, options);
  // S4's initialisation: real parts -1/2, imaginary parts pi n, times half of a step of 1e-3 to 1e-1.
  const Tensor step = uniform({s.width, 1, 1}, options).mul(4.6).sub(6.9).exp().mul(0.5);
  const Tensor imaginary = at::arange(states, options).mul(3.14159265).expand({s.width, states});
  const Tensor lambda = at::stack({at::ones_like(imaginary).mul(-0.5), imaginary}, -1).mul(step);
  const double pairs = as_double(s.width * states * nodes), m = as_double(rows);
  Problem problem;
  problem.inputs = {v, lambda};
  problem.forward = [=, length = s.length] { return cauchy(v, lambda, length); };
  problem.forward_work = {.flops = (12 + 16 * m) * pairs, .specials = 2 * pairs};
  problem.backward_work = {.flops = (30 + 24 * m) * pairs, .specials = 2 * pairs};
  Rival rival{"libtorch_division", [=, length = s.length] { return rivals::cauchy_by_division(v, lambda, length); }};
  rival.target_forward = 3.0;
  rival.differentiable = pairs * m * 8 * 5 < kRoom;
  if (pairs * 8 * 6 < kRoom) problem.rivals = {rival};
  return problem;
}

// As many keys as queries. Per query, key and feature one tanh, an addition and a multiply-add; per query and key a
// multiply-add for each value and an exponential.
Problem additive(const Shape& s, at::TensorOptions options) {
  const Tensor q = normal({s.batch, s.length, s.width}, options), k = normal({s.batch, s.length, s.width}, options);
  const Tensor v = normal({s.width}, options).mul(0.1), values = normal({s.batch, s.length, s.width}, options);
  const double pairs = as_double(s.batch * s.length) * as_double(s.length), h = as_double(s.width);
  Problem problem;
  problem.inputs = {q, k, v, values};
  problem.forward = [=] { return std::get<0>(additive_attention(q, k, v, values)); };
  problem.forward_work = {.flops = 5 * h * pairs, .specials = (h + 1) * pairs};
  problem.backward_work = {.flops = 13 * h * pairs, .specials = (h + 1) * pairs};
  Rival rival{"libtorch_eager", [=] { return rivals::eager_additive_attention(q, k, v, values); }};
  rival.target_forward = 5.0, rival.target_backward = 5.0;
  rival.differentiable = pairs * h * 2 * 4 < kRoom;
  if (pairs * h * 2 * 2 < kRoom) problem.rivals = {rival};
  return problem;
}

std::vector<Shape> long_shapes(int64_t width) {
  return {{1, 4096, width}, {8, 4096, width}, {1, 16384, width}, {1, 65536, width}};
}

}  // namespace

std::vector<Kernel> kernels() {
  const at::ScalarType bf16 = at::kBFloat16;
  return {{"selective_scan", scan, bf16, long_shapes(2560)},
          {"wkv4", wkv, bf16, long_shapes(2048)},
          {"ssd", state_space_duality, bf16, long_shapes(64)},
          {"additive_attention", additive, bf16, {{1, 1024, 256}, {1, 4096, 256}, {1, 16384, 256}}},
          {"s4_kernel", s4_kernel, at::kFloat, {{1, 4096, 512}, {1, 16384, 512}, {1, 65536, 512}}},
          {"causal_conv1d", convolution, bf16, long_shapes(2560)},
          {"gated_rms_norm", gated_norm, bf16, long_shapes(4096)},
          {"causal_fir", long_convolution, bf16, long_shapes(1024)}};
}

}  // namespace hippodrome::gpu_benchmark

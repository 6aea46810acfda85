#include "architectures/ssm/s4/s4.h"

#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/complex.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/glu.h>
#include <ATen/ops/imag.h>
#include <ATen/ops/real.h>
#include <ATen/ops/view_as_complex.h>
#include <ATen/ops/view_as_real.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "architectures/ssm/diagonal_scan/diagonal_scan.h"
#include "architectures/ssm/dplr_scan/dplr_scan.h"
#include "architectures/ssm/dplr_scan/op.h"
#include "architectures/ssm/every_channel.h"
#include "architectures/ssm/hippo/hippo.h"
#include "architectures/ssm/s4d/convolution.h"
#include "core/tensor/at_least_float32.h"

namespace hippodrome {
namespace s4_detail {
namespace {

// Beyond these many states the eigenvectors of the Legendre systems are too ill-conditioned for float64.
constexpr int64_t kDiagonalStates = 8;
// As the authors: a decay of 0 (LegT, FouT) has no logarithm, and B's imaginary parts are kept within these bounds.
constexpr double kSmallestDecay = 1e-4, kLargestB = 2.0;

Tensor complex_of(const ParameterPtr& parameter) {
  return at::view_as_complex(parameter->value.to(at::kDouble).contiguous());
}

}  // namespace
}  // namespace s4_detail

void S4::Config::bind(Fields& fields) {
  fields.integer("state", state, {2, 1024}, "real states per channel N, an even number: N/2 conjugate pairs");
  fields.choice("init", init, {"legs", "legt", "fout"}, "HiPPO system of the initial matrices");
  fields.number("dt_min", dt_min, {1e-12, 1e3}, "smallest initial step size");
  fields.number("dt_max", dt_max, {1e-12, 1e3}, "largest initial step size");
  fields.choice("output", output, {"glu", "none"}, "after the GELU: a linear layer with a gate, or nothing");
  fields.number("learning_rate_scale", learning_rate_scale, {0.0, 1e3}, "of the step sizes, A = Λ - PP* and B");
  fields.choice(
      "kernel", kernel, {"woodbury", "convolution", "diagonal", "reference"},
      "woodbury: the recurrence in O(N) a step; convolution: Cauchy kernel and FFT over whole plain sequences, "
      "else woodbury; diagonal: the recurrence diagonalised, float64, for few states or fout; reference: plain "
      "loops");
}

absl::Status S4::check(const Config& config, const Site& site) {
  if (config.state % 2 != 0) {
    return absl::InvalidArgumentError("state = " + std::to_string(config.state) +
                                      " must be even: it counts conjugate pairs");
  }
  if (config.dt_min > config.dt_max) return absl::InvalidArgumentError("dt_min must not exceed dt_max");
  if (config.kernel == "diagonal" && config.init != "fout" && config.state > s4_detail::kDiagonalStates) {
    return absl::InvalidArgumentError("kernel = \"diagonal\" needs init = \"fout\" or at most " +
                                      std::to_string(s4_detail::kDiagonalStates) + " states: the eigenvectors of \"" +
                                      config.init + "\" are ill-conditioned beyond");
  }
  if (config.output == "none" && site.width != site.output_width) {
    return absl::InvalidArgumentError("output = \"none\" keeps the width; here it would have to change from " +
                                      std::to_string(site.width) + " to " + std::to_string(site.output_width));
  }
  return absl::OkStatus();
}

S4::S4(const Config& config, const Site& site)
    : config_(config), width_(site.width), pairs_(config.state / 2), rank_(config.init == "legt" ? 2 : 1) {
  const ParameterFacts dynamics{
      .weight_decay = false, .learning_rate_scale = config.learning_rate_scale, .keep_float32 = true};
  // Computed when the parameters are drawn, so that a layer on the meta device costs no eigen-solve.
  const auto start = [config] { return normal_plus_low_rank(hippo(config.init, config.state)); };
  log_dt_ = parameters_.add("log_dt", {width_}, initialise::uniform(std::log(config.dt_min), std::log(config.dt_max)),
                            dynamics);
  log_decay_ = parameters_.add(
      "log_decay", {width_, pairs_},
      for_every_channel([start] { return start().decay.clamp_min(s4_detail::kSmallestDecay).log(); }), dynamics);
  frequency_ = parameters_.add("frequency", {width_, pairs_}, for_every_channel([start] { return start().frequency; }),
                               dynamics);
  P_ = parameters_.add("P", {width_, rank_, pairs_, 2},
                       for_every_channel([start] { return at::view_as_real(start().P); }), dynamics);
  B_ = parameters_.add("B", {width_, pairs_, 2}, for_every_channel([start] {
                         const Tensor B = at::view_as_real(start().B).clone();
                         B.select(-1, 1).clamp_(-s4_detail::kLargestB, s4_detail::kLargestB);
                         return B;
                       }),
                       dynamics);
  // Complex N(0, 1): half the variance in each part.
  C_ = parameters_.add("C", {width_, pairs_, 2}, initialise::normal(std::sqrt(0.5)), {.keep_float32 = true});
  D_ = parameters_.add("D", {width_}, initialise::normal(1.0), {.keep_float32 = true});
  if (config.output == "glu") {
    output_.emplace(width_, 2 * site.output_width, Linear::Options{.bias = true});
    parameters_.adopt("output", output_->parameters());
  }
}

State S4::initial_state(const StateSpec& spec) const {
  State state;
  state.declare("ssm", StateKind::kPerRow, at::zeros({spec.rows, width_, pairs_, 2}, spec.recurrent()));
  return state;
}

Tensor S4::forward(const Tensor& x, const Context& context, State* state) {
  const bool whole = state == nullptr && !context.ragged;
  const Tensor y = config_.kernel == "convolution" && whole ? convolve(x) : recur(x, context, state);
  const Tensor activated = at::gelu(y.addcmul(x, D_->value.to(x.scalar_type())));
  return output_ ? at::glu(output_->forward(activated), -1) : activated;
}

std::vector<Tensor> S4::sources() const {
  return {log_dt_->value, log_decay_->value, frequency_->value, P_->value, B_->value, C_->value};
}

DplrSystem S4::system() const {
  const Tensor decay = log_decay_->value.to(at::kDouble).exp().neg();
  return {log_dt_->value.to(at::kDouble).exp(), at::complex(decay, frequency_->value.to(at::kDouble)),
          s4_detail::complex_of(B_), s4_detail::complex_of(C_), s4_detail::complex_of(P_)};
}

// y_t = Σ_{s ≤ t} K_{t-s} x_s: for whole sequences, which start from a zero state and leave none.
Tensor S4::convolve(const Tensor& x) const {
  const auto wide = at_least_float32(x.scalar_type());
  return fft_convolution(x.to(wide), dplr_kernel(system(), x.size(1)).to(wide)).to(x.scalar_type());
}

Tensor S4::recur(const Tensor& x, const Context& context, State* state) {
  if (config_.kernel == "diagonal") return recur_diagonally(x, context, state);
  const auto dtype = at_least_float32(x.scalar_type());
  const Woodbury r = woodbury_.get(sources(), dtype, [&] {
    const auto pairs = [&](const Tensor& t) { return at::view_as_real(t.resolve_conj()).to(dtype); };
    const DplrRecurrence discrete = bilinear(system());
    return Woodbury{pairs(discrete.a), pairs(discrete.b), pairs(discrete.c), pairs(discrete.q), pairs(discrete.w)};
  });
  const auto [y, last_state] =
      dplr_scan(x.transpose(1, 2), r.a, r.b, r.c, r.q, r.w, state ? OptionalTensor(state->get("ssm")) : std::nullopt,
                context.op_positions(), /*reference=*/config_.kernel == "reference");
  if (state) state->put("ssm", last_state);
  return y.transpose(1, 2);
}

// The state is kept in the coordinates of the other kernels: eigenvectors are determined up to a factor only, so what
// one call leaves in theirs would mean nothing to the gradients of the next.
Tensor S4::recur_diagonally(const Tensor& x, const Context& context, State* state) {
  const DiagonalRecurrence r = diagonal_.get(sources(), at::kDouble, [&] { return diagonalised(bilinear(system())); });
  OptionalTensor modes;
  if (state) {
    const Tensor before = at::view_as_complex(state->get("ssm").to(at::kDouble)).permute({1, 2, 0});  // [D, N/2, B]
    modes = at::view_as_real(at::bmm(r.from_state, at::cat({before, before.conj()}, 1)).permute({2, 0, 1}));
  }
  const auto [y, last_modes] =
      diagonal_scan(x.to(at::kDouble).transpose(1, 2), at::real(r.a), at::imag(r.a), at::real(r.b), at::imag(r.b),
                    at::real(r.c), at::imag(r.c), modes, context.op_positions());
  if (state) {
    const Tensor after = at::bmm(r.to_state, at::view_as_complex(last_modes).permute({1, 2, 0}));
    state->put("ssm", at::view_as_real(after.permute({2, 0, 1}).contiguous()));
  }
  return y.transpose(1, 2).to(x.scalar_type());
}

Traits S4::traits() const {
  return {.causal = true,
          .packs = true,
          .state_growth = StateGrowth::kConstant,
          .kernel_class = config_.kernel == "reference" ? KernelClass::kReference : KernelClass::kFused,
          .reads_on_host = config_.kernel == "diagonal"};  // the eigen-solve
}

Cost S4::cost(const Workload& workload) const {
  const int64_t tokens = workload.rows * workload.length;
  const auto t = static_cast<double>(tokens);
  // The Woodbury recurrence's plain loops per token and channel: 14 products and sums a pair as in S4D, eight more for
  // each rank (read out and fed back), and the doubling of the sums.
  const auto recurrence = static_cast<double>((14 + 8 * rank_) * pairs_ + 1 + rank_);
  Cost cost;
  cost.flops = t * static_cast<double>(width_) * recurrence + (output_ ? output_->flops(t) : 0.0);
  const bool diagonal = config_.kernel == "diagonal", convolution = config_.kernel == "convolution";
  const int64_t state_element = std::max<int64_t>(4, workload.element_size);  // float32 or wider
  const int64_t row_bytes = width_ * 2 * pairs_ * state_element;
  cost.state_bytes = workload.rows * row_bytes;
  const int64_t out = output_ ? output_->out() : 0;
  // The spectra of input and output are twice as long as the sequence.
  const int64_t elements = tokens * ((convolution ? 16 : 8) * width_ + 3 * out);
  cost.bytes_moved =
      static_cast<double>((elements + parameters_.count()) * workload.element_size + 2 * cost.state_bytes);
  // x, the GELU's input and output, the gate's input; the convolution keeps the input's spectrum, the scan a state
  // every 32 tokens, the diagonal one twice as many modes every 64, in float64.
  const int64_t checkpoint_bytes =
      diagonal ? (workload.length + 63) / 64 * width_ * 4 * pairs_ * 8 : dplr_scan_chunks(workload.length) * row_bytes;
  cost.saved_bytes = tokens * (3 * width_ + out) * workload.element_size;
  cost.saved_bytes += convolution ? tokens * 2 * width_ * state_element : workload.rows * checkpoint_bytes;
  return cost;
}

}  // namespace hippodrome

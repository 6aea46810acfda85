#include "architectures/ssm/lssl/lssl.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/linalg_inv_ex.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <tuple>

#include "architectures/ssm/s4d/convolution.h"
#include "core/tensor/at_least_float32.h"

namespace hippodrome {
namespace lssl_detail {
namespace {

// A = -diag(left) (T⁻¹ + diag(shift)) diag(right) and B = left∘input with T tridiagonal (equation 4 of the paper, signs
// as in the authors' code): the parts that make the HiPPO system, n < N.
struct TridiagonalParts {
  std::function<double(int64_t n)> lower, diagonal, upper, scale, shift, input;
};
TridiagonalParts tridiagonal_parts(const std::string& name, int64_t states) {
  const auto constant = [](double value) { return [value](int64_t) { return value; }; };
  const auto norm = [](int64_t n) { return std::sqrt(static_cast<double>(2 * n + 1)); };
  if (name == "legs") {  // T⁻¹ is the lower triangle of ones
    return {constant(-1.0),
            constant(1.0),
            constant(0.0),
            norm,
            [](int64_t n) { return -static_cast<double>(n) / static_cast<double>(2 * n + 1); },
            constant(1.0)};
  }
  // T⁻¹ has ones, of alternating signs above the diagonal; halved, as A and B are.
  return {constant(-1.0), [states](int64_t n) { return n == 0 || n == states - 1 ? 1.0 : 0.0; },
          constant(1.0),  norm,
          constant(0.0),  constant(0.5)};
}

}  // namespace
}  // namespace lssl_detail

void Lssl::Config::bind(Fields& fields) {
  fields.integer("state", state, {2, 1024}, "states per feature N");
  fields.integer("channels", channels, {1, 64}, "outputs of each feature's system M, mixed by the linear layer");
  fields.choice("init", init, {"legs", "legt"}, "HiPPO system of the (initial) matrices");
  fields.choice("transition", transition, {"fixed", "shared", "per_feature"},
                "A and B: kept, trained as one for all features, or trained for each");
  fields.choice("form", form, {"dense", "tridiagonal"},
                "how A is trained: every element, or scaled inverse of a tridiagonal matrix");
  fields.flag("train_dt", train_dt, "whether step sizes are trained");
  fields.number("dt_min", dt_min, {1e-12, 1e3}, "smallest initial step size");
  fields.number("dt_max", dt_max, {1e-12, 1e3}, "largest initial step size");
  fields.number("learning_rate_scale", learning_rate_scale, {0.0, 1e3}, "of A and B");
  fields.number("dt_learning_rate_scale", dt_learning_rate_scale, {0.0, 1e3}, "of the step sizes");
  fields.choice("kernel", kernel, {"convolution", "reference"},
                "convolution: by FFT, states by powers of A; reference: token by token");
}

absl::Status Lssl::check(const Config& config, const Site&) {
  if (config.dt_min > config.dt_max) return absl::InvalidArgumentError("dt_min must not exceed dt_max");
  return absl::OkStatus();
}

Lssl::Lssl(const Config& config, const Site& site)
    : config_(config),
      width_(site.width),
      frozen_(config.transition == "fixed" && !config.train_dt),
      output_(site.width * config.channels, site.output_width, Linear::Options{.bias = true}) {
  const int64_t N = config.state;
  const ParameterFacts facts{
      .weight_decay = false, .learning_rate_scale = config.learning_rate_scale, .keep_float32 = true};
  ParameterFacts dt_facts = facts;
  dt_facts.learning_rate_scale = config.train_dt ? config.dt_learning_rate_scale : 0.0;
  log_dt_ = parameters_.add("log_dt", {width_}, initialise::uniform(std::log(config.dt_min), std::log(config.dt_max)),
                            dt_facts);
  const auto add = [&](const std::string& name, std::vector<int64_t> shape, Initialiser initialiser) {
    if (config.transition == "per_feature") shape.insert(shape.begin(), width_);
    dynamics_.push_back(parameters_.add(name, std::move(shape), std::move(initialiser), facts));
  };
  if (config.transition != "fixed" && config.form == "dense") {
    const auto initial = [config](Tensor HippoSystem::*part) {
      return [config, part](Tensor& value, RandomStream) {
        value.copy_((hippo(config.init, config.state).*part).expand_as(value));
      };
    };
    add("A", {N, N}, initial(&HippoSystem::A));
    add("B", {N}, initial(&HippoSystem::B));
  } else if (config.transition != "fixed") {
    const auto parts = lssl_detail::tridiagonal_parts(config.init, N);
    const auto of_row = [](std::function<double(int64_t)> f, int64_t count) {
      return initialise::from_index([f = std::move(f), count](int64_t index) { return f(index % count); });
    };
    add("lower", {N - 1}, of_row(parts.lower, N - 1));
    add("diagonal", {N}, of_row(parts.diagonal, N));
    add("upper", {N - 1}, of_row(parts.upper, N - 1));
    add("left", {N}, of_row(parts.scale, N));
    add("right", {N}, of_row(parts.scale, N));
    add("shift", {N}, of_row(parts.shift, N));
    add("input", {N}, of_row(parts.input, N));
  }
  C_ = parameters_.add("C", {width_, config.channels, N}, initialise::normal(1.0), {.keep_float32 = true});
  D_ = parameters_.add("D", {width_, config.channels}, initialise::normal(1.0), {.keep_float32 = true});
  parameters_.adopt("output", output_.parameters());
}

State Lssl::initial_state(const StateSpec& spec) const {
  State state;
  state.declare("ssm", StateKind::kPerRow, at::zeros({spec.rows, width_, config_.state}, spec.recurrent()));
  return state;
}

Tensor Lssl::forward(const Tensor& x, const Context&, State* state) {
  const Tensor u = x.to(at_least_float32(x.scalar_type()));
  const bool steps = config_.kernel == "reference" || u.size(1) == 1;
  const Tensor v = steps ? step_by_step(u, state) : convolve(u, state);
  const Tensor y = v.addcmul(u.unsqueeze(-1), D_->value.to(u.scalar_type()));
  return output_.forward(at::gelu(y).flatten(2).to(x.scalar_type()));
}

std::vector<Tensor> Lssl::sources() const {
  std::vector<Tensor> values = {log_dt_->value};
  for (const ParameterPtr& parameter : dynamics_) values.push_back(parameter->value);
  return values;
}

DiscreteMatrices Lssl::discrete() {
  const Tensor log_dt = log_dt_->value.to(at::kDouble);
  const Tensor dt = (config_.train_dt ? log_dt : log_dt.detach()).exp();
  if (dynamics_.empty()) {
    if (!fixed_.A.defined() || fixed_.A.device() != dt.device()) {  // once: copies from the host wait for the GPU
      const HippoSystem system = hippo(config_.init, config_.state);
      fixed_ = {system.A.to(dt.device()), system.B.to(dt.device()), Tensor()};
    }
    return generalised_bilinear(fixed_.A, fixed_.B, dt);
  }
  const auto value = [&](size_t i) { return dynamics_[i]->value.to(at::kDouble); };
  if (config_.form == "dense") return generalised_bilinear(value(0), value(1), dt);
  const Tensor tridiagonal = value(0).diag_embed(-1).add(value(1).diag_embed()).add(value(2).diag_embed(1));
  const Tensor inner = std::get<0>(at::linalg_inv_ex(tridiagonal)).add(value(5).diag_embed());
  return generalised_bilinear(inner.mul(value(3).unsqueeze(-1)).mul(value(4).unsqueeze(-2)).neg(),
                              value(3).mul(value(6)), dt);
}

std::shared_ptr<DenseSystem> Lssl::system() {
  std::optional<at::NoGradGuard> kept;  // what is not trained is discretised once
  if (frozen_) kept.emplace();
  return system_.get(sources(), at::kDouble, [&] {
    const DiscreteMatrices matrices = discrete();
    return std::make_shared<DenseSystem>(matrices.A, matrices.B);
  });
}

// v_t = Σ_{s ≤ t} K_{t-s} u_s + C Ā^(t+1) x_0, [B, L, D, M], and the state behind the last token.
Tensor Lssl::convolve(const Tensor& u, State* state) {
  const std::shared_ptr<DenseSystem> dense = system();
  const Tensor C = C_->value.to(at::kDouble);
  Tensor v = fft_convolution(u, dense->kernel(C, u.size(1)).to(u.scalar_type()));
  if (!state) return v;
  const Tensor before = state->get("ssm").to(u.scalar_type());
  v = v.add(dense->response(C, before, u.size(1)));
  state->put("ssm", dense->last_state(u, before));
  return v;
}

Tensor Lssl::step_by_step(const Tensor& u, State* state) {
  const auto dtype = u.scalar_type();
  std::vector<Tensor> read = sources();
  read.push_back(C_->value);
  const Step step = step_.get(read, dtype, [&] {
    const std::shared_ptr<DenseSystem> dense = system();
    return Step{dense->A().to(dtype), dense->B().to(dtype), C_->value.to(dtype)};
  });
  // [D, N, B]
  Tensor x = state ? state->get("ssm").to(dtype).permute({1, 2, 0})
                   : at::zeros({width_, config_.state, u.size(0)}, u.options());
  std::vector<Tensor> outputs;
  for (int64_t t = 0; t < u.size(1); ++t) {
    x = at::bmm(step.A, x).add(step.B.unsqueeze(-1).mul(u.select(1, t).t().unsqueeze(1)));
    outputs.push_back(at::bmm(step.C, x).permute({2, 0, 1}));
  }
  if (state) state->put("ssm", x.permute({2, 0, 1}).contiguous());
  return at::stack(outputs, 1);
}

Traits Lssl::traits() const {
  return {.causal = true,
          .packs = false,
          .state_growth = StateGrowth::kConstant,
          .kernel_class = config_.kernel == "reference" ? KernelClass::kReference : KernelClass::kLibrary};
}

Cost Lssl::cost(const Workload& workload) const {
  const int64_t tokens = workload.rows * workload.length, N = config_.state, M = config_.channels;
  const auto t = static_cast<double>(tokens);
  Cost cost;
  // Token by token: Ā x and C x.
  cost.flops = t * static_cast<double>(width_ * (2 * N * N + 2 * M * N)) + output_.flops(t);
  const int64_t element = std::max<int64_t>(4, workload.element_size);  // float32 or wider
  cost.state_bytes = workload.rows * width_ * N * element;
  // The spectra of input and outputs are twice as long as the sequence.
  const int64_t elements = tokens * ((6 + 6 * M) * width_ + output_.out());
  cost.bytes_moved =
      static_cast<double>((elements + parameters_.count()) * workload.element_size + 2 * cost.state_bytes);
  // x and its spectrum, the GELU's input and output.
  cost.saved_bytes = tokens * (3 * width_ + 2 * M * width_) * element;
  return cost;
}

}  // namespace hippodrome

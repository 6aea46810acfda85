#include "architectures/ssm/lssl/lssl.h"

#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/tensor/memory_meter.h"
#include "tests/architectures/made_layer.h"

namespace hippodrome::lssl_layer_test {
namespace {

DenseSystem system_of(const std::string& name, int64_t states, const Tensor& dt) {
  const HippoSystem continuous = hippo(name, states);
  const DiscreteMatrices discrete = generalised_bilinear(continuous.A, continuous.B, dt);
  return DenseSystem(discrete.A, discrete.B);
}

// Outputs and last state, one token at a time.
std::pair<Tensor, Tensor> plain(const DenseSystem& system, const Tensor& C, const Tensor& u, Tensor x) {
  std::vector<Tensor> outputs;
  for (int64_t t = 0; t < u.size(1); ++t) {
    x = system.A().matmul(x.unsqueeze(-1)).squeeze(-1).add(system.B().mul(u.select(1, t).unsqueeze(-1)));
    outputs.push_back(C.mul(x.unsqueeze(2)).sum(-1).unsqueeze(1));
  }
  return {at::cat(outputs, 1), x};
}

// Kernel, the state's part of the outputs and the last state, at lengths around the blocks' edges.
TEST(LsslSystem, BlockedPowersEqualThePlainRecurrence) {
  const Tensor dt = at::tensor({1e-3, 1e-2, 1e-1}, at::kDouble);
  for (const char* name : {"legs", "legt"}) {
    for (const int64_t length : {1, 2, 3, 4, 5, 15, 16, 17, 63, 100}) {
      DenseSystem system = system_of(name, 6, dt);
      const Tensor C = drawn({3, 2, 6}, 1), state = drawn({2, 3, 6}, 2), u = drawn({2, length, 3}, 3);
      Tensor impulse = at::zeros({1, length, 3}, at::kDouble);
      impulse.select(1, 0).fill_(1.0);
      const Tensor kernel = plain(system, C, impulse, at::zeros({1, 3, 6}, at::kDouble)).first[0].permute({1, 2, 0});
      EXPECT_LT(farthest(system.kernel(C, length), kernel), 1e-13) << name << length;
      const Tensor silent = plain(system, C, u.mul(0.0), state).first;
      EXPECT_LT(farthest(system.response(C, state, length), silent), 1e-12) << name << length;
      EXPECT_LT(farthest(system.last_state(u, state), plain(system, C, u, state).second), 1e-12) << name << length;
    }
  }
}

// The kernel of 8 channels, 32 states and 16,384 tokens takes a small part of the Krylov tensor's 32 MiB.
TEST(LsslSystem, HoldsNoKrylovTensor) {
  const at::NoGradGuard no_grad;
  memory_meter::install();
  DenseSystem system = system_of("legs", 32, at::full({8}, 0.01, at::kDouble));
  const Tensor C = drawn({8, 1, 32}, 1);
  const int64_t before = memory_meter::current_bytes();
  memory_meter::reset_peak();
  const Tensor kernel = system.kernel(C, 16384);
  EXPECT_LT(memory_meter::peak_bytes() - before, int64_t{8} * 32 * 16384 * 8 / 8);
  EXPECT_EQ(kernel.size(2), 16384);
}

Lssl::Config small(const std::string& kernel, const std::string& transition = "fixed",
                   const std::string& form = "dense") {
  Lssl::Config config;
  config.state = 6;
  config.channels = 2;
  config.kernel = kernel;
  config.transition = transition;
  config.form = form;
  config.train_dt = transition != "fixed";
  return config;
}

// HiPPO's matrices are made on the CPU; nothing of it may meet tensors elsewhere. Meta tensors stand for a GPU's.
TEST(LsslLayer, RunsWhereItsParametersAre) {
  for (const char* transition : {"fixed", "shared", "per_feature"}) {
    Lssl layer(small("reference", transition), site_of(5));
    layer.parameters().materialise(7, at::TensorOptions().device(at::kMeta));
    const Tensor x = at::empty({2, 9, 5}, at::TensorOptions().device(at::kMeta));
    State state = fresh_state(layer, x);
    EXPECT_EQ(layer.forward(x, Context::plain(2, 9, 0, at::kMeta), &state).sizes(), x.sizes()) << transition;
  }
}

TEST(LsslLayer, ConvolutionEqualsTheRecurrence) {
  for (const char* transition : {"fixed", "shared", "per_feature"}) {
    for (const char* form : {"dense", "tridiagonal"}) {
      std::vector<Tensor> results;
      for (const char* kernel : {"convolution", "reference"}) {
        Made<Lssl> layer(small(kernel, transition, form), site_of(5));
        layer->parameters().set_requires_grad(true);
        const Tensor x = drawn({2, 19, 5}, 1).requires_grad_();
        State state = fresh_state(*layer, x);
        state.put("ssm", drawn({2, 5, 6}, 3));
        const Tensor y = layer->forward(x, Context::plain(2, 19, 4, x.device()), &state);
        y.mul(drawn({2, 19, 5}, 2)).sum().add(state.get("ssm").square().sum()).backward();
        std::vector<Tensor> parts = {y.detach().flatten(), x.grad().flatten()};
        for (const ParameterPtr& parameter : layer->parameters().list()) {
          const bool frozen = parameter->facts.learning_rate_scale == 0.0;
          EXPECT_NE(parameter->value.grad().defined(), frozen) << parameter->name;
          if (!frozen) parts.push_back(parameter->value.grad().flatten());
        }
        results.push_back(at::cat(parts));
      }
      EXPECT_LT(farthest(results[0], results[1]), 1e-11 * results[1].abs().max().item().toDouble())
          << transition << form;
    }
  }
}

TEST(LsslLayer, FormsOfTheMatrixStartFromTheSameSystem) {
  const at::NoGradGuard inference;
  for (const char* init : {"legs", "legt"}) {
    const Tensor x = drawn({1, 12, 5}, 1);
    std::vector<Tensor> outputs;
    for (const char* transition : {"fixed", "shared", "per_feature"}) {
      for (const char* form : {"dense", "tridiagonal"}) {
        Lssl::Config config = small("convolution", transition, form);
        config.init = init;
        Made<Lssl> layer(config, site_of(5));
        outputs.push_back(layer->forward(x, Context::plain(1, 12, 0, x.device()), nullptr));
      }
    }
    for (const Tensor& y : outputs) EXPECT_LT(farthest(y, outputs[0]), 1e-10) << init;
  }
}

TEST(LsslLayer, PiecesEqualTheWholeAndTheStateIsAsDeclared) {
  for (const bool gradients : {false, true}) {
    const at::AutoGradMode mode(gradients);
    Made<Lssl> layer(small("convolution"), site_of(5));
    const Tensor x = drawn({2, 9, 5}, 1);
    const Tensor whole = layer->forward(x, Context::plain(2, 9, 0, x.device()), nullptr);
    State state = fresh_state(*layer, x);
    EXPECT_LT(farthest(in_pieces(*layer, x, {3, 1, 4, 1}, state), whole), 1e-12);
    EXPECT_EQ(state.bytes(), layer->cost({.rows = 2, .length = 1, .context = 8, .element_size = 8}).state_bytes);
  }
}

// What is kept between calls follows the parameters, also of a frozen system while others are trained.
TEST(LsslLayer, KeptSystemsFollowTheParameters) {
  for (const bool gradients : {false, true}) {
    const at::AutoGradMode mode(gradients);
    Made<Lssl> layer(small("convolution"), site_of(5)), fresh(small("convolution"), site_of(5));
    const Tensor x = drawn({1, 7, 5}, 1);
    const Context context = Context::plain(1, 7, 0, x.device());
    const Tensor before = layer->forward(x, context, nullptr);
    layer.value("log_dt").add_(1.0);
    fresh.value("log_dt").add_(1.0);
    EXPECT_LT(farthest(layer->forward(x, context, nullptr), fresh->forward(x, context, nullptr)), 1e-15);
    EXPECT_GT(farthest(layer->forward(x, context, nullptr), before), 1e-3);
  }
}

TEST(LsslLayer, CountsAndInitialValues) {
  Lssl::Config config;
  config.channels = 2;
  const int64_t ordinary = 32 + 32 * 2 * 64 + 32 * 2 + 32 * 2 * 32 + 32;  // log Δ, C, D, mixing
  EXPECT_EQ(Made<Lssl>(config, site_of(32))->parameters().count(), ordinary);
  config.transition = "shared";
  EXPECT_EQ(Made<Lssl>(config, site_of(32))->parameters().count(), ordinary + 64 * 64 + 64);
  config.form = "tridiagonal";
  EXPECT_EQ(Made<Lssl>(config, site_of(32))->parameters().count(), ordinary + 7 * 64 - 2);
  config.transition = "per_feature";
  Made<Lssl> layer(config, site_of(32));
  EXPECT_EQ(layer->parameters().count(), ordinary + 32 * (7 * 64 - 2));
  EXPECT_NEAR(layer.value("C").square().mean().item().toDouble(), 1.0, 0.1);
  EXPECT_EQ(layer->parameters().find("lower")->facts.learning_rate_scale, 0.1);
  EXPECT_FALSE(layer->parameters().find("lower")->facts.weight_decay);
  EXPECT_EQ(layer->parameters().find("log_dt")->facts.learning_rate_scale, 0.0);  // kept
}

}  // namespace
}  // namespace hippodrome::lssl_layer_test

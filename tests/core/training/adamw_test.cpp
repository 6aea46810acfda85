#include "core/training/adamw.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>

#include <cmath>

namespace hippodrome::adamw_test {
namespace {

using testing::HasSubstr;

// One element after another, in double: Loshchilov & Hutter 2019, algorithm 2, with Adam's bias corrections.
struct PlainAdamW {
  double beta1, beta2, epsilon, decay;
  std::vector<double> value, first, second;
  int64_t step = 0;

  void update(const std::vector<double>& gradient, double rate) {
    ++step;
    for (size_t i = 0; i < value.size(); ++i) {
      first[i] = beta1 * first[i] + (1.0 - beta1) * gradient[i];
      second[i] = beta2 * second[i] + (1.0 - beta2) * gradient[i] * gradient[i];
      const double m = first[i] / (1.0 - std::pow(beta1, static_cast<double>(step)));
      const double v = second[i] / (1.0 - std::pow(beta2, static_cast<double>(step)));
      value[i] -= rate * (m / (std::sqrt(v) + epsilon) + decay * value[i]);
    }
  }
};

Tensor random(std::vector<int64_t> sizes, const std::string& name, at::ScalarType dtype, double scale = 1.0) {
  Tensor value = at::empty(sizes, at::kDouble);
  initialise::normal(scale)(value, RandomStream(1, name));
  return value.to(dtype);
}

std::vector<double> numbers(const Tensor& tensor) {
  const Tensor wide = tensor.detach().to(at::kDouble).contiguous();
  const double* data = wide.const_data_ptr<double>();
  return {data, data + wide.numel()};
}

// Three groups: plain, without decay, with a rate of its own.
Parameters example(at::ScalarType dtype) {
  Parameters parameters;
  parameters.add("plain", {5, 4}, initialise::normal(1.0));
  parameters.add("bias", {7}, initialise::normal(1.0), {.weight_decay = false});
  parameters.add("slow", {3}, initialise::normal(1.0), {.learning_rate_scale = 0.1});
  parameters.materialise(1, dtype);
  parameters.set_requires_grad(true);
  return parameters;
}

void set_gradient(const ParameterPtr& parameter, const Tensor& gradient) { parameter->value.mutable_grad() = gradient.clone(); }

class AdamWSteps : public testing::TestWithParam<std::tuple<at::ScalarType, double>> {};

TEST_P(AdamWSteps, EqualAPlainLoopInDouble) {
  const auto [dtype, clip] = GetParam();
  const AdamW::Options options{.beta1 = 0.8, .beta2 = 0.97, .epsilon = 1e-6, .weight_decay = 0.3};
  Parameters parameters = example(dtype);
  AdamW optimiser(parameters, options);
  std::vector<PlainAdamW> plain;
  for (const ParameterPtr& parameter : parameters.list()) {
    const std::vector<double> value = numbers(parameter->value), zeros(value.size(), 0.0);
    plain.push_back({0.8, 0.97, 1e-6, parameter->facts.weight_decay ? 0.3 : 0.0, value, zeros, zeros});
  }
  for (int step = 0; step < 12; ++step) {
    const double rate = 0.01 * (step + 1);
    double square = 0.0;
    std::vector<std::vector<double>> gradients;
    for (const ParameterPtr& parameter : parameters.list()) {
      const Tensor gradient = random(parameter->value.sizes().vec(), parameter->name + std::to_string(step), dtype, step % 3 == 0 ? 0.05 : 2.0);
      set_gradient(parameter, gradient);
      gradients.push_back(numbers(gradient));
      for (const double g : gradients.back()) square += g * g;
    }
    const double norm = optimiser.step(rate, clip);
    EXPECT_NEAR(norm, std::sqrt(square), 1e-5 * std::sqrt(square)) << "the norm before clipping";
    const double scale = clip > 0.0 && std::sqrt(square) > clip ? clip / std::sqrt(square) : 1.0;
    for (size_t i = 0; i < plain.size(); ++i) {
      for (double& g : gradients[i]) g *= scale;
      plain[i].update(gradients[i], rate * parameters.list()[i]->facts.learning_rate_scale);
      const std::vector<double> actual = numbers(parameters.list()[i]->value);
      for (size_t j = 0; j < actual.size(); ++j) {
        EXPECT_NEAR(actual[j], plain[i].value[j], dtype == at::kDouble ? 1e-9 : 5e-6) << parameters.list()[i]->name << " step " << step;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Dtypes, AdamWSteps,
                         testing::Combine(testing::Values(at::kFloat, at::kDouble), testing::Values(0.0, 1.0)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param) == at::kFloat ? "float32" : "float64") +
                                  (std::get<1>(info.param) > 0.0 ? "_clipped" : "_free");
                         });

TEST(AdamW, LeavesParametersWithoutAGradientAlone) {
  Parameters parameters = example(at::kFloat);
  AdamW optimiser(parameters, {});
  EXPECT_EQ(optimiser.step(0.1, 1.0), 0.0);
  const Tensor before = parameters.find("bias")->value.detach().clone();
  set_gradient(parameters.find("plain"), at::ones({5, 4}));
  optimiser.step(0.1, 0.0);
  EXPECT_TRUE(at::equal(parameters.find("bias")->value.detach(), before));
  EXPECT_EQ(optimiser.tensors().at("bias.step").item().toDouble(), 0.0);
  EXPECT_EQ(optimiser.tensors().at("plain.step").item().toDouble(), 1.0);
}

TEST(AdamW, ClearsGradientsAndKeepsParametersLeaves) {
  Parameters parameters = example(at::kFloat);
  AdamW optimiser(parameters, {});
  const void* address = parameters.find("plain")->value.const_data_ptr();
  parameters.find("plain")->value.square().sum().backward();
  optimiser.step(0.1, 0.0);
  EXPECT_FALSE(parameters.find("plain")->value.grad().defined());
  EXPECT_TRUE(parameters.find("plain")->value.is_leaf());
  EXPECT_TRUE(parameters.find("plain")->value.requires_grad());
  EXPECT_EQ(parameters.find("plain")->value.const_data_ptr(), address);
}

TEST(AdamW, ClipsByTheNormOfAllGradientsTogether) {
  Parameters parameters = example(at::kFloat);
  AdamW optimiser(parameters, {.weight_decay = 0.0});
  set_gradient(parameters.find("plain"), at::ones({5, 4}).mul(3.0));
  set_gradient(parameters.find("bias"), at::ones({7}).mul(4.0));
  EXPECT_NEAR(optimiser.step(0.1, 2.0), std::sqrt(20 * 9 + 7 * 16), 1e-4);
  // The first moment is (1 − β₁) times the clipped gradient.
  EXPECT_NEAR(optimiser.tensors().at("bias.first_moment")[0].item().toDouble(), 0.1 * 4.0 * 2.0 / std::sqrt(20 * 9 + 7 * 16), 1e-6);
}

TEST(AdamW, ContinuesFromItsTensors) {
  Parameters one = example(at::kFloat), other = example(at::kFloat);
  AdamW first(one, {});
  const auto step = [](Parameters& parameters, AdamW& optimiser, int number) {
    for (const ParameterPtr& parameter : parameters.list()) {
      set_gradient(parameter, random(parameter->value.sizes().vec(), parameter->name + std::to_string(number), at::kFloat));
    }
    optimiser.step(0.05, 1.0);
  };
  for (int i = 0; i < 3; ++i) step(one, first, i);
  AdamW second(other, {});
  std::map<std::string, Tensor> saved;
  for (const auto& [name, tensor] : first.tensors()) saved.emplace(name, tensor.clone());
  ASSERT_TRUE(second.restore(saved).ok());
  {
    const at::NoGradGuard no_grad;
    for (const ParameterPtr& parameter : other.list()) parameter->value.copy_(one.find(parameter->name)->value);
  }
  for (int i = 3; i < 6; ++i) {
    step(one, first, i);
    step(other, second, i);
  }
  for (const ParameterPtr& parameter : other.list()) EXPECT_TRUE(at::equal(parameter->value, one.find(parameter->name)->value)) << parameter->name;
  saved.at("slow.second_moment") = at::zeros({4});
  EXPECT_THAT(std::string(second.restore(saved).message()), HasSubstr("\"slow.second_moment\" is missing or has another shape"));
  saved.erase("plain.step");
  EXPECT_THAT(std::string(second.restore(saved).message()), HasSubstr("\"plain.step\" is missing or has another shape"));
}

}  // namespace
}  // namespace hippodrome::adamw_test

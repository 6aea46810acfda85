#include "architectures/ssm/causal_conv1d/causal_conv1d.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv1d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <hwy/targets.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "architectures/ssm/causal_conv1d/op.h"
#include "architectures/ssm/causal_conv1d/reference.h"
#include "tests/architectures/op_checks.h"

namespace hippodrome {
namespace causal_conv1d_test {
namespace {

using at::Tensor;
using MaybeTensor = std::optional<Tensor>;
using op_checks::random_normal;
using op_checks::relative_error;

// Rows of different character: padding before, inside and behind, sequences that continue and that start in the middle.
Tensor uneven_positions(int64_t batch, int64_t time) {
  Tensor positions = at::empty({batch, time}, at::kLong);
  int64_t* p = positions.mutable_data_ptr<int64_t>();
  for (int64_t b = 0; b < batch; ++b) {
    int64_t next = b % 2 == 0 ? 7 : 0;  // even rows continue from the state
    for (int64_t t = 0; t < time; ++t) {
      const bool leading = b % 3 == 1 && t < 2 && time > 2, trailing = b % 3 == 2 && t + 3 >= time && time > 4;
      // Around the border of two work items, whose windows and gradients reach over it.
      const bool border = t >= kCausalConv1dTile - 2 && t < kCausalConv1dTile + b;
      if (t == time / 2 + b || t == kCausalConv1dTile - 5) next = 0;
      p[b * time + t] = leading || trailing || border || t % 11 == 5 + b % 3 ? -1 : next++;
    }
  }
  return positions;
}

struct Problem {
  Tensor x, weight;
  MaybeTensor bias, state, positions;
  std::string activation;
  Tensor grad_y, grad_state;

  Problem(int64_t batch, int64_t channels, int64_t time, int64_t taps, bool with_bias, bool silu, bool with_state,
          bool with_positions, uint64_t seed = 1)
      : activation(silu ? "silu" : "") {
    x = random_normal({batch, time, channels}, seed).transpose(1, 2);
    weight = random_normal({channels, taps}, seed + 1);
    if (with_bias) bias = random_normal({channels}, seed + 2);
    if (with_state) state = random_normal({batch, channels, taps - 1}, seed + 3);
    if (with_positions) positions = uneven_positions(batch, time);
    grad_y = random_normal({batch, time, channels}, seed + 4).transpose(1, 2);
    grad_state = random_normal({batch, channels, taps - 1}, seed + 5);
  }
};

// y, final_state and the gradients of x and weight, then those of bias and state where there are such.
std::vector<Tensor> run(decltype(causal_conv1d)& op, const Problem& problem, at::ScalarType type,
                        bool grad_state = true) {
  const auto leaf = [&](const Tensor& x) { return x.to(type).clone().requires_grad_(true); };
  std::vector<Tensor> inputs = {leaf(problem.x), leaf(problem.weight)};
  MaybeTensor bias, state;
  if (problem.bias) inputs.push_back(*(bias = leaf(*problem.bias)));
  if (problem.state) inputs.push_back(*(state = leaf(*problem.state)));
  const auto out = op(inputs[0], inputs[1], bias, problem.activation, state, problem.positions);
  std::vector<Tensor> outputs = {out.y}, seeds = {problem.grad_y.to(type)};
  if (grad_state) {
    outputs.push_back(out.final_state);
    seeds.push_back(problem.grad_state.to(out.final_state.scalar_type()));
  }
  std::vector<Tensor> result = {out.y.detach(), out.final_state.detach()};
  for (const Tensor& g : torch::autograd::grad(outputs, inputs, seeds)) result.push_back(g);
  return result;
}

class CausalConv1d : public op_checks::EmptyIsNan {};

TEST_F(CausalConv1d, IsLibTorchsConvolutionWithLeftZeros) {
  const int64_t channels = 20, time = 50;
  for (int64_t taps : {1, 2, 3, 4, 7, 16}) {
    const Problem problem(2, channels, time, taps, true, true, false, false, taps);
    const Tensor padded = at::cat({at::zeros({2, channels, taps - 1}, at::kDouble), problem.x}, 2);
    const Tensor expected = at::silu(at::conv1d(padded, problem.weight.unsqueeze(1), problem.bias, at::IntArrayRef{1},
                                                at::IntArrayRef{0}, at::IntArrayRef{1}, channels));
    for (auto* op : {&causal_conv1d, &causal_conv1d_reference}) {
      const auto out = (*op)(problem.x, problem.weight, problem.bias, "silu", {}, {});
      EXPECT_LE(relative_error(out.y, expected), 1e-14) << taps;
      EXPECT_TRUE(out.final_state.equal(problem.x.slice(2, time - taps + 1))) << taps;
    }
  }
}

TEST_F(CausalConv1d, FusedEqualsReference) {
  for (int64_t taps : {1, 2, 3, 4, 6}) {
    for (int64_t time : {int64_t{1}, int64_t{2}, int64_t{3}, taps - 1, taps, int64_t{63}, int64_t{64}, int64_t{65},
                         int64_t{129}, int64_t{257}}) {
      for (int64_t channels : {1, 3, 16, 17, 40}) {
        if (taps != 4 && channels != 3 && channels != 17) continue;
        for (int variant = 0; variant < 16; ++variant) {
          const Problem problem(variant & 1 ? 3 : 1, channels, time, taps, variant & 2, variant & 4, variant & 8,
                                (variant & 8) != 0 ? variant & 1 : variant & 2, 10 * time + channels);
          const auto exact = run(causal_conv1d_reference, problem, at::kDouble);
          const auto fused64 = run(causal_conv1d, problem, at::kDouble);
          const auto fused = run(causal_conv1d, problem, at::kFloat);
          const auto plain = run(causal_conv1d_reference, problem, at::kFloat);
          for (size_t i = 0; i < exact.size(); ++i) {
            SCOPED_TRACE("result " + std::to_string(i) + " K " + std::to_string(taps) + " L " + std::to_string(time) +
                         " D " + std::to_string(channels) + " variant " + std::to_string(variant));
            ASSERT_LE(relative_error(fused64[i], exact[i]), 1e-13);
            // Gradients of the parameters are sums over (b, t) that may cancel, here of as little as one channel.
            const double floor = i < 2 ? 1e-6 : 4e-6;
            ASSERT_LE(relative_error(fused[i], exact[i]),
                      std::max(floor, (i < 2 ? 2 : 3) * relative_error(plain[i], exact[i])));
          }
        }
      }
    }
  }
}

TEST_F(CausalConv1d, WithoutGradientOfTheFinalState) {
  const Problem problem(2, 20, 300, 4, true, true, true, true);
  const auto exact = run(causal_conv1d_reference, problem, at::kDouble, false);
  const auto fused = run(causal_conv1d, problem, at::kDouble, false);
  for (size_t i = 0; i < exact.size(); ++i) EXPECT_LE(relative_error(fused[i], exact[i]), 1e-13) << i;
}

// d loss / d x by central differences, for every element of every input.
TEST_F(CausalConv1d, ReferenceGradientsAgreeWithFiniteDifferences) {
  for (int variant = 0; variant < 4; ++variant) {
    const Problem problem(2, 3, 14, 4, true, variant & 1, true, variant & 2, 100 + variant);
    const auto gradients = run(causal_conv1d_reference, problem, at::kDouble);
    const auto loss = [&](const std::vector<Tensor>& in) {
      const auto out = causal_conv1d_reference(in[0], in[1], in[2], problem.activation, in[3], problem.positions);
      return ((out.y * problem.grad_y).sum() + (out.final_state * problem.grad_state).sum()).item<double>();
    };
    std::vector<Tensor> inputs = {problem.x.contiguous(), problem.weight.clone(), problem.bias->clone(),
                                  problem.state->clone()};
    for (size_t i = 0; i < inputs.size(); ++i) {
      const Tensor differences = op_checks::central_differences(inputs[i], 1e-5, [&] { return loss(inputs); });
      EXPECT_LE(op_checks::farthest(gradients[i + 2], differences), 1e-8) << "input " << i;
    }
  }
}

// Values and gradients through the carried state equal those of the whole, at every cut.
TEST_F(CausalConv1d, SplitAnywhere) {
  const int64_t time = 40;
  for (int variant = 0; variant < 4; ++variant) {
    const Problem problem(2, 17, time, variant & 2 ? 5 : 4, true, true, true, variant & 1, 7);
    for (at::ScalarType type : {at::kDouble, at::kFloat}) {
      const auto whole = run(causal_conv1d, problem, type);
      for (int64_t cut = 0; cut <= time; ++cut) {
        const auto leaf = [&](const Tensor& x) { return x.to(type).clone().requires_grad_(true); };
        const std::vector<Tensor> in = {leaf(problem.x), leaf(problem.weight), leaf(*problem.bias),
                                        leaf(*problem.state)};
        const auto part = [&](int64_t begin, int64_t end, const Tensor& state) {
          MaybeTensor positions;
          if (problem.positions) positions = problem.positions->slice(1, begin, end);
          return causal_conv1d(in[0].slice(2, begin, end), in[1], in[2], "silu", state, positions);
        };
        const auto first = part(0, cut, in[3]);
        const auto second = part(cut, time, first.final_state);
        std::vector<Tensor> got = {at::cat({first.y, second.y}, 2).detach(), second.final_state.detach()};
        EXPECT_TRUE(got[0].equal(whole[0])) << cut;
        EXPECT_TRUE(got[1].equal(whole[1])) << cut;
        for (const Tensor& g :
             torch::autograd::grad({first.y, second.y, second.final_state}, in,
                                   {problem.grad_y.slice(2, 0, cut).to(type),
                                    problem.grad_y.slice(2, cut, time).to(type), problem.grad_state.to(type)})) {
          got.push_back(g);
        }
        for (size_t i = 2; i < got.size(); ++i) {
          EXPECT_LE(relative_error(got[i], whole[i]), type == at::kDouble ? 1e-14 : 1e-6) << i << " cut " << cut;
        }
      }
    }
  }
}

// Padding anywhere, also over a border of work items, as if it were not there.
TEST_F(CausalConv1d, PaddingChangesNothing) {
  const int64_t time = 260, padded_time = 600;
  const Problem problem(1, 19, time, 4, true, true, true, false, 11);
  Problem padded(1, 19, padded_time, 4, true, true, false, false, 12);
  padded.weight = problem.weight;
  padded.bias = problem.bias;
  padded.state = problem.state;
  padded.grad_state = problem.grad_state;
  Tensor positions = at::full({1, padded_time}, -1, at::kLong);
  std::vector<int64_t> places;
  // From 100 tokens before the border of the first two work items almost all is padding.
  for (int64_t t = 0; static_cast<int64_t>(places.size()) < time; t += t > 150 && t < 300 ? 70 : t % 4 == 1 ? 2 : 1) {
    places.push_back(t);
  }
  ASSERT_LT(places.back(), padded_time);
  for (int64_t i = 0; i < time; ++i) {
    positions[0][places[i]] = 40 + i;
    padded.x.select(2, places[i]).copy_(problem.x.select(2, i));
    padded.grad_y.select(2, places[i]).copy_(problem.grad_y.select(2, i));
  }
  padded.positions = positions;
  for (auto* op : {&causal_conv1d, &causal_conv1d_reference}) {
    const auto expected = run(*op, problem, at::kDouble);
    auto got = run(*op, padded, at::kDouble);
    const Tensor real = at::tensor(places, at::kLong), filler = (positions[0] < 0).nonzero().view(-1);
    for (size_t i : {0, 2}) {
      EXPECT_EQ(got[i].index_select(2, filler).abs().max().item<double>(), 0) << i;
      got[i] = got[i].index_select(2, real);
    }
    for (size_t i = 0; i < got.size(); ++i) EXPECT_LE(relative_error(got[i], expected[i]), 1e-14) << i;
  }
}

TEST_F(CausalConv1d, PackedSequencesAreSeparate) {
  const Problem problem(1, 18, 90, 4, true, true, true, false, 13);
  for (int64_t cut : {1, 2, 37, 88, 89}) {
    Tensor positions = at::empty({1, 90}, at::kLong);
    for (int64_t t = 0; t < 90; ++t) positions[0][t] = t < cut ? t + 3 : t - cut;
    const auto packed = causal_conv1d(problem.x, problem.weight, problem.bias, "silu", problem.state, positions);
    const auto first = causal_conv1d(problem.x.slice(2, 0, cut), problem.weight, problem.bias, "silu", problem.state);
    const auto second = causal_conv1d(problem.x.slice(2, cut), problem.weight, problem.bias, "silu");
    EXPECT_TRUE(packed.y.slice(2, 0, cut).equal(first.y)) << cut;
    EXPECT_TRUE(packed.y.slice(2, cut).equal(second.y)) << cut;
    EXPECT_TRUE(packed.final_state.equal(second.final_state)) << cut;
  }
}

TEST_F(CausalConv1d, AllPaddingHandsTheStateOn) {
  const Problem problem(2, 4, 5, 3, false, true, true, false, 14);
  const Tensor positions = at::full({2, 5}, -1, at::kLong);
  for (auto* op : {&causal_conv1d, &causal_conv1d_reference}) {
    const auto out = (*op)(problem.x, problem.weight, {}, "silu", problem.state, positions);
    EXPECT_EQ(out.y.abs().max().item<double>(), 0);
    EXPECT_TRUE(out.final_state.equal(*problem.state));
  }
}

TEST_F(CausalConv1d, EmptySequence) {
  const Problem problem(2, 5, 0, 4, true, true, true, false, 15);
  for (auto* op : {&causal_conv1d, &causal_conv1d_reference}) {
    const auto out = run(*op, problem, at::kDouble);
    EXPECT_EQ(out[0].numel(), 0);
    EXPECT_TRUE(out[1].equal(*problem.state));
    EXPECT_EQ(out[3].abs().max().item<double>(), 0);
    EXPECT_TRUE(out[5].equal(problem.grad_state));
  }
}

TEST_F(CausalConv1d, StridedInputs) {
  const Problem problem(2, 21, 33, 4, true, true, true, false, 16);
  const auto expected = causal_conv1d(problem.x, problem.weight, problem.bias, "silu", problem.state);
  EXPECT_EQ(expected.y.strides(), at::IntArrayRef({33 * 21, 1, 21}));
  const Tensor wide = at::cat({problem.x, problem.x}, 1).transpose(1, 2).contiguous();  // [B, L, 2 D]
  const Tensor columns = wide.slice(2, 21, 42).transpose(1, 2);
  for (const Tensor& x : {problem.x.contiguous(), columns, problem.x.flip({2}).contiguous().flip({2})}) {
    const auto strided = causal_conv1d(x, problem.weight.t().contiguous().t(), problem.bias, "silu",
                                       problem.state->transpose(1, 2).contiguous().transpose(1, 2));
    EXPECT_TRUE(strided.y.equal(expected.y));
    EXPECT_EQ(strided.y.strides(), expected.y.strides());
    EXPECT_TRUE(strided.final_state.equal(expected.final_state));
  }
}

TEST_F(CausalConv1d, SameBitsWhateverTheThreads) {
  const Problem problem(2, 100, 1000, 4, true, true, true, true, 17);
  const int threads = at::get_num_threads();
  std::vector<std::vector<Tensor>> runs;
  for (int count : {1, 2, 2}) {
    at::set_num_threads(count);
    runs.push_back(run(causal_conv1d, problem, at::kFloat));
  }
  at::set_num_threads(threads);
  for (size_t r = 1; r < runs.size(); ++r) {
    for (size_t i = 0; i < runs[0].size(); ++i) EXPECT_TRUE(runs[r][i].equal(runs[0][i])) << i;
  }
}

TEST_F(CausalConv1d, Bfloat16KeepsAFloatState) {
  const Problem problem(2, 24, 100, 4, true, true, false, false, 18);
  const Tensor x = problem.x.to(at::kBFloat16), weight = problem.weight.to(at::kFloat),
               bias = problem.bias->to(at::kFloat);
  const auto out = causal_conv1d(x, weight, bias, "silu");
  const auto exact = causal_conv1d(x.to(at::kFloat), weight, bias, "silu");
  EXPECT_EQ(out.y.scalar_type(), at::kBFloat16);
  EXPECT_EQ(out.final_state.scalar_type(), at::kFloat);
  EXPECT_TRUE(out.y.equal(exact.y.to(at::kBFloat16)));
  EXPECT_TRUE(out.final_state.equal(exact.final_state));
  const Tensor leaf = x.clone().requires_grad_(true);
  const auto gradient = torch::autograd::grad({causal_conv1d(leaf, weight, bias, "silu").y}, {leaf},
                                              {problem.grad_y.to(at::kBFloat16)})[0];
  EXPECT_EQ(gradient.scalar_type(), at::kBFloat16);
}

TEST_F(CausalConv1d, LargeInputsStayFinite) {
  Problem problem(1, 20, 50, 4, true, true, true, false, 19);
  problem.x.mul_(1000);
  const auto exact = run(causal_conv1d_reference, problem, at::kDouble);
  const auto fused = run(causal_conv1d, problem, at::kFloat);
  for (size_t i = 0; i < fused.size(); ++i) EXPECT_LE(relative_error(fused[i], exact[i]), 1e-5) << i;
}

// Other machines' code paths, as far as this machine can run them.
TEST_F(CausalConv1d, EveryInstructionSet) {
  for (int64_t taps : {2, 3, 4, 5}) {
    const Problem problem(2, 37, 70, taps, true, true, true, true, 24);
    const auto exact = run(causal_conv1d_reference, problem, at::kDouble);
    for (int64_t target : {int64_t{HWY_AVX3}, int64_t{HWY_AVX2}, int64_t{0}}) {  // 0: portable code
      if ((hwy::SupportedTargets() & target) != target) continue;
      hwy::GetChosenTarget().Update(target);
      const auto fused = run(causal_conv1d, problem, at::kFloat), fused64 = run(causal_conv1d, problem, at::kDouble);
      for (size_t i = 0; i < exact.size(); ++i) {
        EXPECT_LE(relative_error(fused[i], exact[i]), 1e-6) << i << " target " << target;
        EXPECT_LE(relative_error(fused64[i], exact[i]), 1e-13) << i << " target " << target;
      }
    }
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
}

TEST_F(CausalConv1d, GradientsOfGradientsAreRefused) {
  const Problem problem(1, 3, 4, 2, false, false, false, false, 21);
  for (auto* op : {&causal_conv1d, &causal_conv1d_reference}) {
    const Tensor x = problem.x.clone().requires_grad_(true);
    const auto out = (*op)(x, problem.weight, {}, "", {}, {});
    const Tensor gradient = torch::autograd::grad({out.y.square().sum()}, {x}, {}, true, true)[0];
    EXPECT_THROW(torch::autograd::grad({gradient.sum()}, {x}), c10::Error);
  }
}

TEST_F(CausalConv1d, MetaTensorsGiveShapes) {
  const auto meta = at::TensorOptions().device(at::kMeta);
  const auto shape = [&](at::IntArrayRef sizes, at::ScalarType type) { return at::empty(sizes, meta.dtype(type)); };
  const Tensor x = shape({2, 6, 70}, at::kBFloat16).requires_grad_(true);
  const auto out = causal_conv1d(x, shape({6, 4}, at::kFloat), shape({6}, at::kFloat), "silu",
                                 shape({2, 6, 3}, at::kFloat), shape({2, 70}, at::kLong));
  EXPECT_EQ(out.y.sizes(), x.sizes());
  EXPECT_EQ(out.y.strides(), at::IntArrayRef({420, 1, 6}));
  EXPECT_EQ(out.y.scalar_type(), at::kBFloat16);
  EXPECT_EQ(out.final_state.sizes(), at::IntArrayRef({2, 6, 3}));
  EXPECT_EQ(out.final_state.scalar_type(), at::kFloat);
  EXPECT_EQ(torch::autograd::grad({out.y.sum()}, {x})[0].sizes(), x.sizes());
}

TEST_F(CausalConv1d, WrongArgumentsAreNamed) {
  const Problem problem(2, 3, 4, 2, true, false, true, false, 22);
  const auto message = [](const std::function<void()>& call) -> std::string {
    try {
      call();
    } catch (const c10::Error& error) {
      return error.what_without_backtrace();
    }
    return "";
  };
  const auto says = [&](const char* part, const std::function<void()>& call) {
    EXPECT_NE(message(call).find(part), std::string::npos) << message(call);
  };
  const Tensor &x = problem.x, &weight = problem.weight;
  says("x must be [B, D, L]", [&] { causal_conv1d(x[0], weight); });
  says("weight must be [D, K]", [&] { causal_conv1d(x, x); });
  says("1 to 16 taps", [&] { causal_conv1d(x, at::zeros({3, 17}, at::kDouble)); });
  says("activation must be", [&] { causal_conv1d(x, weight, {}, "gelu"); });
  says("bias must be [D]", [&] { causal_conv1d(x, weight, x); });
  says("initial_state must be [B, D, K-1]", [&] { causal_conv1d(x, weight, {}, "", x); });
  says("positions must be int64 [B, L]", [&] { causal_conv1d(x, weight, {}, "", {}, x); });
}

// Counts what the oracle computes; layers declare their costs against such counts.
struct Counted {
  double value = 0;
  Counted() = default;
  Counted(double x) : value(x) {}
  static inline int64_t arithmetic = 0, exponentials = 0;
  friend Counted operator+(Counted a, Counted b) { return ++arithmetic, Counted(a.value + b.value); }
  friend Counted operator-(Counted a, Counted b) { return ++arithmetic, Counted(a.value - b.value); }
  friend Counted operator*(Counted a, Counted b) { return ++arithmetic, Counted(a.value * b.value); }
  friend Counted operator/(Counted a, Counted b) { return ++arithmetic, Counted(a.value / b.value); }
  friend Counted exp(Counted a) { return ++exponentials, Counted(std::exp(a.value)); }
};

TEST_F(CausalConv1d, ReferenceCountsWithACountingScalar) {
  const int64_t batch = 2, time = 5, channels = 3, taps = 4, numbers = batch * time * channels;
  std::vector<Counted> x(numbers, 0.3), weight(channels * taps, 0.5), y(numbers), state(batch * channels * (taps - 1));
  for (bool silu : {false, true}) {
    const CausalConv1dForward<Counted> p{
        batch,         channels, time,    taps,    silu,     {x.data(), time * channels, channels},
        weight.data(), nullptr,  nullptr, nullptr, y.data(), state.data()};
    Counted::arithmetic = Counted::exponentials = 0;
    causal_conv1d_forward_reference(p);
    EXPECT_EQ(Counted::arithmetic, (2 * taps + (silu ? 3 : 0)) * numbers);
    EXPECT_EQ(Counted::exponentials, silu ? numbers : 0);
  }
}

}  // namespace
}  // namespace causal_conv1d_test
}  // namespace hippodrome

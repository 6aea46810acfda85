#include "architectures/mixture/moe/moe.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "architectures/mixture/moe/grouping.h"
#include "tests/architectures/made_layer.h"

namespace hippodrome::moe_layer_test {
namespace {

const Tensor& golden_logits() {
  static const Tensor logits = at::tensor({1.0, 0.5, -0.2, 2.0}, at::kDouble).view({1, 4});
  return logits;
}

// Keeps the last of each quantity.
struct Watch final : Observer {
  void report(std::string_view, std::string_view what, const Tensor& value) override {
    seen[std::string(what)] = value.detach().clone();
  }
  std::map<std::string, Tensor> seen;
};

Context plain(const Tensor& x, Observer* observer = nullptr) {
  Context context = Context::plain(x.size(0), x.size(1), 0, x.device());
  context.observer = observer;
  return context;
}

Moe::Config config_of(int64_t experts, int64_t top_k, int64_t hidden, const std::string& router = "mixtral") {
  Moe::Config config;
  config.experts = experts;
  config.top_k = top_k;
  config.hidden = hidden;
  config.router = router;
  return config;
}

TEST(MoeLayer, RoutersMatchTheirGoldenWeights) {
  const Routing jamba = route(golden_logits(), 2, Router::kJamba), mixtral = route(golden_logits(), 2, Router::kMixtral);
  EXPECT_LT(farthest(jamba.weights, at::tensor({0.58760871, 0.21616916}, at::kDouble).view({1, 2})), 1e-8);
  EXPECT_LT(farthest(mixtral.weights, at::tensor({0.73105858, 0.26894142}, at::kDouble).view({1, 2})), 1e-8);
  for (const Tensor& experts : {jamba.experts, mixtral.experts}) {
    EXPECT_TRUE(at::equal(experts, at::tensor({3, 0}, at::kLong).view({1, 2})));
  }
}

TEST(MoeLayer, GroupsSlotsByExpertInTheOrderOfTokens) {
  const Grouping grouping = group_by_expert(at::tensor({2, 0, 3, 2, 0, 2}, at::kLong).view({3, 2}), 4);
  EXPECT_EQ(grouping.counts, (std::vector<int64_t>{2, 0, 3, 1}));
  EXPECT_TRUE(at::equal(grouping.slots, at::tensor({1, 4, 0, 3, 5, 2}, at::kLong)));
  EXPECT_TRUE(at::equal(grouping.tokens, at::tensor({0, 2, 0, 1, 2, 1}, at::kLong)));
  EXPECT_TRUE(at::equal(grouping.rows, at::tensor({2, 0, 5, 3, 1, 4}, at::kLong)));
}

// Every expert on every token, then weighted: zero where a token was not sent.
TEST(MoeLayer, EqualsAllExpertsMasked) {
  for (const char* router : {"mixtral", "jamba"}) {
    Made<Moe> layer(config_of(5, 2, 7, router), site_of(6), at::kDouble, 0.5);
    const Tensor x = drawn({2, 9, 6}, 1);
    const Tensor flat = x.view({18, 6});
    const Routing routing = route(flat.mm(layer.value("router.weight").t()), 2,
                                  std::string(router) == "jamba" ? Router::kJamba : Router::kMixtral);
    const Tensor weights = at::zeros({18, 5}, x.options()).scatter(1, routing.experts, routing.weights);
    Tensor expected = at::zeros_like(flat);
    for (int64_t e = 0; e < 5; ++e) {
      const Tensor h = flat.mm(layer.value("experts.up.weight")[e].t());
      const Tensor gate = h.narrow(1, 0, 7), value = h.narrow(1, 7, 7);
      const Tensor y = gate.mul(gate.sigmoid()).mul(value).mm(layer.value("experts.down.weight")[e].t());
      expected = expected.add(weights.narrow(1, e, 1).mul(y));
    }
    EXPECT_LT(farthest(layer->forward(x, plain(x), nullptr).view({18, 6}), expected), 1e-12) << router;
  }
}

TEST(MoeLayer, EvenRoutingHasABalanceLossOfK) {
  // Equal probabilities give K whoever is chosen; so does any router whose choices and probabilities are both even.
  const Tensor zeros = at::zeros({6, 8}, at::kDouble);
  for (const int64_t k : {1, 2, 3}) {
    EXPECT_NEAR(balance_loss(zeros, route(zeros, k, Router::kJamba).experts).item().toDouble(), double(k), 1e-12);
  }
  // All tokens on the same two of eight, with certainty: each has f = 1 and p = 1/2, so 8 (1/2 + 1/2).
  Tensor certain = zeros.clone();
  certain.narrow(1, 2, 2).fill_(50.0);
  EXPECT_NEAR(balance_loss(certain, route(certain, 2, Router::kMixtral).experts).item().toDouble(), 8.0, 1e-9);
  // At random initial values it is near K, as the authors' own test has it.
  Made<Moe> layer(config_of(4, 2, 16, "jamba"), site_of(32), at::kFloat, 0.02);
  const Tensor x = drawn({8, 64, 32}, 3, at::kFloat);
  Watch watch;
  layer->forward(x, plain(x, &watch), nullptr);
  EXPECT_NEAR(watch.seen.at("balance_loss").item().toDouble(), 2.0, 1e-2);
  EXPECT_NEAR(watch.seen.at("router_load").sum().item().toDouble(), 1.0, 1e-6);
  EXPECT_EQ(watch.seen.at("router_load").numel(), 4);
}

TEST(MoeLayer, PaddingIsSentNowhereAndCountsNowhere) {
  Made<Moe> layer(config_of(4, 2, 8), site_of(8), at::kDouble, 0.5);
  const Tensor x = drawn({1, 5, 8}, 1);
  Watch alone, padded;
  const Tensor y = layer->forward(x, plain(x, &alone), nullptr);
  const Tensor wide = at::cat({drawn({1, 2, 8}, 7), x, drawn({1, 3, 8}, 8)}, 1);
  Context context = ragged_context({{-1, -1, 0, 1, 2, 3, 4, -1, -1, -1}});
  context.observer = &padded;
  const Tensor padded_y = layer->forward(wide, context, nullptr);
  EXPECT_LT(farthest(padded_y.narrow(1, 2, 5), y), 1e-12);
  EXPECT_EQ(padded_y.narrow(1, 0, 2).abs().max().item().toDouble(), 0.0);
  EXPECT_NEAR(padded.seen.at("balance_loss").item().toDouble(), alone.seen.at("balance_loss").item().toDouble(), 1e-12);
  EXPECT_LT(farthest(padded.seen.at("router_load"), alone.seen.at("router_load")), 1e-12);
  // Nothing but padding.
  Watch none;
  Context empty = ragged_context({{-1, -1}});
  empty.observer = &none;
  EXPECT_EQ(layer->forward(drawn({1, 2, 8}, 9), empty, nullptr).abs().max().item().toDouble(), 0.0);
  EXPECT_TRUE(none.seen.empty());
}

TEST(MoeLayer, CountsAllParametersAndThoseATokenMeets) {
  // Mixtral 8x7B's layer.
  const Moe layer(config_of(8, 2, 14336), site_of(4096));
  const int64_t expert = 3 * int64_t{4096} * 14336;
  EXPECT_EQ(layer.parameters().count(), 8 * 4096 + 8 * expert);
  EXPECT_EQ(layer.active_parameters(), 8 * 4096 + 2 * expert);
  EXPECT_EQ(layer.cost({1, 1, 0, 4}).flops, 2.0 * double(layer.active_parameters()));
  Moe::Config config;
  EXPECT_EQ(Moe(config, site_of(128)).hidden(), 352);
  config.expansion = 0.75;
  EXPECT_EQ(Moe(config, site_of(128)).hidden(), 96);
}

TEST(MoeLayer, EveryExpertIsDrawnWithTheFanInOfOneMatrix) {
  Moe::Config config = config_of(4, 2, 64);
  Made<Moe> plain_init(config, site_of(16), at::kFloat);
  for (int64_t e = 0; e < 4; ++e) {
    EXPECT_NEAR(plain_init.value("experts.up.weight")[e].abs().max().item().toDouble(), 0.25, 2e-3) << e;
    EXPECT_NEAR(plain_init.value("experts.down.weight")[e].abs().max().item().toDouble(), 0.125, 2e-3) << e;
  }
  config.init = "gpt2";
  Made<Moe> normal(config, site_of(64, /*blocks=*/16), at::kFloat);
  EXPECT_NEAR(normal.value("experts.up.weight").std().item().toDouble(), 0.02, 2e-4);
  EXPECT_NEAR(normal.value("experts.down.weight").std().item().toDouble(), 0.005, 1e-4);
}

TEST(MoeLayer, RefusesMoreChoicesThanExperts) {
  EXPECT_EQ(Moe::check(config_of(2, 3, 8), site_of(8)).message(),
            "top_k = 3 is more than experts = 2: a token goes to each expert once at most");
}

// A router on which two experts take all tokens, descending on the balance loss alone.
TEST(MoeLayer, TheBalanceLossSpreadsACollapsedRouter) {
  Made<Moe> layer(config_of(8, 2, 8), site_of(16), at::kFloat);
  const Tensor x = drawn({4, 64, 16}, 5, at::kFloat);
  x.select(2, 0).add_(2.0);
  Tensor& router = layer.value("router.weight");
  router.select(1, 0).narrow(0, 0, 2).fill_(1.0);
  layer->parameters().set_requires_grad(true);

  struct Balance final : Observer {
    void report(std::string_view, std::string_view what, const Tensor& value) override {
      if (what == "router_load") load = value.max().item().toDouble();
    }
    void auxiliary_loss(std::string_view, std::string_view, const Tensor& value, double) override { loss = value; }
    double load = 0.0;
    Tensor loss;
  } balance;
  double first_loss = 0.0, first_load = 0.0;
  for (int step = 0; step <= 200; ++step) {
    layer->forward(x, plain(x, &balance), nullptr);
    if (step == 0) {
      first_loss = balance.loss.item().toDouble();
      first_load = balance.load;
    }
    balance.loss.backward();
    ASSERT_TRUE(router.grad().defined());
    const at::NoGradGuard no_grad;
    router.sub_(router.grad(), 0.05);
    router.mutable_grad() = Tensor();
  }
  EXPECT_GT(first_load, 0.4) << "two experts took nearly all, an eighth each would be even";
  EXPECT_GT(first_loss, 4.0);
  EXPECT_LT(balance.load, 0.16);
  EXPECT_LT(balance.loss.item().toDouble(), 2.05);
}

}  // namespace
}  // namespace hippodrome::moe_layer_test

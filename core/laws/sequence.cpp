#include <ATen/ops/cat.h>
#include <ATen/core/grad_mode.h>

#include <numeric>

#include "core/laws/specimen.h"

// Laws about sequences: cuts, single tokens, the arrow of time, and rows that share a batch.
namespace hippodrome::law_checks {
namespace {

constexpr auto kDouble = at::kDouble;
// In float64 the order of sums is all that may differ.
constexpr double kExact = 1e-9;

std::vector<int64_t> counted(int64_t start, int64_t length) {
  std::vector<int64_t> values(static_cast<size_t>(length));
  std::iota(values.begin(), values.end(), start);
  return values;
}

std::vector<int64_t> joined(std::vector<int64_t> first, const std::vector<int64_t>& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

}  // namespace

// Any cut of the sequence with carried state equals the whole: outputs, the final state (by its continuation), gradients.
LawResult split(const LawSubject& subject) {
  if (!make_layer(subject, kDouble)->traits().causal) return not_applicable("split", "every token sees the whole sequence");
  Worst worst;
  for (const int64_t length : {6, 70}) {
    const auto layer = make_layer(subject, kDouble);
    layer->parameters().set_requires_grad(true);
    Tensor x = random_tensor(subject, {2, length, subject.width}, kDouble, "x").requires_grad_(true);
    const Tensor more = random_tensor(subject, {2, 3, subject.width}, kDouble, "more");
    const auto run = [&](const std::vector<int64_t>& pieces) {
      State state = fresh_state(subject, *layer, 2, kDouble);
      const Tensor y = run_pieces(*layer, x, pieces, &state);
      return at::cat({y, run_plain(*layer, more, &state, length)}, 1);
    };
    const Tensor whole = run({length});
    const Tensor weights = random_tensor(subject, whole.sizes().vec(), kDouble, "weights");
    const auto expected = gradients(*layer, x, whole, weights);
    std::vector<std::vector<int64_t>> cuts;
    if (length < 10) {
      for (int64_t cut = 1; cut < length; ++cut) cuts.push_back({cut, length - cut});
      cuts.push_back({1, 2, 3});
    } else {
      cuts = {{64, 6}, {63, 7}, {65, 5}, {16, 48, 6}, {1, 69}};
    }
    for (const auto& pieces : cuts) {
      std::string what = "cut at " + std::to_string(pieces[0]) + " of " + std::to_string(length);
      const Tensor cut = run(pieces);
      worst.add(relative_error(cut, whole), what + ", outputs");
      const auto actual = gradients(*layer, x, cut, weights);
      for (size_t i = 0; i < actual.size(); ++i) {
        worst.add(relative_error(actual[i], expected[i]),
                  what + ", gradient of " + (i == 0 ? "x" : layer->parameters().list()[i - 1]->name));
      }
    }
  }
  return worst.result("split", kExact, "relative error");
}

// Token by token, in inference, equals the whole.
LawResult step(const LawSubject& subject) {
  if (!make_layer(subject, kDouble)->traits().causal) return not_applicable("step", "every token sees the whole sequence");
  const at::NoGradGuard no_grad;
  const auto layer = make_layer(subject, kDouble);
  constexpr int64_t kLength = 19;
  const Tensor x = random_tensor(subject, {2, kLength, subject.width}, kDouble, "x");
  const Tensor whole = run_plain(*layer, x, nullptr);
  State state = fresh_state(subject, *layer, 2, kDouble);
  const Tensor steps = run_pieces(*layer, x, std::vector<int64_t>(kLength, 1), &state);
  Worst worst;
  worst.add(relative_error(steps, whole), "from a fresh state");
  State prefilled = fresh_state(subject, *layer, 2, kDouble);
  const Tensor prefill = run_pieces(*layer, x, joined({10}, std::vector<int64_t>(kLength - 10, 1)), &prefilled);
  worst.add(relative_error(prefill, whole), "behind a prefill of 10 tokens");
  return worst.result("step", kExact, "relative error");
}

// ∂y_t/∂x_s = 0 for s > t, and ∂y_t/∂x_t ≠ 0 so that the test sees something. Every t of a short sequence; those of a longer
// one that are about kernels' chunk edges.
LawResult causality(const LawSubject& subject) {
  const auto layer = make_layer(subject, kDouble);
  if (!layer->traits().causal) return not_applicable("causality", "the layer says that it is not causal");
  Worst worst;
  double present = 0.0;
  const auto check = [&](int64_t length, int64_t t) {
    Tensor x = random_tensor(subject, {1, length, subject.width}, kDouble, "x").requires_grad_(true);
    const Tensor y = run_plain(*layer, x, nullptr).select(1, t);
    y.mul(random_tensor(subject, y.sizes().vec(), kDouble, "weights")).sum().backward();
    const Tensor gradient = x.grad().abs();
    present = std::max(present, gradient.select(1, t).max().item().toDouble());
    if (t + 1 < length) {
      worst.add(gradient.narrow(1, t + 1, length - t - 1).max().item().toDouble(),
                "output " + std::to_string(t) + " of " + std::to_string(length) + " depends on later inputs");
    }
  };
  for (int64_t t = 0; t < 8; ++t) check(8, t);
  for (const int64_t t : {0, 15, 63, 64}) check(70, t);
  if (present == 0.0) worst.add(INFINITY, "no output depends on its own input");
  return worst.result("causality", 1e-12, "largest gradient");
}

// Padding to the right, to the left or inside changes no row's output and no row's continuation.
LawResult padding(const LawSubject& subject) {
  const at::NoGradGuard no_grad;
  const auto layer = make_layer(subject, kDouble);
  const Tensor x = random_tensor(subject, {3, 7, subject.width}, kDouble, "x");
  const Tensor more = random_tensor(subject, {3, 2, subject.width}, kDouble, "more");
  // Row 0 is padded on the right, row 1 on the left, row 2 in the middle; each holds these columns.
  const std::vector<std::vector<int64_t>> positions = {{0, 1, 2, 3, -1, -1, -1}, {-1, -1, 0, 1, 2, 3, 4}, {0, 1, -1, -1, 2, 3, -1}};
  State state = fresh_state(subject, *layer, 3, kDouble);
  const Tensor y = run_ragged(*layer, x, positions, &state);
  const Tensor after = run_ragged(*layer, more, {{4, 5}, {5, 6}, {4, 5}}, &state);
  Worst worst;
  for (int64_t row = 0; row < 3; ++row) {
    std::vector<Tensor> kept_x, kept_y;
    for (int64_t column = 0; column < 7; ++column) {
      if (positions[static_cast<size_t>(row)][static_cast<size_t>(column)] < 0) continue;
      kept_x.push_back(x[row][column]);
      kept_y.push_back(y[row][column]);
    }
    const auto length = static_cast<int64_t>(kept_x.size());
    State own = fresh_state(subject, *layer, 1, kDouble, row);
    const Tensor alone = run_plain(*layer, at::cat(kept_x).view({1, length, -1}), &own, 0, row);
    const std::string where = row == 0 ? "right" : row == 1 ? "left" : "inner";
    worst.add(relative_error(at::cat(kept_y).view({1, length, -1}), alone), where + " padding, outputs");
    const Tensor continued = run_plain(*layer, more.narrow(0, row, 1), &own, length);
    worst.add(relative_error(after.narrow(0, row, 1), continued), where + " padding, continuation");
  }
  return worst.result("padding", kExact, "relative error");
}

// Sequences packed into one row equal the same sequences alone: outputs, gradients, and the state of the last.
LawResult packing(const LawSubject& subject) {
  const auto layer = make_layer(subject, kDouble);
  if (layer->traits().needs_memory) return not_applicable("packing", "a row reads one source");
  layer->parameters().set_requires_grad(true);
  constexpr int64_t kFirst = 5, kSecond = 4;
  Tensor x = random_tensor(subject, {2, kFirst + kSecond, subject.width}, kDouble, "x").requires_grad_(true);
  const Tensor more = random_tensor(subject, {2, 2, subject.width}, kDouble, "more");
  const auto run_apart = [&] {
    State state = fresh_state(subject, *layer, 2, kDouble);
    const Tensor first = run_plain(*layer, x.narrow(1, 0, kFirst), nullptr);
    const Tensor second = run_plain(*layer, x.narrow(1, kFirst, kSecond), &state);
    return at::cat({first, second, run_plain(*layer, more, &state, kSecond)}, 1);
  };
  const auto run_packed = [&] {
    const std::vector<int64_t> row = joined(counted(0, kFirst), counted(0, kSecond));
    State state = fresh_state(subject, *layer, 2, kDouble);
    const Tensor y = run_ragged(*layer, x, {row, row}, &state);
    return at::cat({y, run_ragged(*layer, more, {{kSecond, kSecond + 1}, {kSecond, kSecond + 1}}, &state)}, 1);
  };
  const Tensor apart = run_apart();
  const Tensor weights = random_tensor(subject, apart.sizes().vec(), kDouble, "weights");
  const auto expected = gradients(*layer, x, apart, weights);
  const Tensor packed = run_packed();
  const auto actual = gradients(*layer, x, packed, weights);
  Worst worst;
  worst.add(relative_error(packed, apart), "outputs and continuation");
  for (size_t i = 0; i < actual.size(); ++i) worst.add(relative_error(actual[i], expected[i]), "gradients");
  return worst.result("packing", kExact, "relative error");
}

// A row in a batch equals the row alone.
LawResult batch(const LawSubject& subject) {
  const at::NoGradGuard no_grad;
  const auto layer = make_layer(subject, kDouble);
  const Tensor x = random_tensor(subject, {3, 9, subject.width}, kDouble, "x");
  const Tensor together = run_plain(*layer, x, nullptr);
  Worst worst;
  for (int64_t row = 0; row < 3; ++row) {
    worst.add(relative_error(together.narrow(0, row, 1), run_plain(*layer, x.narrow(0, row, 1), nullptr, 0, row)),
              "row " + std::to_string(row));
  }
  return worst.result("batch", kExact, "relative error");
}

}  // namespace hippodrome::law_checks

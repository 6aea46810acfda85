#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/layer/layer.h"

// What the layers' tests share: a layer with drawn parameters, inputs, and how far two tensors are apart.
namespace hippodrome {

inline Site site_of(int64_t width, int64_t blocks = 4) {
  return {.name = "blocks.0.mixer", .width = width, .output_width = width, .repeat = 0, .repeats = 2, .blocks = blocks};
}

// A layer whose parameters are drawn; `spread` > 0 draws all of them anew from N(0, spread), so that nothing is zero.
template <class L>
class Made {
 public:
  explicit Made(const typename L::Config& config, const Site& site, at::ScalarType dtype = at::kDouble,
                double spread = 0.0)
      : layer_(config, site) {
    layer_.parameters().materialise(7, at::TensorOptions().dtype(dtype));
    for (const ParameterPtr& parameter : layer_.parameters().list()) {
      if (spread > 0.0) initialise::normal(spread)(parameter->value, RandomStream(11, parameter->name));
    }
  }
  L& operator*() { return layer_; }
  L* operator->() { return &layer_; }
  // The parameter of that name.
  Tensor& value(const std::string& name) { return layer_.parameters().find(name)->value; }

 private:
  L layer_;
};

inline Tensor drawn(std::vector<int64_t> shape, uint64_t seed, at::ScalarType dtype = at::kDouble) {
  Tensor value = at::empty(shape, at::TensorOptions().dtype(dtype));
  initialise::normal(1.0)(value, RandomStream(seed, "test"));
  return value;
}

inline Context ragged_context(const std::vector<std::vector<int64_t>>& rows) {
  std::vector<Tensor> stacked;
  for (const auto& row : rows) stacked.push_back(at::tensor(row, at::kLong).unsqueeze(0));
  Context context;
  context.positions = at::cat(stacked);
  context.ragged = true;
  return context;
}

inline double farthest(const Tensor& a, const Tensor& b) { return a.sub(b).abs().max().item().toDouble(); }

// y of x [B, L, D] read in pieces with a carried state; `state` is left as after the last.
inline Tensor in_pieces(Layer& layer, const Tensor& x, const std::vector<int64_t>& lengths, State& state) {
  std::vector<Tensor> outputs;
  int64_t start = 0;
  for (const int64_t length : lengths) {
    const Context context = Context::plain(x.size(0), length, start, x.device());
    outputs.push_back(layer.forward(x.narrow(1, start, length), context, &state));
    start += length;
  }
  return at::cat(outputs, 1);
}

inline State fresh_state(const Layer& layer, const Tensor& x) {
  return layer.initial_state({x.size(0), 4, x.options()});
}

// In float64, of x [2, 9, width]: pieces with a carried state give the whole, and the state takes what its cost says.
inline void expect_pieces_equal_the_whole(Layer& layer, int64_t width) {
  const Tensor x = drawn({2, 9, width}, 1);
  const Tensor whole = layer.forward(x, Context::plain(2, 9, 0, x.device()), nullptr);
  State state = fresh_state(layer, x);
  EXPECT_LT(farthest(in_pieces(layer, x, {3, 1, 4, 1}, state), whole), 1e-12);
  EXPECT_EQ(state.bytes(), layer.cost({.rows = 2, .length = 1, .context = 8, .element_size = 8}).state_bytes);
}

// Two sequences with padding between them give in one row what they give alone; `entries` are the state's.
inline void expect_packed_equals_separate(Layer& layer, int64_t width, const std::vector<std::string>& entries) {
  const Tensor a = drawn({1, 3, width}, 1), b = drawn({1, 2, width}, 2);
  const Tensor packed = at::cat({a, drawn({1, 1, width}, 3), b}, 1);
  State state = fresh_state(layer, packed), state_b = fresh_state(layer, b);
  const Tensor y = layer.forward(packed, ragged_context({{0, 1, 2, -1, 0, 1}}), &state);
  const Tensor y_a = layer.forward(a, Context::plain(1, 3, 0, a.device()), nullptr);
  const Tensor y_b = layer.forward(b, Context::plain(1, 2, 0, b.device()), &state_b);
  EXPECT_LT(farthest(y.narrow(1, 0, 3), y_a), 1e-12);
  EXPECT_LT(farthest(y.narrow(1, 4, 2), y_b), 1e-12);
  for (const std::string& entry : entries) EXPECT_LT(farthest(state.get(entry), state_b.get(entry)), 1e-12) << entry;
}

}  // namespace hippodrome

// The CUDA kernels of additive attention, emulated, through the binding that a GPU uses.
#include "architectures/recurrent/additive_attention/cuda_binding.h"

#include <cstring>
#include <limits>
#include <tuple>

#include "architectures/recurrent/additive_attention/additive_attention.h"
#include "architectures/recurrent/additive_attention/cuda_kernels.h"
#include "core/cuda/emulator.h"
#include "tests/architectures/recurrent/scan_checks.h"

namespace hippodrome {
namespace additive_attention_cuda_test {
namespace {

using namespace scan_checks;
using namespace additive_cuda;

template <cuda::Order kOrder>
Kernels emulated() {
  return {[](const Forward& p, void*) { return run_additive_attention_forward(p, cuda::EmulatedLauncher{kOrder}); },
          [](const Weights& p, void*) { return run_additive_attention_weights(p, cuda::EmulatedLauncher{kOrder}); },
          [](const Backward& p, void*) { return run_additive_attention_backward(p, cuda::EmulatedLauncher{kOrder}); }};
}
const Kernels kForwards = emulated<cuda::Order::kForwards>(), kBackwards = emulated<cuda::Order::kBackwards>();

// As where there are blocks enough without splitting.
template <cuda::Order kOrder = cuda::Order::kForwards>
Kernels unsplit() {
  static const Kernels split = emulated<kOrder>();
  Kernels kernels = split;
  kernels.forward = [](const Forward& p, void* stream) {
    Forward whole = p;
    if (p.splits > 1) {
      whole.splits = 1, whole.partial = p.context;
      const int64_t numbers = p.in.batch * p.in.queries * p.in.width;
      std::memset(p.context, 0, static_cast<size_t>(numbers) * (p.in.element == cuda::Element::kDouble ? 8 : 4));
    }
    return split.forward(whole, stream);
  };
  kernels.backward = [](const Backward& p, void* stream) {
    Backward whole = p;
    whole.key_splits = whole.query_splits = 1;
    return split.backward(whole, stream);
  };
  return kernels;
}

Op cpu(bool reference, Tensor positions = {}) {
  return [=](const Tensors& in) -> Tensors {
    auto [context, lse] = additive_attention(in[0], in[1], in[2], in[3], positions, reference);
    return {context, lse};
  };
}

Evaluation run(const Kernels& kernels, const Tensors& in, const Tensor& positions, const Tensors& cotangents) {
  auto [context, lse] = forward(kernels, in[0], in[1], in[2], in[3], positions);
  auto [q, k, v, values] =
      backward(kernels, cotangents[0], cotangents[1], in[0], in[1], in[2], in[3], context, lse, positions);
  return {{context, lse}, {q, k, v, values}};
}

struct Sizes {
  int64_t batch, queries, keys, size, width;
};
std::string label(const Sizes& a) {
  return ::testing::PrintToString(std::make_tuple(a.batch, a.queries, a.keys, a.size, a.width));
}

Tensors inputs(const Sizes& a, at::ScalarType dtype = at::kDouble) {
  seed();
  return cast({at::randn({a.batch, a.queries, a.size}, at::kDouble), at::randn({a.batch, a.keys, a.size}, at::kDouble),
               at::randn({a.size}, at::kDouble), at::randn({a.batch, a.keys, a.width}, at::kDouble)},
              dtype);
}
Tensors cotangents_of(const Sizes& a, at::ScalarType dtype) {
  const auto wide = compute_dtype(at::empty({0}, dtype));
  return {at::randn({a.batch, a.queries, a.width}, at::kDouble).to(dtype),
          at::randn({a.batch, a.queries}, at::kDouble).to(wide)};
}

// Padding anywhere, behind all tokens over more than a tile, and in a last row of nothing else.
Tensor padded(int64_t batch, int64_t keys) {
  Tensor positions = mixed_positions(batch, keys);
  if (batch > 1 && keys > 140) positions[1].slice(0, 100).fill_(-1);
  if (batch > 2) positions[batch - 1].fill_(-1);
  return positions;
}

void expect_lawful_floats(const Kernels& kernels, const Tensors& in, const Tensor& positions, const Tensors& cotangents,
                          const std::string& what) {
  const Evaluation exact = evaluate(cpu(true, positions), cast(in, at::kDouble), cast(cotangents, at::kDouble));
  const Evaluation plain = evaluate(cpu(true, positions), in, cotangents);
  const Evaluation fast = run(kernels, in, positions, cotangents);
  expect_lawful(fast.outputs, plain.outputs, exact.outputs, 2, "float outputs " + what);
  expect_lawful(fast.gradients, plain.gradients, exact.gradients, 3, "float gradients " + what);
}

// Sizes about the edges of tiles (16 rows, 128 columns, 32 features), of blocks' threads and of the number of queries
// that makes them few.
TEST(AdditiveAttentionCuda, MatchesTheReference) {
  for (const Sizes& a :
       {Sizes{1, 1, 1, 1, 1}, Sizes{3, 1, 130, 33, 7}, Sizes{3, 1, 300, 5, 260}, Sizes{3, 3, 129, 31, 3},
        Sizes{3, 4, 31, 64, 130}, Sizes{2, 5, 128, 32, 1}, Sizes{3, 16, 33, 7, 20}, Sizes{2, 17, 65, 33, 5},
        Sizes{3, 33, 127, 9, 4}, Sizes{1, 20, 300, 6, 10}, Sizes{1, 300, 20, 5, 6}, Sizes{2, 131, 129, 3, 2},
        Sizes{1, 1, 5000, 3, 70}}) {
    for (const bool ragged : {false, true}) {
      const Tensor positions = ragged ? padded(a.batch, a.keys) : Tensor();
      const std::string what = label(a) + (ragged ? " with padding" : "");
      const Tensors in = inputs(a), cotangents = cotangents_of(a, at::kDouble);
      const Evaluation exact = evaluate(cpu(true, positions), in, cotangents);
      for (const Kernels& kernels : {kForwards, unsplit()}) {
        const Evaluation fast = run(kernels, in, positions, cotangents);
        expect_close(fast.outputs, exact.outputs, 1e-13, "double outputs " + what);
        expect_close(fast.gradients, exact.gradients, 1e-11, "double gradients " + what);
      }
      expect_lawful_floats(kForwards, cast(in, at::kFloat), positions, cast(cotangents, at::kFloat), what);
    }
  }
}

TEST(AdditiveAttentionCuda, EitherOrderGivesTheSameBits) {
  for (const Sizes& a : {Sizes{2, 2, 150, 40, 9}, Sizes{2, 18, 150, 40, 9}}) {
    const Tensor positions = padded(a.batch, a.keys);
    const Tensors in = inputs(a, at::kFloat), cotangents = cotangents_of(a, at::kFloat);
    const Evaluation one = run(kForwards, in, positions, cotangents),
                     other = run(kBackwards, in, positions, cotangents);
    expect_same_bits(other.outputs, one.outputs, "outputs " + label(a));
    expect_same_bits(other.gradients, one.gradients, "gradients " + label(a));
    expect_same_bits({weights(kBackwards, in[0], in[1], in[2], positions)},
                     {weights(kForwards, in[0], in[1], in[2], positions)}, "weights");
  }
}

// A block that skips a tile of padding goes on to the next tile with threads that are not through with the first.
TEST(AdditiveAttentionCuda, EitherOrderGivesTheSameBitsBehindPadding) {
  for (const Sizes& a : {Sizes{2, 2, 300, 9, 5}, Sizes{2, 18, 300, 9, 5}}) {
    Tensor positions = padded(a.batch, a.keys);
    positions[0].slice(0, 0, 130).fill_(-1);
    const Tensors in = inputs(a, at::kFloat), cotangents = cotangents_of(a, at::kFloat);
    const Evaluation one = run(unsplit(), in, positions, cotangents);
    const Evaluation other = run(unsplit<cuda::Order::kBackwards>(), in, positions, cotangents);
    expect_same_bits(other.outputs, one.outputs, "outputs " + label(a));
    expect_same_bits(other.gradients, one.gradients, "gradients " + label(a));
  }
}

TEST(AdditiveAttentionCuda, WeightsAreThoseOfTheCpu) {
  for (const Sizes& a : {Sizes{3, 1, 37, 9, 4}, Sizes{3, 19, 137, 40, 4}, Sizes{1, 3, 1, 2, 1}}) {
    for (const bool ragged : {false, true}) {
      const Tensor positions = ragged ? padded(a.batch, a.keys) : Tensor();
      const Tensors in = inputs(a);
      expect_close({weights(kForwards, in[0], in[1], in[2], positions)},
                   {additive_attention_weights(in[0], in[1], in[2], positions, true)}, 1e-13, label(a));
    }
  }
}

TEST(AdditiveAttentionCuda, TakesSumsOfAnySize) {
  for (const double scale : {0.001, 0.25, 0.4, 2.0, 7.9, 10.0, 19.0, 30.0, 100.0, 1000.0}) {
    for (const int64_t queries : {2, 18}) {
      const Sizes a{2, queries, 40, 33, 5};
      Tensors in = inputs(a);
      in[0] = in[0].clamp(-1, 1).mul(scale);
      in[1] = in[1].clamp(-1, 1).mul(scale);
      in[1][0][3] = in[0][0][1].neg().add(0.01 * scale);  // some pairs cancel but for a little
      const Tensors cotangents = cotangents_of(a, at::kDouble);
      const std::string what = ::testing::PrintToString(scale);
      const Evaluation exact = evaluate(cpu(true), in, cotangents), fast = run(kForwards, in, {}, cotangents);
      expect_close(fast.outputs, exact.outputs, 1e-13, "double outputs at " + what);
      expect_close(fast.gradients, exact.gradients, 1e-11, "double gradients at " + what);
      expect_lawful_floats(kForwards, cast(in, at::kFloat), {}, cast(cotangents, at::kFloat), "at " + what);
    }
  }
}

TEST(AdditiveAttentionCuda, PaddingIsNotRead) {
  for (const int64_t queries : {1, 5}) {
    const Sizes a{3, queries, 150, 8, 6};
    const Tensor positions = padded(3, 150);
    const Tensors in = inputs(a), cotangents = cotangents_of(a, at::kDouble);
    Tensors poisoned = in;
    for (const size_t i : {1, 3}) {
      poisoned[i] = in[i].masked_fill(positions.lt(0).unsqueeze(2), std::numeric_limits<double>::quiet_NaN());
    }
    const Evaluation clean = run(kForwards, in, positions, cotangents);
    const Evaluation other = run(kForwards, poisoned, positions, cotangents);
    expect_same_bits(other.outputs, clean.outputs, "outputs with NaN in the padding");
    expect_same_bits(other.gradients, clean.gradients, "gradients with NaN in the padding");
    EXPECT_EQ(rms(other.outputs[0][2]), 0.0) << "nothing to attend to";
    EXPECT_EQ(rms(other.outputs[1][2]), 0.0);
    EXPECT_EQ(rms(other.gradients[0][2]), 0.0);
  }
}

TEST(AdditiveAttentionCuda, NarrowDtypesAreComputedInFloat32) {
  for (const auto dtype : {at::kBFloat16, at::kHalf}) {
    for (const int64_t queries : {2, 20}) {
      const Sizes a{2, queries, 30, 40, 12};
      const Tensors in = inputs(a, dtype), cotangents = cotangents_of(a, dtype);
      const Evaluation narrow = run(kForwards, in, {}, cotangents);
      const Evaluation wide = run(kForwards, cast(in, at::kFloat), {}, cast(cotangents, at::kFloat));
      EXPECT_EQ(narrow.outputs[0].scalar_type(), dtype);
      EXPECT_EQ(narrow.outputs[1].scalar_type(), at::kFloat);
      expect_same_bits(narrow.outputs, {wide.outputs[0].to(dtype), wide.outputs[1]}, "outputs");
      for (size_t i = 0; i < in.size(); ++i) {
        EXPECT_EQ(narrow.gradients[i].scalar_type(), at::kFloat);
        EXPECT_LE(relative_error(narrow.gradients[i], wide.gradients[i]), 1e-2) << "gradient " << i;
      }
    }
  }
}

TEST(AdditiveAttentionCuda, StridedAndEmptyInputs) {
  const Sizes a{2, 20, 30, 8, 12};
  const Tensors in = inputs(a), cotangents = cotangents_of(a, at::kDouble);
  const auto strided = [](const Tensors& tensors) {
    Tensors result;
    for (const Tensor& t : tensors) result.push_back(t.dim() == 3 ? t.transpose(1, 2).contiguous().transpose(1, 2) : t);
    return result;
  };
  const Evaluation plain = run(kForwards, in, {}, cotangents),
                   other = run(kForwards, strided(in), {}, strided(cotangents));
  expect_same_bits(other.outputs, plain.outputs, "outputs");
  expect_same_bits(other.gradients, plain.gradients, "gradients");
  for (const Sizes& none : {Sizes{2, 3, 0, 5, 6}, Sizes{2, 20, 0, 5, 6}, Sizes{2, 0, 3, 5, 6}, Sizes{0, 3, 4, 5, 6},
                            Sizes{2, 3, 4, 5, 0}}) {
    const Tensors empty = inputs(none);
    const Evaluation e = run(kForwards, empty, {}, cotangents_of(none, at::kDouble));
    for (size_t i = 0; i < empty.size(); ++i) EXPECT_EQ(e.gradients[i].sizes(), empty[i].sizes());
    EXPECT_EQ(e.outputs[0].sizes(), at::IntArrayRef({none.batch, none.queries, none.width}));
    EXPECT_EQ(rms(e.outputs[0]), 0.0);
    EXPECT_EQ(weights(kForwards, empty[0], empty[1], empty[2], {}).size(2), none.keys);
  }
}

TEST(AdditiveAttentionCuda, PlacesCoverEverythingOnceAndGoBeyondInt32) {
  for (const int64_t columns : {0, 1, 128, 129, 1000}) {
    for (const int64_t count : {1, 2, 3, 8}) {
      int64_t next = 0;
      for (int64_t i = 0; i < count; ++i) {
        const Place at = place(i, 16, 16, columns, 128, count);
        EXPECT_EQ(at.split, i);
        if (at.begin >= at.end) continue;
        EXPECT_EQ(at.begin, next);
        next = at.end;
      }
      EXPECT_EQ(next, columns);
    }
  }
  const int64_t rows = (int64_t{1} << 33) + 5, blocks = (rows + 15) / 16;
  const Place last = place((3 * blocks - 1) * 4 + 3, rows, 16, int64_t{1} << 34, 128, 4);
  EXPECT_EQ(last.batch, 2);
  EXPECT_EQ(last.first, rows - 5);
  EXPECT_EQ(last.rows, 5);
  EXPECT_EQ(last.begin, int64_t{3} << 32);
  EXPECT_EQ(last.end, int64_t{1} << 34);
  EXPECT_EQ(splits(1, int64_t{1} << 40), kMostSplits);
  EXPECT_EQ(splits(0, 0), 1);
  EXPECT_EQ(splits(5000, 1 << 20), 1);
}

}  // namespace
}  // namespace additive_attention_cuda_test
}  // namespace hippodrome

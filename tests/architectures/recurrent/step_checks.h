// What the tests of the recurrent scans' CUDA side share: their bindings on CPU tensors, with emulated kernels.
#pragma once

#include <ATen/ops/ones.h>

#include <limits>
#include <string>
#include <tuple>
#include <utility>

#include "architectures/recurrent/step_kernel.h"
#include "architectures/recurrent/step_loop.h"
#include "core/cuda/emulator.h"
#include "tests/architectures/recurrent/scan_checks.h"

namespace hippodrome::scan_checks {

// A cell's steps, emulated; `order` is their stream.
template <class Cell>
recurrent::StepKernels<typename Cell::Step, typename Cell::StepBackward> emulated_steps(cuda::Order& order) {
  return {[](const typename Cell::Step& p, void* stream) {
            return recurrent::run_step<Cell>(p, cuda::EmulatedLauncher{*static_cast<cuda::Order*>(stream)});
          },
          [](const typename Cell::StepBackward& p, void* stream) {
            return recurrent::run_step_backward<Cell>(p, cuda::EmulatedLauncher{*static_cast<cuda::Order*>(stream)});
          },
          &order};
}

// Outputs and gradients of a scan by its CUDA binding. Order: that of the emulator.
using EmulatedScan = std::function<Evaluation(const Tensors& inputs, const Tensors& cotangents,
                                              const at::Tensor& positions, cuda::Order order)>;
// The CPU's op with positions.
using CpuScan = std::function<Op(bool reference, at::Tensor positions)>;
using MakeInputs =
    std::function<Tensors(int64_t batch, int64_t length, int64_t hidden, bool state, at::ScalarType dtype)>;

// Every shape and way to start: float64 against the CPU's kernel, float32 under the law of fast kernels, and the same
// bits in both orders.
inline void expect_steps_match(const EmulatedScan& emulated, const CpuScan& cpu, const MakeInputs& inputs) {
  for (const int64_t length : {1, 2, 13}) {
    for (const int64_t hidden : {1, 3, 17, 129}) {
      for (const int64_t batch : {1, 3}) {
        for (const int variant : {0, 1, 2}) {  // plain, with a state, with a state and positions
          const auto label = ::testing::PrintToString(std::make_tuple(batch, length, hidden, variant));
          const at::Tensor positions = variant == 2 ? mixed_positions(batch, length) : at::Tensor();
          const Tensors in = inputs(batch, length, hidden, variant > 0, at::kDouble);
          const Tensors cotangents = random_like(cpu(false, positions)(in));
          const Evaluation exact = evaluate(cpu(false, positions), in, cotangents);
          const Evaluation ours = emulated(in, cotangents, positions, cuda::Order::kForwards);
          expect_close(ours.outputs, exact.outputs, 1e-12, "double outputs " + label);
          expect_close(ours.gradients, exact.gradients, 1e-12, "double gradients " + label);
          const Tensors in_float = cast(in, at::kFloat), cotangents_float = cast(cotangents, at::kFloat);
          const Evaluation rounded =
              evaluate(cpu(false, positions), cast(in_float, at::kDouble), cast(cotangents_float, at::kDouble));
          const Evaluation plain = evaluate(cpu(true, positions), in_float, cotangents_float);
          const Evaluation fast = emulated(in_float, cotangents_float, positions, cuda::Order::kForwards);
          const Evaluation again = emulated(in_float, cotangents_float, positions, cuda::Order::kBackwards);
          expect_lawful(fast.outputs, plain.outputs, rounded.outputs, 2, "float outputs " + label);
          expect_lawful(fast.gradients, plain.gradients, rounded.gradients, 3, "float gradients " + label);
          expect_same_bits(fast.outputs, again.outputs, "outputs, other order " + label);
          expect_same_bits(fast.gradients, again.gradients, "gradients, other order " + label);
        }
      }
    }
  }
}

// A two-byte dtype is rounded where it is read and written only: all is that of float32, with the output rounded.
inline void expect_steps_take_halves(const EmulatedScan& emulated, const CpuScan& cpu, const MakeInputs& inputs) {
  const at::Tensor positions = mixed_positions(3, 14);
  for (const auto dtype : {at::kBFloat16, at::kHalf}) {
    const Tensors in = inputs(3, 14, 20, true, dtype), wide = cast(in, at::kFloat);
    Tensors cotangents = random_like(cpu(false, positions)(wide));
    cotangents[0] = cotangents[0].to(dtype);
    const Evaluation ours = emulated(in, cotangents, positions, cuda::Order::kForwards);
    const Evaluation ours_wide = emulated(wide, cast(cotangents, at::kFloat), positions, cuda::Order::kForwards);
    const Evaluation theirs = evaluate(cpu(false, positions), wide, cast(cotangents, at::kFloat));
    Tensors rounded = ours_wide.outputs;
    rounded[0] = rounded[0].to(dtype);
    expect_same_bits(ours.outputs, rounded, "outputs");
    expect_same_bits(ours.gradients, ours_wide.gradients, "gradients");
    expect_close(ours_wide.outputs, theirs.outputs, 2e-6, "outputs");
    expect_close(ours_wide.gradients, theirs.gradients, 2e-6, "gradients");
  }
}

// Strides of gates and of the gradient of y (that of a sum has none), no row, no token.
inline void expect_steps_take_any_layout(const EmulatedScan& emulated, const CpuScan& cpu, const MakeInputs& inputs) {
  const Tensors in = inputs(3, 5, 7, true, at::kDouble);
  const Tensors shapes = cpu(false, {})(in);
  Tensors ones, expanded;
  for (const auto& t : shapes) {
    ones.push_back(at::ones(t.sizes(), t.options()));
    expanded.push_back(at::ones({1}, t.options()).expand(t.sizes()));
  }
  const Evaluation plain = emulated(in, ones, {}, cuda::Order::kForwards);
  for (const at::Tensor& gates :
       {in[0].transpose(0, 1).contiguous().transpose(0, 1), in[0].transpose(1, 2).contiguous().transpose(1, 2),
        at::cat({in[0], in[0]}, 2).slice(2, 0, in[0].size(2))}) {
    Tensors strided = in;
    strided[0] = gates;
    strided[1] = in[1].t().contiguous().t();
    const Evaluation other = emulated(strided, expanded, {}, cuda::Order::kForwards);
    expect_same_bits(other.outputs, plain.outputs, "strided");
    expect_same_bits(other.gradients, plain.gradients, "strided");
  }
  for (const auto& [batch, length] : std::vector<std::pair<int64_t, int64_t>>{{0, 4}, {3, 0}}) {
    const Tensors none = inputs(batch, length, 7, true, at::kDouble);
    const Tensors cotangents = random_like(cpu(false, {})(none));
    const Evaluation exact = evaluate(cpu(false, {}), none, cotangents);
    const Evaluation ours = emulated(none, cotangents, {}, cuda::Order::kForwards);
    expect_close(ours.outputs, exact.outputs, 0.0, "outputs of nothing");
    expect_close(ours.gradients, exact.gradients, 0.0, "gradients of nothing");
  }
}

// Of the gates, the first input.
inline void expect_steps_ignore_padding(const EmulatedScan& emulated, const CpuScan& cpu, const MakeInputs& inputs) {
  const at::Tensor positions = mixed_positions(3, 20);
  const Tensors in = inputs(3, 20, 5, true, at::kDouble);
  Tensors holed = in;
  holed[0] = in[0].masked_fill(positions.lt(0).unsqueeze(2), std::numeric_limits<double>::quiet_NaN());
  const Tensors cotangents = random_like(cpu(false, positions)(in));
  const Evaluation a = emulated(in, cotangents, positions, cuda::Order::kForwards);
  const Evaluation b = emulated(holed, cotangents, positions, cuda::Order::kForwards);
  expect_same_bits(b.outputs, a.outputs, "outputs");
  expect_same_bits(b.gradients, a.gradients, "gradients");
}

}  // namespace hippodrome::scan_checks

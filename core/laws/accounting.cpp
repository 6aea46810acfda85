#include <ATen/core/grad_mode.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "core/laws/specimen.h"
#include "core/tensor/flop_meter.h"
#include "core/tensor/matmul.h"
#include "core/tensor/memory_meter.h"

// Laws about what a layer says of itself: the size of its state, its cost.
namespace hippodrome::law_checks {
namespace {

// FLOPs of a matrix product that LibTorch reports: 2·m·n·k, by the shapes of its operands.
std::unique_ptr<at::ObserverContext> count_product(const at::RecordFunction& call) {
  FlopMeter* meter = FlopMeter::active();
  const std::string_view name = call.name();
  const auto inputs = call.inputs();
  const auto operand = [&](size_t i) { return inputs[i].toTensor(); };
  if (!meter) return nullptr;
  if (name == "aten::mm" || name == "aten::bmm" || name == "aten::mv") {
    meter->add(2.0 * static_cast<double>(operand(0).numel()) *
               static_cast<double>(name == "aten::mv" ? 1 : operand(1).size(-1)));
  } else if (name == "aten::addmm" || name == "aten::baddbmm" || name == "aten::addmv") {
    meter->add(2.0 * static_cast<double>(operand(1).numel()) *
               static_cast<double>(name == "aten::addmv" ? 1 : operand(2).size(-1)));
  }
  return nullptr;
}

// Counts products on this thread as long as it lives.
class ProductCounter {
 public:
  ProductCounter()
      : handle_(at::addThreadLocalCallback(
            at::RecordFunctionCallback(count_product).needsInputs(true).scopes({at::RecordScope::FUNCTION}))) {}
  ~ProductCounter() { at::removeCallback(handle_); }

 private:
  at::CallbackHandle handle_;
};

// LibTorch's own record of calls sees the products of one of the matrix libraries only.
class OnRecordedLibrary {
 public:
  OnRecordedLibrary() { set_matrix_library(MatrixLibrary::kMkl); }
  ~OnRecordedLibrary() { set_matrix_library(before_); }

 private:
  const MatrixLibrary before_ = matrix_library();
};

int64_t memory_length(const Layer& layer) { return layer.traits().needs_memory ? kMemoryLength : 0; }

bool has_kernel_key(const LawSubject& subject) {
  DescribeFields fields;
  (*subject.registry->layer(subject.layer))->describe(fields);
  return std::any_of(fields.result.begin(), fields.result.end(),
                     [](const FieldDescription& f) { return f.key == "kernel"; });
}

}  // namespace

// State::bytes() after n tokens equals the declared size, and grows as declared.
LawResult state_bytes(const LawSubject& subject) {
  const at::NoGradGuard no_grad;
  const auto layer = make_layer(subject, at::kFloat);
  Worst worst;
  std::vector<int64_t> sizes;
  for (const int64_t length : {1, 2, 64}) {
    State state = fresh_state(subject, *layer, 2, at::kFloat);
    run_plain(*layer, random_tensor(subject, {2, length, subject.width}, at::kFloat, "x"), &state);
    sizes.push_back(state.bytes());
    const auto declared = layer->cost({2, length, 0, 4, memory_length(*layer)}).state_bytes;
    worst.add(std::abs(static_cast<double>(state.bytes() - declared)),
              "measured " + std::to_string(state.bytes()) + " after " + std::to_string(length) + " tokens, declared " +
                  std::to_string(declared));
  }
  const StateGrowth growth = layer->traits().state_growth;
  const bool constant = sizes[0] == sizes[2] && sizes[0] > 0, none = sizes[2] == 0;
  const bool linear = sizes[1] > sizes[0] && sizes[2] - sizes[0] == 63 * (sizes[1] - sizes[0]);
  const bool as_declared = growth == StateGrowth::kNone ? none : growth == StateGrowth::kConstant ? constant : linear;
  if (!as_declared) worst.add(INFINITY, "the state does not grow as the traits say");
  return worst.result("state bytes", 0.0, "bytes");
}

// Where the state is constant, tensor memory alive after token t + 1 equals that after token t.
LawResult live_bytes(const LawSubject& subject) {
  const at::NoGradGuard no_grad;
  const auto layer = make_layer(subject, at::kFloat);
  if (layer->traits().state_growth == StateGrowth::kLinear)
    return not_applicable("live bytes", "the state grows with the sequence");
  if (subject.device != at::kCPU) return not_applicable("live bytes", "measured on the CPU");
  State state = fresh_state(subject, *layer, 2, at::kFloat);
  const auto after_token = [&](int64_t t) {
    run_plain(*layer, random_tensor(subject, {2, 1, subject.width}, at::kFloat, "x"), &state, t);
    return memory_meter::current_bytes();
  };
  after_token(0);
  const int64_t before = after_token(1);
  if (before == 0) return not_applicable("live bytes", "the memory meter is not installed in this process");
  Worst worst;
  for (int64_t t = 2; t < 5; ++t) {
    worst.add(std::abs(static_cast<double>(after_token(t) - before)), "after token " + std::to_string(t));
  }
  return worst.result("live bytes", 0.0, "bytes");
}

// Declared FLOPs equal those counted on the reference path: products by LibTorch's record of calls, sequence operators
// by running their loops on a counting scalar.
LawResult cost(const LawSubject& subject) {
  if (subject.device != at::kCPU) return not_applicable("cost", "counted on the CPU");
  const at::NoGradGuard no_grad;
  const OnRecordedLibrary recorded;
  const auto layer = make_layer(subject, at::kDouble, has_kernel_key(subject) ? "reference" : "");
  Worst worst;
  for (const auto& [length, context] : {std::pair<int64_t, int64_t>{7, 0}, {1, 5}, {33, 4}}) {
    State state;
    const Memory memory =
        law_memory(2, at::TensorOptions().dtype(at::kDouble).device(subject.device), 0, /*padded=*/false);
    if (context > 0) {
      state = fresh_state(subject, *layer, 2, at::kDouble, 0, &memory);
      run_plain(*layer, random_tensor(subject, {2, context, subject.width}, at::kDouble, "context"), &state);
    }
    const Tensor x = random_tensor(subject, {2, length, subject.width}, at::kDouble, "x");
    FlopMeter meter;
    {
      const ProductCounter products;
      if (context == 0)
        state = fresh_state(subject, *layer, 2, at::kDouble, 0, &memory);  // reading an encoder's output counts
      run_plain(*layer, x, state.empty() ? nullptr : &state, context);
    }
    const double declared = layer->cost({2, length, context, 8, memory_length(*layer)}).flops;
    worst.add(std::abs(meter.flops() - declared) / std::max(1.0, declared),
              "counted " + std::to_string(static_cast<int64_t>(meter.flops())) + ", declared " +
                  std::to_string(static_cast<int64_t>(declared)) + " for " + std::to_string(length) +
                  " tokens behind " + std::to_string(context));
  }
  return worst.result("cost", 0.0, "relative difference");
}

}  // namespace hippodrome::law_checks

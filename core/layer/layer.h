#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/layer/memory.h"
#include "core/layer/parameters.h"
#include "core/layer/state.h"
#include "core/tensor/tensor.h"

// The one interface. A token mixer (attention, scan, recurrence) and a channel mixer (MLP, RWKV's channel-mix, which
// has a state) are the same thing: a Layer. Shapes: B rows, L tokens of this call, D width in, E width out.
namespace hippodrome {

// Where what is not the output goes: auxiliary losses, router loads, attention weights.
class Observer {
 public:
  virtual ~Observer() = default;
  // `what` names the quantity, e.g. "attention_weights"; `layer` is the site's name.
  virtual void report(std::string_view layer, std::string_view what, const Tensor& value) = 0;
  // A scalar, with its history, that training adds to the model's own loss times `weight` (0: only watched).
  virtual void auxiliary_loss(std::string_view layer, std::string_view what, const Tensor& value, double weight);
};

// What a layer may see besides x.
struct Context {
  // [B, L] int64 on x's device: the token's position in its sequence. -1 is padding; 0 starts a sequence, whatever the
  // state. Layers count nothing: this one tensor stands for masks, lengths, segment ids and cache offsets.
  Tensor positions;
  // False: no padding, and every row is one run of consecutive positions that continues the state (all 0, 1, 2, … on a
  // fresh one). Known on the host, so that the plain case costs no look at `positions`.
  bool ragged = false;
  bool training = false;
  Observer* observer = nullptr;
  // The encoder's output, in the rows of x; null in decoder-only models. Layers that attend to it and carry a state
  // keep in it what they need of the memory, and read nothing here.
  const Memory* memory = nullptr;
  // Names this call's random draws (dropout), which are a function of it, the site and the element: a repeated call
  // draws alike.
  uint64_t draw = 0;

  // `positions` for ops, which take None for plain rows.
  OptionalTensor op_positions() const { return ragged ? OptionalTensor(positions) : std::nullopt; }
  // Plain positions start, start + 1, …, for all rows.
  static Context plain(int64_t rows, int64_t length, int64_t start, at::Device device);
};

enum class KernelClass { kReference, kLibrary, kFused };
std::string_view kernel_class_name(KernelClass kernel_class);  // "reference", "library", "fused"

enum class StateGrowth { kNone, kConstant, kLinear };

// What a layer is. The conformance suite (core/laws) holds each layer to what it says here.
struct Traits {
  bool causal = true;
  // Handles ragged positions itself. Otherwise core runs its segments apart (core/layer/segments.h).
  bool packs = false;
  StateGrowth state_growth = StateGrowth::kNone;
  KernelClass kernel_class = KernelClass::kLibrary;
  // Tokens behind which an output no longer depends on an input, itself counted (a sliding window); 0: none.
  int64_t window = 0;
  // Attends to an encoder's output, without which it cannot run.
  bool needs_memory = false;
  // Looks at values on the host in every call, which a recorded step (core/inference/recorded_step.h) cannot repeat.
  bool reads_on_host = false;
};

// A call to be costed: `rows` sequences, each with `context` tokens already in the state and `length` new ones.
struct Workload {
  int64_t rows = 1;
  int64_t length = 1;
  int64_t context = 0;
  int64_t element_size = 4;   // bytes of an activation
  int64_t memory_length = 0;  // source tokens, for layers that attend to an encoder's output
};

// Declared cost of one forward call. FLOPs count matrix products (2mnk) and the sequence operator on its reference
// path; element-wise maps and norms are left out, as is usual in the field.
struct Cost {
  double flops = 0.0;
  double bytes_moved = 0.0;  // activations and parameters read and written once
  int64_t state_bytes = 0;   // of the state after the call, all rows
  int64_t saved_bytes = 0;   // kept for backward, all rows; parameters not counted
  Cost& operator+=(const Cost& other);
};

// Where a layer stands: several families initialise by depth.
struct Site {
  std::string name;          // "blocks.3.mixer"
  int64_t width = 0;         // D
  int64_t output_width = 0;  // E
  int64_t repeat = 0;        // which repetition of the model's pattern (RWKV's layer l) …
  int64_t repeats = 1;       // … of how many (RWKV's L)
  int64_t blocks = 1;        // residual blocks in the model (GPT-2's 2L, Mamba's L)
  int64_t memory_width = 0;  // M, of the encoder's output; 0: there is no encoder
};

class Layer {
 public:
  virtual ~Layer() = default;

  // x [B, L, D] -> y [B, L, E] in x's dtype (float32, float64 or bfloat16: the compute dtype). With a state: continues
  // from it and leaves in it what the next token needs; null: starts fresh and keeps nothing. L may be 1: decoding is
  // the same call.
  virtual Tensor forward(const Tensor& x, const Context& context, State* state) = 0;
  // Empty unless the layer carries something.
  virtual State initial_state(const StateSpec& spec) const;
  virtual Traits traits() const = 0;
  virtual Cost cost(const Workload& workload) const = 0;
  // Of the parameters, those that one token's output depends on through its computation: all of them, but for a mixture
  // of experts, of which a token meets a few.
  virtual int64_t active_parameters() const;

  Parameters& parameters() { return parameters_; }
  const Parameters& parameters() const { return parameters_; }

 protected:
  Parameters parameters_;
};

}  // namespace hippodrome

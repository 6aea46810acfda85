#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/layer/memory.h"
#include "core/tensor/tensor.h"

namespace hippodrome {

// How an entry of a State grows and what beam search must do with it.
enum class StateKind {
  kPerRow,     // [B, …], constant in the sequence length: an SSM state, (h, c), a convolution tail
  kPerToken,   // append-only along one dimension: a KV cache
  kPerSource,  // belongs to the source sequence, shared by all hypotheses on it: projected encoder memory
};

// For making an initial state.
struct StateSpec {
  int64_t rows = 1;                // B
  int64_t capacity = 0;            // tokens to reserve for per-token entries; they grow by doubling beyond it
  at::TensorOptions options;       // dtype of activations, and device
  const Memory* memory = nullptr;  // the encoder's output, of as many rows; for layers that attend to it

  // For recurrent entries, which stay float32 or wider.
  at::TensorOptions recurrent() const { return options.dtype() == at::kDouble ? options : options.dtype(at::kFloat); }
};

// What a layer carries from one token to the next: named tensors. Move-only, since a copy would alias; `clone` copies.
// In grad mode entries are replaced, never written, so that gradients flow through them; in inference they are written
// in place, at fixed addresses. Two states are equal when their continuations are.
class State {
 public:
  State() = default;
  State(State&&) = default;
  State& operator=(State&&) = default;

  bool has(std::string_view name) const { return entries_.find(name) != entries_.end(); }
  bool empty() const { return entries_.empty(); }
  StateKind kind(std::string_view name) const { return at(name).kind; }

  // Declares an entry with its initial value. `token_dimension` and the initial number of valid tokens (0) are for
  // kPerToken.
  void declare(std::string name, StateKind kind, Tensor value, int64_t token_dimension = 0);

  // The valid content: for kPerToken the tokens appended so far.
  Tensor get(std::string_view name) const;
  // Of a kPerSource entry [sources, …]: how many rows share each source when they stand in equal consecutive runs, as
  // the hypotheses of a beam search do; 0 when they do not.
  int64_t rows_per_source(std::string_view name) const;
  // A kPerSource entry's value for every row, copied: [B, …].
  Tensor expanded(std::string_view name) const;
  // Replaces a kPerRow or kPerSource entry's content (same shape).
  void put(std::string_view name, const Tensor& value);
  // Appends tokens to a kPerToken entry along its token dimension and returns all valid content.
  Tensor append(std::string_view name, const Tensor& value);
  // Tokens appended to the kPerToken entry.
  int64_t tokens(std::string_view name) const;

  State clone() const;
  State detach() const;
  // The state of the given rows, in that order ([n] int64, on any device): beam reordering, or cutting a batch. A copy,
  // but of kPerSource entries only the rows' sources change: their values are shared, less the sources that no row is
  // left on.
  State select(const Tensor& rows) const;
  // Writes the rows of `source` ([n] of them) over the given rows of this one; only for states of kPerRow
  // entries.
  void assign_rows(const Tensor& rows, const State& source);

  int64_t bytes() const;     // of valid content
  int64_t reserved() const;  // of all memory held

  // Valid contents by name, for saving; and the way back into a state of the same declaration.
  std::map<std::string, Tensor> tensors() const;
  void restore(const std::map<std::string, Tensor>& tensors);

 private:
  struct Entry {
    StateKind kind;
    Tensor value;  // kPerToken: capacity along token_dimension, of which `tokens` are valid
    int64_t token_dimension = 0;
    int64_t tokens = 0;
    std::vector<int64_t> sources;  // kPerSource: of each row, which row of `value` it reads
    Tensor valid() const;
    void select_sources(const Tensor& rows);
  };
  const Entry& at(std::string_view name) const;

  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace hippodrome

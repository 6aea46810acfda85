#pragma once

#include "core/layer/layer.h"
#include "core/layer/linear.h"

namespace hippodrome {

// What an attending decoder keeps of its source: what attention makes of the encoder's output once. `rows_per_source`
// consecutive rows of the decoder read each row of it.
struct SourceMemory {
  Tensor keys;       // additive: [sources, S, A], dot products: [sources, H, S, hd]; undefined: nothing is attended to
  Tensor values;     // [sources, S, M], or as the keys
  Tensor positions;  // [sources, S] int64; undefined: no padding
  int64_t rows_per_source = 1;

  OptionalTensor op_positions() const { return positions.defined() ? OptionalTensor(positions) : std::nullopt; }

  // Of additive attention: the keys that `key` makes of the memory, which is the values.
  static SourceMemory read(const Memory& memory, const Linear& key);
  // As per-source entries of a state, and back.
  void declare(State& state) const;
  static SourceMemory from(const State& state);
};

// x with zeros at padding, which may hold anything: as zeros it cannot reach a gradient as a NaN.
Tensor without_padding(const Tensor& x, const Context& context);

// The last token of every row of an encoder's output, [B, M].
Tensor last_of(const Memory& memory);

// The state before each token: `first` [B, n] before a row's first, then s [B, L, n] of the last token that is no
// padding. [B, L, n] in s's dtype.
Tensor shifted_states(const Tensor& s, const Tensor& first, const Context& context);

// The positions of a target's tokens as attentive_scan takes them: its first token continues the state that was made of
// the source.
OptionalTensor target_positions(const Context& context);

// The weights of additive attention from queries [B, L, A], reported as "source_attention" [B, 1, L, S].
void report_source_attention(const Context& context, const std::string& layer, const Tensor& queries,
                             const Tensor& score, const SourceMemory& source);

}  // namespace hippodrome

#pragma once

#include "core/layer/layer.h"

namespace hippodrome {

// What a recurrent decoder keeps of its source: the encoder's output, and the keys that additive attention makes of it
// once. `rows_per_source` consecutive rows of the decoder read each row of it.
struct SourceMemory {
  Tensor keys;       // [sources, S, A]; undefined where nothing is attended to
  Tensor values;     // [sources, S, M]
  Tensor positions;  // [sources, S] int64; undefined: no padding
  int64_t rows_per_source = 1;

  OptionalTensor op_positions() const { return positions.defined() ? OptionalTensor(positions) : std::nullopt; }

  // As per-source entries of a state, and back.
  void declare(State& state) const;
  static SourceMemory from(const State& state);
};

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

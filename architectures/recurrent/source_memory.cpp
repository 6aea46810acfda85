#include "architectures/recurrent/source_memory.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cummax.h>
#include <ATen/ops/where.h>

#include "architectures/recurrent/additive_attention/additive_attention.h"

namespace hippodrome {
namespace source_memory_detail {
namespace {

constexpr char kKeys[] = "keys", kValues[] = "values", kPositions[] = "positions";

}  // namespace
}  // namespace source_memory_detail

SourceMemory SourceMemory::read(const Memory& memory, const Linear& key) {
  return {key.forward(memory.values), memory.values, memory.ragged ? memory.positions : Tensor()};
}

void SourceMemory::declare(State& state) const {
  using namespace source_memory_detail;
  if (keys.defined()) state.declare(kKeys, StateKind::kPerSource, keys);
  state.declare(kValues, StateKind::kPerSource, values);
  if (positions.defined()) state.declare(kPositions, StateKind::kPerSource, positions);
}

SourceMemory SourceMemory::from(const State& state) {
  using namespace source_memory_detail;
  const int64_t run = state.rows_per_source(kValues);
  const auto value = [&](const char* name) {
    if (!state.has(name)) return Tensor();
    return run > 0 ? state.get(name) : state.expanded(name);
  };
  return {value(kKeys), value(kValues), value(kPositions), run > 0 ? run : 1};
}

Tensor without_padding(const Tensor& x, const Context& context) {
  return context.ragged ? x.masked_fill(context.positions.lt(0).unsqueeze(-1), 0.0) : x;
}

Tensor last_of(const Memory& memory) {
  if (!memory.ragged) return memory.values.select(1, memory.length() - 1);
  const Tensor last = memory.positions.ge(0).sum(1).sub(1).clamp_min(0).view({-1, 1, 1});
  return memory.values.gather(1, last.expand({memory.rows(), 1, memory.width()})).select(1, 0);
}

Tensor shifted_states(const Tensor& s, const Tensor& first, const Context& context) {
  const int64_t length = s.size(1);
  const Tensor before = first.to(s.scalar_type()).unsqueeze(1);
  if (length == 1) return before;
  if (!context.ragged) return at::cat({before, s.narrow(1, 0, length - 1)}, 1);
  // For each token the place, counted from 1, of the last one before it that is no padding; 0: none.
  const Tensor place = at::arange(length, context.positions.options()).unsqueeze(0);
  const Tensor counted = at::where(context.positions.lt(0), place.mul(0), place.add(1));
  const Tensor last = std::get<0>(at::cummax(counted, 1)).narrow(1, 0, length - 1);
  const Tensor all = at::cat({before, s}, 1);
  const Tensor rest = all.gather(1, last.unsqueeze(-1).expand({s.size(0), length - 1, s.size(2)}));
  return at::cat({before, rest}, 1);
}

OptionalTensor target_positions(const Context& context) {
  if (!context.ragged) return std::nullopt;
  return at::where(context.positions.eq(0), context.positions.add(1), context.positions);
}

void report_source_attention(const Context& context, const std::string& layer, const Tensor& queries,
                             const Tensor& score, const SourceMemory& source) {
  const int64_t rows = queries.size(0), length = queries.size(1), sources = source.values.size(0);
  const Tensor weights = additive_attention_weights(queries.reshape({sources, source.rows_per_source * length, -1}),
                                                    source.keys, score, source.op_positions());
  context.observer->report(layer, "source_attention", weights.view({rows, 1, length, -1}));
}

}  // namespace hippodrome

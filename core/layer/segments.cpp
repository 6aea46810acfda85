#include "core/layer/segments.h"

#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <map>
#include <tuple>

namespace hippodrome {
namespace {

struct Segment {
  int64_t row, begin, end;
};

// What segments must share to run as one plain batch: length, whether they start a sequence, and the first position.
using SegmentKind = std::tuple<int64_t, bool, int64_t>;

// Runs of tokens without padding and without a new sequence inside, as waves: a row's segments must run in order, since each
// leaves the state that the next continues, so a wave holds one segment of a row at most. A run that does not begin with
// position 0 continues the row's state.
std::vector<std::map<SegmentKind, std::vector<Segment>>> waves_of(const Tensor& positions) {
  const Tensor host = positions.to(at::kCPU).contiguous();
  const int64_t rows = host.size(0), length = host.size(1);
  std::vector<std::map<SegmentKind, std::vector<Segment>>> waves;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t* p = host.const_data_ptr<int64_t>() + row * length;
    size_t wave = 0;
    for (int64_t begin = 0; begin < length;) {
      if (p[begin] < 0) {
        ++begin;
        continue;
      }
      int64_t end = begin + 1;
      while (end < length && p[end] > 0) ++end;
      if (wave == waves.size()) waves.emplace_back();
      waves[wave++][{end - begin, p[begin] == 0, p[begin]}].push_back({row, begin, end});
      begin = end;
    }
  }
  return waves;
}

}  // namespace

Tensor run_layer(Layer& layer, const Tensor& x, const Context& context, State* state) {
  if (!context.ragged || layer.traits().packs) {
    return layer.forward(x, context, state);
  }
  // Without a state, a segment behind padding still continues the one before it.
  State own;
  if (state == nullptr) {
    own = layer.initial_state({x.size(0), 0, x.options()});
    state = &own;
  }
  const bool carries = !state->empty();
  Tensor y;
  for (const auto& wave : waves_of(context.positions)) {
    for (const auto& [kind, segments] : wave) {
      const auto& [length, fresh, first_position] = kind;
      std::vector<Tensor> slices;
      std::vector<int64_t> rows;
      for (const Segment& segment : segments) {
        slices.push_back(x[segment.row].slice(0, segment.begin, segment.end));
        rows.push_back(segment.row);
      }
      const Tensor row_index = at::tensor(rows, x.options().dtype(at::kLong));
      Context plain = Context::plain(static_cast<int64_t>(rows.size()), length, first_position, x.device());
      plain.training = context.training;
      plain.observer = context.observer;
      State part;
      if (carries) {
        const StateSpec spec{static_cast<int64_t>(rows.size()), 0, x.options()};
        part = fresh ? layer.initial_state(spec) : state->select(row_index);
      }
      const Tensor out = layer.forward(at::stack(slices), plain, carries ? &part : nullptr);
      if (carries) state->assign_rows(row_index, part);
      if (!y.defined()) y = at::zeros({x.size(0), x.size(1), out.size(2)}, out.options());
      for (size_t i = 0; i < segments.size(); ++i) {
        y[segments[i].row].slice(0, segments[i].begin, segments[i].end).copy_(out[static_cast<int64_t>(i)]);
      }
    }
  }
  TORCH_CHECK(y.defined(), "a batch of nothing but padding has no output width");
  return y;
}

}  // namespace hippodrome

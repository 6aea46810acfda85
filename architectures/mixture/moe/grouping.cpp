#include "architectures/mixture/moe/grouping.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <torch/csrc/autograd/custom_function.h>

namespace hippodrome {
namespace moe_detail {
namespace {

// x's rows at `index`, which takes each row `copies` times; `inverse` says where copy k of row t went, at t · copies + k.
// LibTorch's own gradient of index_select adds row by row; this one gathers the copies and sums them in order.
struct GatherRows : torch::autograd::Function<GatherRows> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x, const Tensor& index,
                        const Tensor& inverse, int64_t copies) {
    context->save_for_backward({inverse});
    context->saved_data["copies"] = copies;
    return x.index_select(0, index);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const int64_t copies = context->saved_data["copies"].toInt();
    Tensor dx = gradients[0].index_select(0, context->get_saved_variables()[0]);
    if (copies > 1) dx = dx.view({-1, copies, dx.size(1)}).sum(1);
    return {dx, Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace
}  // namespace moe_detail

Grouping group_by_expert(const Tensor& experts, int64_t count) {
  const Tensor host = experts.to(at::kCPU).contiguous();
  const int64_t total = host.numel(), per_token = host.size(1);
  const int64_t* expert = host.const_data_ptr<int64_t>();
  Grouping grouping;
  grouping.counts.assign(static_cast<size_t>(count), 0);
  for (int64_t slot = 0; slot < total; ++slot) ++grouping.counts[static_cast<size_t>(expert[slot])];
  std::vector<int64_t> next(static_cast<size_t>(count), 0);  // row of the expert's next slot
  for (size_t e = 1; e < next.size(); ++e) next[e] = next[e - 1] + grouping.counts[e - 1];
  // One allocation, and one copy where the device is another.
  Tensor table = at::empty({3, total}, host.options());
  int64_t* slots = table.mutable_data_ptr<int64_t>();
  int64_t *tokens = slots + total, *rows = tokens + total;
  for (int64_t slot = 0; slot < total; ++slot) {
    const int64_t row = next[static_cast<size_t>(expert[slot])]++;
    slots[row] = slot;
    tokens[row] = slot / per_token;
    rows[slot] = row;
  }
  table = table.to(experts.device());
  grouping.slots = table[0];
  grouping.tokens = table[1];
  grouping.rows = table[2];
  return grouping;
}

Tensor dispatch(const Tensor& x, const Grouping& grouping) {
  const int64_t copies = x.size(0) > 0 ? grouping.rows.numel() / x.size(0) : 1;
  return moe_detail::GatherRows::apply(x, grouping.tokens, grouping.rows, copies);
}

Tensor combine(const Tensor& y, const Tensor& weights, const Grouping& grouping) {
  const Tensor by_slot = moe_detail::GatherRows::apply(y, grouping.rows, grouping.slots, int64_t{1});
  return by_slot.view({weights.size(0), weights.size(1), y.size(1)})
      .mul(weights.to(y.scalar_type()).unsqueeze(-1))
      .sum(1);
}

}  // namespace hippodrome

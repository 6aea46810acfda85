#include "architectures/mixture/moe/router.h"

#include <ATen/ops/bincount.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/topk.h>

namespace hippodrome {
namespace moe_detail {
namespace {

// [n]: how often each expert was chosen.
Tensor choices(const Tensor& logits, const Tensor& experts) {
  return at::bincount(experts.flatten(), {}, logits.size(1)).to(logits.scalar_type());
}

}  // namespace
}  // namespace moe_detail

Routing route(const Tensor& logits, int64_t top_k, Router router) {
  const auto [chosen, experts] = at::topk(logits, top_k, /*dim=*/-1);
  if (router == Router::kMixtral) return {experts, at::softmax(chosen, -1)};
  return {experts, at::softmax(logits, -1).gather(-1, experts)};
}

Tensor balance_loss(const Tensor& logits, const Tensor& experts) {
  const auto tokens = static_cast<double>(logits.size(0));
  const Tensor probability = at::softmax(logits, -1).mean({0});
  return moe_detail::choices(logits, experts).mul(probability).sum().mul(static_cast<double>(logits.size(1)) / tokens);
}

Tensor router_load(const Tensor& logits, const Tensor& experts) {
  return moe_detail::choices(logits, experts).div(static_cast<double>(experts.numel()));
}

}  // namespace hippodrome

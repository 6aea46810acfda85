#include "core/inference/source_attention.h"

namespace hippodrome {

void SourceAttention::report(std::string_view, std::string_view what, const Tensor& value) {
  if (what != "source_attention") return;  // [B, H, L, S]
  const Tensor mean = value.select(2, value.size(2) - 1).mean(1).to(at::kFloat).to(at::kCPU);
  sum_ = layers_ == 0 ? mean : sum_.add(mean);
  ++layers_;
}

std::vector<float> SourceAttention::row(int64_t row) const {
  const Tensor mean = sum_[row].div(static_cast<double>(layers_)).contiguous();
  const float* data = mean.const_data_ptr<float>();
  return {data, data + mean.numel()};
}

}  // namespace hippodrome

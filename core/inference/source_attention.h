#pragma once

#include <vector>

#include "core/layer/layer.h"

namespace hippodrome {

// Keeps what layers report of their attention to the source during one call: the mean over layers and heads at the call's last
// token.
class SourceAttention final : public Observer {
 public:
  void report(std::string_view layer, std::string_view what, const Tensor& value) override;

  bool empty() const { return layers_ == 0; }
  void clear() { *this = SourceAttention(); }
  std::vector<float> row(int64_t row) const;

 private:
  Tensor sum_;  // [B, S]
  int64_t layers_ = 0;
};

}  // namespace hippodrome

#pragma once

#include <ATen/core/grad_mode.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "core/layer/parameters.h"

namespace hippodrome {

// What a layer computes from several parameters, a discretised system above all, kept between calls without gradients,
// so that decoding does not compute it again for every token. `Value` is copied out: tensors, cheap to copy.
template <class Value>
class DerivedSystem {
 public:
  DerivedSystem() = default;
  explicit DerivedSystem(std::vector<ParameterPtr> sources) : sources_(std::move(sources)) {}

  // derive() for the parameters' present values and this dtype. It runs anew under gradients, and whenever the dtype
  // changed or a parameter was replaced or written in place since.
  template <class Derive>
  Value get(at::ScalarType dtype, const Derive& derive) {
    bool known = known_ && dtype == dtype_;
    for (size_t i = 0; i < sources_.size(); ++i) {
      const Tensor& source = sources_[i]->value;
      // Inference tensors count no writes.
      if (at::GradMode::is_enabled() || source.is_inference()) return derive();
      known = known && seen_[i].is_same(source) && versions_[i] == source._version();
    }
    if (known) return value_;
    value_ = derive();
    dtype_ = dtype;
    known_ = true;
    seen_.clear();
    versions_.clear();
    for (const ParameterPtr& source : sources_) {
      seen_.push_back(source->value);
      versions_.push_back(source->value._version());
    }
    return value_;
  }

 private:
  std::vector<ParameterPtr> sources_;
  std::vector<Tensor> seen_;
  std::vector<int64_t> versions_;
  Value value_{};
  at::ScalarType dtype_ = at::kFloat;
  bool known_ = false;
};

}  // namespace hippodrome

#pragma once

#include <ATen/core/grad_mode.h>

#include <vector>

#include "core/tensor/tensor.h"

namespace hippodrome {

// What a layer computes from parameters alone, such as a discretised system: computed anew by every call that records
// gradients, otherwise kept until one of the parameters is written or replaced, or another dtype is asked for.
template <class T>
class Derived {
 public:
  // derive() in `dtype`; `sources` are the values that it reads, always the same ones in the same order.
  template <class Derive>
  T get(const std::vector<Tensor>& sources, at::ScalarType dtype, const Derive& derive) {
    bool known = sources_.size() == sources.size() && dtype_ == dtype;
    for (size_t i = 0; i < sources.size(); ++i) {
      if (at::GradMode::is_enabled() || sources[i].is_inference())
        return derive();  // inference tensors count no writes
      known = known && sources_[i].is_same(sources[i]) && versions_[i] == sources[i]._version();
    }
    if (known) return value_;
    value_ = derive();
    sources_ = sources;
    versions_.clear();
    for (const Tensor& source : sources) versions_.push_back(source._version());
    dtype_ = dtype;
    return value_;
  }

 private:
  T value_;
  at::ScalarType dtype_ = at::kFloat;
  std::vector<Tensor> sources_;
  std::vector<int64_t> versions_;
};

}  // namespace hippodrome

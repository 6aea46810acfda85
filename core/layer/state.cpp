#include "core/layer/state.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>

#include <algorithm>

namespace hippodrome {

Tensor State::Entry::valid() const {
  return kind == StateKind::kPerToken ? value.narrow(token_dimension, 0, tokens) : value;
}

const State::Entry& State::at(std::string_view name) const {
  const auto found = entries_.find(name);
  TORCH_CHECK(found != entries_.end(), "the state has no entry \"", std::string(name), "\"");
  return found->second;
}

void State::declare(std::string name, StateKind kind, Tensor value, int64_t token_dimension) {
  const bool inserted =
      entries_.emplace(std::move(name), Entry{kind, std::move(value), token_dimension, /*tokens=*/0}).second;
  TORCH_CHECK(inserted, "a state entry is declared twice");
}

Tensor State::get(std::string_view name) const { return at(name).valid(); }

int64_t State::tokens(std::string_view name) const { return at(name).tokens; }

void State::put(std::string_view name, const Tensor& value) {
  Entry& entry = const_cast<Entry&>(at(name));
  TORCH_CHECK(entry.kind != StateKind::kPerToken, "per-token entries are appended to");
  TORCH_CHECK(entry.value.sizes() == value.sizes(), "state entry \"", std::string(name), "\" has shape ",
              entry.value.sizes(), ", not ", value.sizes());
  if (at::GradMode::is_enabled()) {
    entry.value = value.to(entry.value.scalar_type());  // as the copy below does
  } else if (!entry.value.is_same(value)) {
    entry.value.copy_(value);
  }
}

Tensor State::append(std::string_view name, const Tensor& value) {
  Entry& entry = const_cast<Entry&>(at(name));
  TORCH_CHECK(entry.kind == StateKind::kPerToken, "only per-token entries are appended to");
  const int64_t dimension = entry.token_dimension, added = value.size(dimension), total = entry.tokens + added;
  if (at::GradMode::is_enabled()) {
    entry.value = at::cat({entry.valid(), value}, dimension);
  } else {
    if (total > entry.value.size(dimension)) {
      auto sizes = entry.value.sizes().vec();
      sizes[static_cast<size_t>(dimension)] = std::max(total, 2 * entry.value.size(dimension));
      Tensor grown = at::empty(sizes, entry.value.options());
      grown.narrow(dimension, 0, entry.tokens).copy_(entry.valid());
      entry.value = grown;
    }
    entry.value.narrow(dimension, entry.tokens, added).copy_(value);
  }
  entry.tokens = total;
  return entry.valid();
}

State State::clone() const {
  State copy;
  for (const auto& [name, entry] : entries_) {
    Entry cloned = entry;
    cloned.value = entry.value.clone();
    copy.entries_.emplace(name, std::move(cloned));
  }
  return copy;
}

State State::detach() const {
  State copy;
  for (const auto& [name, entry] : entries_) {
    Entry detached = entry;
    detached.value = entry.value.detach().clone();
    copy.entries_.emplace(name, std::move(detached));
  }
  return copy;
}

State State::select(const Tensor& rows) const {
  State selected;
  for (const auto& [name, entry] : entries_) {
    Entry chosen = entry;
    chosen.value = entry.value.index_select(0, rows);
    selected.entries_.emplace(name, std::move(chosen));
  }
  return selected;
}

void State::assign_rows(const Tensor& rows, const State& source) {
  for (auto& [name, entry] : entries_) {
    TORCH_CHECK(entry.kind != StateKind::kPerToken, "rows of a per-token state cannot be assigned one by one");
    const Tensor& value = source.at(name).value;
    if (at::GradMode::is_enabled()) {
      entry.value = entry.value.index_copy(0, rows, value);
    } else {
      entry.value.index_copy_(0, rows, value);
    }
  }
}

int64_t State::bytes() const {
  int64_t total = 0;
  for (const auto& [name, entry] : entries_) {
    total += entry.valid().numel() * static_cast<int64_t>(entry.value.element_size());
  }
  return total;
}

int64_t State::reserved() const {
  int64_t total = 0;
  for (const auto& [name, entry] : entries_) {
    total += static_cast<int64_t>(entry.value.nbytes());
  }
  return total;
}

std::map<std::string, Tensor> State::tensors() const {
  std::map<std::string, Tensor> result;
  for (const auto& [name, entry] : entries_) {
    result.emplace(name, entry.valid());
  }
  return result;
}

void State::restore(const std::map<std::string, Tensor>& tensors) {
  TORCH_CHECK(tensors.size() == entries_.size(), "a state with ", entries_.size(), " entries cannot be restored from ",
              tensors.size());
  for (auto& [name, entry] : entries_) {
    const auto found = tensors.find(name);
    TORCH_CHECK(found != tensors.end(), "the saved state lacks the entry \"", name, "\"");
    auto sizes = found->second.sizes().vec();
    if (entry.kind == StateKind::kPerToken && sizes.size() == static_cast<size_t>(entry.value.dim())) {
      sizes[static_cast<size_t>(entry.token_dimension)] = entry.value.size(entry.token_dimension);
    }
    TORCH_CHECK(entry.value.sizes() == at::IntArrayRef(sizes), "the saved state's \"", name, "\" has shape ",
                found->second.sizes(), ", which does not fit ", entry.value.sizes());
    entry.value = found->second.to(entry.value.options()).clone();
    entry.tokens = entry.kind == StateKind::kPerToken ? entry.value.size(entry.token_dimension) : 0;
  }
}

}  // namespace hippodrome

#include "core/layer/state.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <numeric>

namespace hippodrome {

Tensor State::Entry::valid() const {
  return kind == StateKind::kPerToken ? value.narrow(token_dimension, 0, tokens) : value;
}

void State::Entry::select_sources(const Tensor& rows) {
  const Tensor chosen = rows.to(at::kCPU).contiguous();
  const int64_t count = chosen.numel();
  const int64_t* row = chosen.const_data_ptr<int64_t>();
  // Sources keep their order of first use, so that runs of rows stay runs.
  std::vector<int64_t> kept, renumbered(static_cast<size_t>(value.size(0)), -1), result;
  for (int64_t i = 0; i < count; ++i) {
    TORCH_CHECK(row[i] >= 0 && row[i] < static_cast<int64_t>(sources.size()), "a state of ", sources.size(),
                " rows has no row ", row[i]);
    const int64_t source = sources[static_cast<size_t>(row[i])];
    int64_t& number = renumbered[static_cast<size_t>(source)];
    if (number < 0) {
      number = static_cast<int64_t>(kept.size());
      kept.push_back(source);
    }
    result.push_back(number);
  }
  const bool unchanged = static_cast<int64_t>(kept.size()) == value.size(0) && std::is_sorted(kept.begin(), kept.end());
  if (!unchanged) value = value.index_select(0, at::tensor(kept, at::kLong).to(value.device()));
  sources = std::move(result);
}

const State::Entry& State::at(std::string_view name) const {
  const auto found = entries_.find(name);
  TORCH_CHECK(found != entries_.end(), "the state has no entry \"", std::string(name), "\"");
  return found->second;
}

void State::declare(std::string name, StateKind kind, Tensor value, int64_t token_dimension) {
  Entry entry{kind, std::move(value), token_dimension, /*tokens=*/0, {}};
  if (kind == StateKind::kPerSource) {
    entry.sources.resize(static_cast<size_t>(entry.value.size(0)));
    std::iota(entry.sources.begin(), entry.sources.end(), 0);
  }
  const bool inserted = entries_.emplace(std::move(name), std::move(entry)).second;
  TORCH_CHECK(inserted, "a state entry is declared twice");
}

Tensor State::get(std::string_view name) const { return at(name).valid(); }

int64_t State::rows_per_source(std::string_view name) const {
  const Entry& entry = at(name);
  const auto rows = static_cast<int64_t>(entry.sources.size()), sources = entry.value.size(0);
  if (sources == 0 || rows % sources != 0) return 0;
  const int64_t run = rows / sources;
  for (int64_t row = 0; row < rows; ++row) {
    if (entry.sources[static_cast<size_t>(row)] != row / run) return 0;
  }
  return run;
}

Tensor State::expanded(std::string_view name) const {
  const Entry& entry = at(name);
  return entry.value.index_select(0, at::tensor(entry.sources, at::kLong).to(entry.value.device()));
}

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
    if (entry.kind == StateKind::kPerSource) {
      chosen.select_sources(rows);
    } else {
      chosen.value = entry.value.index_select(0, rows.to(entry.value.device()));
    }
    selected.entries_.emplace(name, std::move(chosen));
  }
  return selected;
}

void State::assign_rows(const Tensor& rows, const State& source) {
  for (auto& [name, entry] : entries_) {
    TORCH_CHECK(entry.kind == StateKind::kPerRow, "rows of a per-token or per-source state cannot be assigned one by one");
    const Tensor& value = source.at(name).value;
    if (at::GradMode::is_enabled()) {
      entry.value = entry.value.index_copy(0, rows.to(entry.value.device()), value);
    } else {
      entry.value.index_copy_(0, rows.to(entry.value.device()), value);
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

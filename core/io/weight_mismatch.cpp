#include "core/io/weight_mismatch.h"

#include <algorithm>

#include "core/base/text.h"

namespace hippodrome {
namespace weight_mismatch_detail {
namespace {

// More names than anyone reads; a whole checkpoint of the wrong family has hundreds.
constexpr size_t kMostListed = 40;

std::string shape_text(at::IntArrayRef shape) {
  std::vector<std::string> sizes;
  for (const int64_t size : shape) sizes.push_back(std::to_string(size));
  return "[" + join(sizes, ", ") + "]";
}

std::string listed(const char* what, const std::vector<std::string>& names) {
  if (names.empty()) return "";
  const size_t shown = std::min(names.size(), kMostListed);
  std::string text =
      std::string("; ") + what + ": " + join({names.begin(), names.begin() + static_cast<int64_t>(shown)}, ", ");
  // Names come from files: whatever they hold, this is one line.
  std::replace_if(
      text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; }, ' ');
  return shown < names.size() ? text + " and " + std::to_string(names.size() - shown) + " more" : text;
}

}  // namespace
}  // namespace weight_mismatch_detail

void WeightMismatch::add_misshapen(const std::string& name, at::IntArrayRef found, at::IntArrayRef wanted) {
  misshapen.push_back(name + " " + weight_mismatch_detail::shape_text(found) + " for " +
                      weight_mismatch_detail::shape_text(wanted));
}

absl::Status WeightMismatch::status(const std::string& where) const {
  using weight_mismatch_detail::listed;
  if (missing.empty() && misshapen.empty() && extra.empty()) return absl::OkStatus();
  return absl::DataLossError(where + " does not fit the model" + listed("missing", missing) +
                             listed("of another shape", misshapen) + listed("not in the model", extra));
}

}  // namespace hippodrome

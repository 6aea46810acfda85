#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include "architectures/huggingface/checkpoint.h"
#include "architectures/huggingface/folder.h"
#include "architectures/registry.h"
#include "core/io/safetensors.h"
#include "tests/fuzz/check.h"

namespace hippodrome {

inline const Registry& fuzz_registry() {
  static const Registry all = [] {
    Registry registry;
    register_all(registry);
    return registry;
  }();
  return all;
}

// `bytes`: a config.json, an index and a safetensors file, with a zero byte between them.
inline void fuzz_checkpoint(std::string_view bytes) {
  const auto part = [&] {
    const std::string_view text = bytes.substr(0, bytes.find('\0'));
    bytes.remove_prefix(std::min(bytes.size(), text.size() + 1));
    return text;
  };
  const std::string_view config = part(), index = part();
  if (const auto files = huggingface::read_index(index, "index.json"); !files.ok()) {
    fuzz_check_sentence(std::string(files.status().message()), "index.json: ");
  } else {
    for (const auto& [name, file] : *files) fuzz_check(file.find('/') == std::string::npos, "files lie beside the index");
  }
  const auto description = huggingface::describe(config, "config.json");
  if (!description.ok()) {
    fuzz_check_sentence(std::string(description.status().message()), "config.json: ");
    return;
  }
  // Time, not memory, grows with the number of layers of a model that is only described.
  if (description->config.repeats * static_cast<int64_t>(description->config.pattern.size()) > 64) return;
  const auto model = huggingface::make_model(*description, fuzz_registry());
  if (!model.ok()) {
    fuzz_check(model.status().message().find('\n') == std::string::npos, "errors are one line");
    return;
  }
  auto file = parse_safetensors(bytes, "m.safetensors");
  if (!file.ok()) return;
  size_t total = 0;
  for (const auto& [name, tensor] : file->tensors) total += static_cast<size_t>(tensor.numel());
  const absl::Status filled = huggingface::fill(*description->family, **model, file->tensors, "m.safetensors", at::kFloat);
  size_t held = 0;
  for (const ParameterPtr& parameter : (*model)->parameters().list()) {
    fuzz_check(parameter->value.is_meta() != filled.ok(), "parameters are allocated when all tensors fit");
    held += static_cast<size_t>(parameter->value.numel());
  }
  if (filled.ok()) {
    fuzz_check(held <= total, "a model holds no more than its file");
  } else {
    fuzz_check_sentence(std::string(filled.message()), "");
  }
}

}  // namespace hippodrome

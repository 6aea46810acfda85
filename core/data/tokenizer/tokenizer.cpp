#include "core/data/tokenizer/tokenizer.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "core/base/text.h"
#include "core/data/tokenizer/rwkv_vocabulary.h"
#include "core/data/tokenizer/sentencepiece.h"
#include "core/data/tokenizer/tokenizer_json.h"
#include "core/data/tokenizer/unicode.h"
#include "core/io/atomic_file.h"

namespace hippodrome {
namespace tokenizer_detail {
namespace {

namespace fs = std::filesystem;

constexpr size_t kLargestFile = size_t{1} << 30;

class ByteTokenizer final : public Tokenizer {
 public:
  std::string description() const override { return "bytes"; }
  int64_t vocabulary() const override { return 256; }
  const SpecialTokens& special_tokens() const override { return special_; }
  std::vector<int64_t> encode(std::string_view text) const override {
    std::vector<int64_t> ids;
    ids.reserve(text.size());
    for (const char byte : text) ids.push_back(static_cast<unsigned char>(byte));
    return ids;
  }
  std::string token(int64_t id) const override {
    return id >= 0 && id < 256 ? std::string(1, static_cast<char>(id)) : std::string(kReplacementCharacter);
  }

 private:
  SpecialTokens special_;
};

// The files of a folder that are RWKV vocabularies, by name.
std::vector<fs::path> rwkv_vocabularies(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("rwkv_vocab") && name.ends_with(".txt")) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> load_sentencepiece(const fs::path& file) {
  ASSIGN_OR_RETURN(const std::string bytes, read_file(file, kLargestFile));
  ASSIGN_OR_RETURN(SentencePieceModel model, parse_sentencepiece(bytes, file.string()));
  // Whether a text is framed is no property of the model; Llama's files say it beside.
  const fs::path beside = file.parent_path() / "tokenizer_config.json";
  if (fs::exists(beside)) {
    ASSIGN_OR_RETURN(const std::string json, read_file(beside, kLargestFile));
    RETURN_IF_ERROR(read_sentencepiece_frame(json, beside.string(), model));
  }
  return sentencepiece_tokenizer(std::move(model));
}

absl::StatusOr<std::unique_ptr<Tokenizer>> load_file(const fs::path& file) {
  if (file.extension() == ".model") return load_sentencepiece(file);
  if (file.extension() != ".json" && file.extension() != ".txt") {
    return absl::InvalidArgumentError(
        file.string() + " is no tokenizer by its name: expected a .json of byte-level BPE, a .model of SentencePiece or " +
        "a .txt of RWKV's vocabulary");
  }
  ASSIGN_OR_RETURN(const std::string text, read_file(file, kLargestFile));
  return file.extension() == ".json" ? parse_tokenizer_json(text, file.string())
                                     : parse_rwkv_vocabulary(text, file.string());
}

}  // namespace
}  // namespace tokenizer_detail

std::string Tokenizer::decode(const std::vector<int64_t>& ids) const {
  std::string text;
  for (const int64_t id : ids) text += token(id);
  return text;
}

std::vector<int64_t> Tokenizer::encode_framed(std::string_view text) const {
  std::vector<int64_t> ids = special_tokens().before;
  const std::vector<int64_t> inner = encode(text);
  ids.insert(ids.end(), inner.begin(), inner.end());
  ids.insert(ids.end(), special_tokens().after.begin(), special_tokens().after.end());
  return ids;
}

std::string TextStream::add(int64_t id) {
  held_ += tokenizer_.token(id);
  const size_t whole = complete_utf8(held_);
  std::string shown = held_.substr(0, whole);
  held_.erase(0, whole);
  return shown;
}

std::string TextStream::finish() { return std::exchange(held_, {}); }

std::unique_ptr<Tokenizer> byte_tokenizer() { return std::make_unique<tokenizer_detail::ByteTokenizer>(); }

absl::StatusOr<std::unique_ptr<Tokenizer>> load_tokenizer(const std::filesystem::path& path) {
  using namespace tokenizer_detail;
  if (!fs::is_directory(path)) {
    return load_file(path);
  }
  const fs::path json = path / "tokenizer.json", model = path / "tokenizer.model";
  if (fs::exists(json)) {
    auto tokenizer = load_file(json);
    // Llama-2's folders hold both, and the .json of that kind only repeats what the .model says.
    if (!absl::IsUnimplemented(tokenizer.status()) || !fs::exists(model)) return tokenizer;
  }
  if (fs::exists(model)) {
    return load_file(model);
  }
  const std::vector<fs::path> rwkv = rwkv_vocabularies(path);
  if (rwkv.size() > 1) {
    return absl::InvalidArgumentError(path.string() + " holds several RWKV vocabularies: give one of them, such as " +
                                      rwkv[0].string());
  }
  if (rwkv.size() == 1) {
    return load_file(rwkv[0]);
  }
  return absl::NotFoundError(path.string() +
                             " holds no tokenizer: looked for tokenizer.json, tokenizer.model and rwkv_vocab*.txt");
}

}  // namespace hippodrome

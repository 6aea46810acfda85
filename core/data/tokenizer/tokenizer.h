#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"

// Text, which may be any bytes, to token ids and back.
namespace hippodrome {

// Tokens that stand for no text of their own: the end of a text, the beginning of one, padding.
struct SpecialTokens {
  std::map<std::string, int64_t> ids;  // by name, e.g. "<|endoftext|>"
  // What a whole text is framed in where the tokenizer's files say so, e.g. before = {128000} for Llama 3.
  std::vector<int64_t> before, after;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  // For people: "byte-level BPE with 50257 tokens".
  virtual std::string description() const = 0;
  // The largest id plus one. A model may have more rows than that.
  virtual int64_t vocabulary() const = 0;
  virtual const SpecialTokens& special_tokens() const = 0;

  // A stretch of text, without what frames a whole text.
  virtual std::vector<int64_t> encode(std::string_view text) const = 0;
  // The bytes that a token adds to running text, perhaps a part of a character. An id without a token gives U+FFFD.
  virtual std::string token(int64_t id) const = 0;
  // The text of a whole sequence: its tokens' bytes, one after the other, less what encoding puts before a text.
  virtual std::string decode(const std::vector<int64_t>& ids) const;

  // A whole text in its frame, which is what a model is prompted with.
  std::vector<int64_t> encode_framed(std::string_view text) const;
};

// Text that arrives token by token, shown as soon as its characters are whole.
class TextStream {
 public:
  // `tokenizer` must outlive this.
  explicit TextStream(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  // What can be shown now that this token is there.
  std::string add(int64_t id);
  // What was held back; the stream is as new.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  std::string held_;  // the beginning of a character
};

// One token per byte: ids 0 … 255.
std::unique_ptr<Tokenizer> byte_tokenizer();

// Reads a tokenizer: a file, or what a folder holds of these, in this order:
//   tokenizer.json    byte-level BPE as of GPT-2, GPT-NeoX and Llama 3 (tokenizer_json.h)
//   tokenizer.model   SentencePiece (sentencepiece.h); also taken where tokenizer.json is of a kind that is not read
//   rwkv_vocab*.txt   RWKV's "world" vocabulary (rwkv_vocabulary.h)
// A file is told by its name: *.json, *.model, *.txt. The error names the file and what is wrong with it, or what was
// looked for in vain (NotFound).
absl::StatusOr<std::unique_ptr<Tokenizer>> load_tokenizer(const std::filesystem::path& path);

}  // namespace hippodrome

#include "core/data/tokenizer/sentencepiece.h"

#include <algorithm>
#include <array>

#include "core/data/tokenizer/byte_trie.h"
#include "core/data/tokenizer/sentencepiece_search.h"
#include "core/data/tokenizer/sentencepiece_text.h"
#include "core/data/tokenizer/unicode.h"

namespace hippodrome {
namespace sentencepiece_detail {
namespace {

using Model = SentencePieceModel;

class SentencePieceTokenizer final : public Tokenizer {
 public:
  explicit SentencePieceTokenizer(Model model)
      : model_(std::move(model)), search_(model_), text_(model_, search_.user_defined()) {
    for (size_t id = 0; id < model_.pieces.size(); ++id) {
      if (model_.pieces[id].type != Model::Type::kByte) continue;
      bytes_[static_cast<size_t>(sentencepiece_byte(model_.pieces[id].text))] = static_cast<int64_t>(id);
    }
  }

  std::string description() const override {
    return std::string(model_.kind == Model::Kind::kUnigram ? "SentencePiece unigrams with " : "SentencePiece byte pairs with ") +
           std::to_string(model_.pieces.size()) + " tokens";
  }
  int64_t vocabulary() const override { return static_cast<int64_t>(model_.pieces.size()); }
  const SpecialTokens& special_tokens() const override { return model_.special; }

  std::vector<int64_t> encode(std::string_view text) const override {
    const std::string prepared = text_.prepare(text);
    std::vector<int64_t> ids;
    bool after_unknown = false;
    for (const SentencePieceSearch::Found& found : search_.run(prepared)) {
      const bool unknown = found.id == search_.unknown();
      if (unknown && model_.byte_fallback) {
        for (const char byte : found.text) ids.push_back(bytes_[static_cast<unsigned char>(byte)]);
      } else if (!(unknown && after_unknown)) {  // one unknown token for all in a row
        ids.push_back(found.id);
      }
      after_unknown = unknown;
    }
    return ids;
  }

  std::string token(int64_t id) const override {
    if (id < 0 || id >= vocabulary()) {
      return std::string(kReplacementCharacter);
    }
    const Model::Piece& piece = model_.pieces[static_cast<size_t>(id)];
    switch (piece.type) {
      case Model::Type::kControl:
        return "";
      case Model::Type::kUnknown:
        return model_.unknown_text;
      case Model::Type::kByte:
        return std::string(1, static_cast<char>(sentencepiece_byte(piece.text)));
      default:
        return with_spaces(piece.text);
    }
  }

  std::string decode(const std::vector<int64_t>& ids) const override {
    size_t spaces = 0;  // that encoding put before the text, or would not have left there
    for (const int64_t id : ids) {
      if (id < 0 || id >= vocabulary()) break;
      const Model::Piece& piece = model_.pieces[static_cast<size_t>(id)];
      if (piece.type == Model::Type::kControl) continue;
      spaces += piece.text.starts_with(kSentencePieceSpace);
      if (!model_.remove_extra_whitespaces || piece.text != kSentencePieceSpace) break;
    }
    std::string text = Tokenizer::decode(ids);
    if (model_.add_dummy_prefix || model_.remove_extra_whitespaces) text.erase(0, spaces);
    return text;
  }

 private:
  static std::string with_spaces(std::string_view piece) {
    std::string text;
    while (!piece.empty()) {
      const size_t space = std::min(piece.find(kSentencePieceSpace), piece.size());
      text += piece.substr(0, space);
      piece.remove_prefix(space);
      if (piece.empty()) break;
      text += ' ';
      piece.remove_prefix(kSentencePieceSpace.size());
    }
    return text;
  }

  Model model_;
  SentencePieceSearch search_;
  SentencePieceText text_;
  std::array<int64_t, 256> bytes_{};
};

}  // namespace
}  // namespace sentencepiece_detail

std::unique_ptr<Tokenizer> sentencepiece_tokenizer(SentencePieceModel model) {
  return std::make_unique<sentencepiece_detail::SentencePieceTokenizer>(std::move(model));
}

}  // namespace hippodrome

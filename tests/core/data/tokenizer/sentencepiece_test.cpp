#include "core/data/tokenizer/sentencepiece.h"

#include <gtest/gtest.h>

#include <limits>

#include "core/data/tokenizer/sentencepiece_text.h"
#include "tests/core/data/tokenizer/tiny.h"

namespace hippodrome::sentencepiece_test {
namespace {

using namespace tiny_tokenizers;
using Ids = std::vector<int64_t>;

const std::string kUnigram = number_field(3, 1), kBytePairs = number_field(3, 2), kFallback = number_field(35, 1);
const std::string kAsIs = number_field(3, 0) + number_field(4, 0);  // neither a prefix nor fewer spaces

std::unique_ptr<Tokenizer> tokenizer_of(const std::string& bytes) {
  absl::StatusOr<SentencePieceModel> model = parse_sentencepiece(bytes, "tokenizer.model");
  EXPECT_TRUE(model.ok()) << model.status();
  return model.ok() ? sentencepiece_tokenizer(*std::move(model)) : byte_tokenizer();
}
std::string error_of(const std::string& bytes) {
  return std::string(parse_sentencepiece(bytes, "tokenizer.model").status().message());
}

std::string all_bytes() {
  std::string pieces;
  for (int byte = 0; byte < 256; ++byte) pieces += piece(sentencepiece_byte_name(static_cast<unsigned char>(byte)), 0, 6);
  return pieces;
}

TEST(SentencePiece, MergesTheBestScoreFirst) {
  // 3 a, 4 b, 5 c, 6 ab, 7 bc, 8 abc
  const std::string pieces = piece("a", -9) + piece("b", -9) + piece("c", -9) + piece("ab", -2) + piece("bc", -1) + piece("abc", -3);
  const auto tokenizer = tokenizer_of(sentencepiece_model(pieces, kBytePairs, kAsIs));
  EXPECT_EQ(tokenizer->encode("abc"), Ids{8});
  EXPECT_EQ(tokenizer->encode("abbcab"), (Ids{6, 7, 6}));
  // An unknown character is the unknown token; several in a row are one.
  EXPECT_EQ(tokenizer->encode("axya"), (Ids{3, 0, 3}));
  EXPECT_EQ(tokenizer->decode({3, 0, 1, 4, 2}), "a \xE2\x81\x87 b");
}

TEST(SentencePiece, TakesTheSequenceOfTheGreatestScore) {
  // 3 a, 4 b, 5 ab, 6 ba, 7 aba
  const auto with = [](float aba) {
    return tokenizer_of(sentencepiece_model(
        piece("a", -1) + piece("b", -4) + piece("ab", -2) + piece("ba", -2) + piece("aba", aba), kUnigram, kAsIs));
  };
  EXPECT_EQ(with(-2)->encode("aba"), Ids{7});
  EXPECT_EQ(with(-9)->encode("aba"), (Ids{3, 6}));  // the first found of two that are equal
  EXPECT_EQ(with(-9)->encode("abab"), (Ids{5, 5}));
  EXPECT_EQ(with(-9)->encode("xaba"), (Ids{0, 3, 6}));
}

TEST(SentencePiece, PiecesOfTheUserStandAndUnusedOnesFallApart) {
  // 3 a, 4 b, 5 ab (unused), 6 "b a" (the user's)
  const std::string pieces = piece("a", -1) + piece("b", -1) + piece("ab", -1, 5) + piece("b a", 0, 4);
  for (const std::string& kind : {kUnigram, kBytePairs}) {
    const auto tokenizer = tokenizer_of(sentencepiece_model(pieces, kind, kAsIs + number_field(5, 0)));
    EXPECT_EQ(tokenizer->encode("ab"), (Ids{3, 4}));
    EXPECT_EQ(tokenizer->encode("ab ab"), (Ids{3, 6, 4}));
  }
}

TEST(SentencePiece, UnknownCharactersFallBackToBytes) {
  const auto tokenizer = tokenizer_of(sentencepiece_model(all_bytes() + piece("a", -1), kBytePairs + kFallback, kAsIs));
  EXPECT_EQ(tokenizer->encode("a\n中"), (Ids{259, 3 + '\n', 3 + 0xE4, 3 + 0xB8, 3 + 0xAD}));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("a\n中🙂")), "a\n中🙂");
  // What is not UTF-8 becomes U+FFFD before.
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("a\xFF")), "a\xEF\xBF\xBD");
}

TEST(SentencePiece, PreparesSpacesAsTheModelSays) {
  const auto prepared = [](const std::string& normalizer, const std::string& text) {
    const auto model = parse_sentencepiece(sentencepiece_model(piece("a", -1), kBytePairs, normalizer), "m");
    EXPECT_TRUE(model.ok()) << model.status();
    return SentencePieceText(*model, ByteTrie()).prepare(text);
  };
  EXPECT_EQ(prepared("", "  a   b "), "▁a▁b");
  EXPECT_EQ(prepared("", "   "), "");
  EXPECT_EQ(prepared(number_field(4, 0), " a  b "), "▁▁a▁▁b▁");
  EXPECT_EQ(prepared(number_field(3, 0), " a  b "), "a▁b");
  EXPECT_EQ(prepared(number_field(5, 0), "a b"), " a b");
}

TEST(SentencePiece, DecodingTakesThePrefixAwayAgain) {
  const std::string pieces = piece("▁a", -1) + piece("▁", -2) + piece("a", -3);
  const auto kept = tokenizer_of(sentencepiece_model(pieces, kBytePairs, number_field(4, 0)));
  EXPECT_EQ(kept->encode("a a"), (Ids{3, 3}));
  EXPECT_EQ(kept->decode({1, 3, 3}), "a a");
  EXPECT_EQ(kept->decode(kept->encode("  a")), "  a");
  EXPECT_EQ(kept->token(3), " a");  // within a text
}

// A charsmap that replaces "ab" by "X" and "a" by "", laid out by hand: unit 0 is the root; a unit's children are at its
// place xor offset xor byte.
std::string charsmap() {
  std::vector<uint32_t> units(256, 0);
  const auto offset = [](uint32_t to) { return to << 10; };
  units[0] = offset(1);                              // children at 1 ^ byte
  units[1 ^ 'a'] = offset(0x80) | 1 << 8 | 'a';      // its children at 1 ^ 'a' ^ 0x80 ^ byte, its value at ^ 0
  const uint32_t a = 1 ^ 'a' ^ 0x80;
  units[a] = 0x80000000u | 2;                        // "" is at place 2
  units[a ^ 'b'] = offset(0x10) | 1 << 8 | 'b';
  units[a ^ 'b' ^ 0x10] = 0x80000000u | 0;           // "X" is at place 0
  std::string bytes;
  const auto add = [&bytes](uint32_t word) {
    for (int i = 0; i < 4; ++i) bytes += static_cast<char>(word >> (8 * i));
  };
  add(4 * static_cast<uint32_t>(units.size()));
  for (const uint32_t unit : units) add(unit);
  return bytes + std::string("X\0\0", 3);
}

TEST(SentencePiece, ReplacesTheLongestOfTheCharsmap) {
  const auto model =
      parse_sentencepiece(sentencepiece_model("", kUnigram, kAsIs + bytes_field(2, charsmap())), "tokenizer.model");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(SentencePieceText(*model, ByteTrie()).prepare("cabba"), "cXb");
}

TEST(SentencePiece, FramesWhatTheConfigurationBesideSays) {
  absl::StatusOr<SentencePieceModel> model =
      parse_sentencepiece(sentencepiece_model(piece("a", -1), kBytePairs, kAsIs), "tokenizer.model");
  ASSERT_TRUE(model.ok());
  ASSERT_TRUE(read_sentencepiece_frame(R"({"add_bos_token": true, "add_eos_token": true})", "c.json", *model).ok());
  EXPECT_EQ(sentencepiece_tokenizer(*model)->encode_framed("a"), (Ids{1, 3, 2}));
  EXPECT_EQ(read_sentencepiece_frame(R"({"add_bos_token": 1})", "c.json", *model).message(),
            "c.json: add_bos_token must be true or false");
  model->begin = -1;
  EXPECT_EQ(read_sentencepiece_frame(R"({"add_bos_token": true})", "c.json", *model).message(),
            "c.json: add_bos_token asks for a token that the model beside has not");
}

TEST(SentencePiece, SaysWhatIsWrongWithAModel) {
  const std::string good = sentencepiece_model(piece("a", -1), kBytePairs, kAsIs);
  EXPECT_EQ(error_of(""), "tokenizer.model: the model has 0 unknown tokens, not one");
  EXPECT_EQ(error_of("not a model"), "tokenizer.model: the model is cut short or no message");
  EXPECT_EQ(error_of(good.substr(0, good.size() - 1)), "tokenizer.model: the model is cut short or no message");
  EXPECT_EQ(error_of(good + piece("a", -1)), "tokenizer.model: piece 4 has the text of an earlier one");
  EXPECT_EQ(error_of(good + piece("", -1)), "tokenizer.model: piece 4 has no text in UTF-8");
  EXPECT_EQ(error_of(good + piece("\xFF", -1)), "tokenizer.model: piece 4 has no text in UTF-8");
  EXPECT_EQ(error_of(good + piece("b", -1, 9)), "tokenizer.model: piece 4 is of unknown type 9");
  EXPECT_EQ(error_of(good + piece("b", std::numeric_limits<float>::infinity())),
            "tokenizer.model: piece 4 has a score that is no finite number");
  EXPECT_EQ(error_of(good + piece("b", 0, 6)), "tokenizer.model: piece 4 is a byte and not called <0x00> to <0xFF>");
  EXPECT_EQ(error_of(sentencepiece_model("", kBytePairs + kFallback, kAsIs)),
            "tokenizer.model: byte_fallback needs 256 byte pieces, and there are 0");
  EXPECT_EQ(error_of(sentencepiece_model("", number_field(3, 4), kAsIs)),
            "tokenizer.model: model_type 4 is not supported; models of byte pairs and unigrams are");
  EXPECT_EQ(error_of(sentencepiece_model("", kUnigram, bytes_field(2, "\xFF\xFF\xFF\xFFx"))),
            "tokenizer.model: normalizer_spec.precompiled_charsmap is broken");
}

}  // namespace
}  // namespace hippodrome::sentencepiece_test

#include "core/data/tokenizer/unicode.h"

#include <gtest/gtest.h>

#include "core/base/random.h"

namespace hippodrome::unicode_test {
namespace {

TEST(Unicode, ReadsEveryCharacterAsItIsWritten) {
  for (char32_t code = 0; code <= 0x10FFFF; ++code) {
    if (code >= 0xD800 && code < 0xE000) continue;
    std::string text;
    append_utf8(code, text);
    const Character character = first_character(text + "x");
    const bool read = character.valid && character.code == code && character.length == text.size();
    ASSERT_TRUE(read) << static_cast<int64_t>(code);
    const bool cut_is_none = text.size() == 1 || !first_character(text.substr(0, text.size() - 1)).valid;
    ASSERT_TRUE(cut_is_none) << static_cast<int64_t>(code);
  }
}

TEST(Unicode, RefusesWhatIsNoCharacter) {
  // A continuation alone, over-long forms, a surrogate, beyond U+10FFFF, a lead without its continuation.
  for (const char* text : {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xF0\x8F\xBF\xBF", "\xED\xA0\x80", "\xF4\x90\x80\x80",
                           "\xF5\x80\x80\x80", "\xFF", "\xC3(", "\xE2\x82", "\xE2(\xA1"}) {
    const Character character = first_character(text);
    EXPECT_FALSE(character.valid) << text;
    EXPECT_EQ(character.length, 1u);
    EXPECT_EQ(kind_of(character), CharacterKind::kOther);
  }
}

TEST(Unicode, TellsLettersNumbersAndSpacesApart) {
  const auto kind = [](const char* text) { return kind_of(first_character(text)); };
  for (const char* letter : {"a", "Z", "é", "ß", "ǅ", "ʰ", "中", "ก", "ﬁ", "ª"}) {
    EXPECT_EQ(kind(letter), CharacterKind::kLetter) << letter;
  }
  for (const char* number : {"0", "٣", "½", "Ⅷ", "²", "𝟘"}) EXPECT_EQ(kind(number), CharacterKind::kNumber) << number;
  for (const char* space : {" ", "\t", "\n", "\v", "\f", "\r", "\xC2\x85", "\xC2\xA0", "\xE1\x9A\x80", "\xE2\x80\x83",
                            "\xE2\x80\xA8", "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE3\x80\x80"}) {
    EXPECT_EQ(kind(space), CharacterKind::kSpace) << space;
  }
  // Punctuation, an emoji, a combining accent, a vowel sign; the zero-width space and the separators U+001C to U+001F are
  // no white space.
  for (const char* other : {"'", "_", "🙂", "\xCC\x81", "ा", "\xE2\x80\x8B", "\x1C", "\x1F", "\xEF\xBB\xBF"}) {
    EXPECT_EQ(kind(other), CharacterKind::kOther) << other;
  }
}

TEST(Unicode, ComposesAndKeepsBytesThatAreNotUtf8) {
  EXPECT_EQ(composed("e\xCC\x81"), "é");
  EXPECT_EQ(composed("\xFF" "e\xCC\x81\xFF\xCC"), "\xFF" "é\xFF\xCC");
  EXPECT_EQ(composed("\xE2\x84\xAB"), "Å");           // the sign for ångström
  EXPECT_EQ(composed("ﬁ"), "ﬁ");                      // a ligature is kept: C, not KC
  EXPECT_EQ(composed(std::string("a\0b", 3)), std::string("a\0b", 3));
  EXPECT_EQ(composed(""), "");
  RandomStream stream(1, "composed");
  for (int i = 0; i < 1000; ++i) {
    std::string text;
    for (int64_t n = stream.below(20); n > 0; --n) text += static_cast<char>(stream.bits());
    EXPECT_EQ(composed(composed(text)), composed(text));
  }
}

TEST(Unicode, ShowsWholeCharactersOnly) {
  const std::string text = "aé中🙂";  // 1, 2, 3 and 4 bytes
  const size_t whole[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10};
  for (size_t size = 0; size <= text.size(); ++size) EXPECT_EQ(complete_utf8(text.substr(0, size)), whole[size]) << size;
  // What can become no character is not waited for.
  EXPECT_EQ(complete_utf8("a\xFF"), 2u);
  EXPECT_EQ(complete_utf8("a\x80\x80\x80\x80"), 5u);
}

TEST(Unicode, TextIsUtf8WhereAllOfItIs) {
  EXPECT_TRUE(is_utf8(""));
  EXPECT_TRUE(is_utf8("a\u00e9\u20ac\U0001f600"));
  for (const char* text : {"a\xff", "\xc3", "\xc0\x80", "\xed\xa0\x80"}) EXPECT_FALSE(is_utf8(text)) << text;
}

}  // namespace
}  // namespace hippodrome::unicode_test

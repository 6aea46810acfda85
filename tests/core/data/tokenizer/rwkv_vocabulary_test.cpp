#include "core/data/tokenizer/rwkv_vocabulary.h"

#include <gtest/gtest.h>

#include "core/base/random.h"
#include "core/data/tokenizer/python_literal.h"
#include "tests/core/data/tokenizer/tiny.h"

namespace hippodrome::rwkv_vocabulary_test {
namespace {

using Ids = std::vector<int64_t>;
using tiny_tokenizers::rwkv_lines;

std::string error_of(const std::string& lines) {
  return std::string(parse_rwkv_vocabulary(lines, "vocab.txt").status().message());
}

TEST(RwkvVocabulary, TakesTheLongestToken) {
  const auto tokenizer = parse_rwkv_vocabulary(rwkv_lines({"ab", "abcd", "bc", "中文"}), "vocab.txt");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->encode("abcabcdbcd"), (Ids{257, 'c' + 1, 258, 259, 'd' + 1}));
  EXPECT_EQ((*tokenizer)->encode("中文中"), (Ids{260, 0xE4 + 1, 0xB8 + 1, 0xAD + 1}));
  EXPECT_EQ((*tokenizer)->encode(""), Ids{});
  EXPECT_EQ((*tokenizer)->vocabulary(), 261);
  EXPECT_EQ((*tokenizer)->special_tokens().ids.at("<|endoftext|>"), 0);
  EXPECT_EQ((*tokenizer)->decode({258, 0, 261}), "abcd<|endoftext|>\xEF\xBF\xBD");
}

TEST(RwkvVocabulary, DecodesWhatItEncodedWhateverTheBytes) {
  const auto tokenizer = parse_rwkv_vocabulary(rwkv_lines({"ab", "abcd", "中文", "  ", "    "}), "vocab.txt");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  RandomStream stream(1, "rwkv");
  const std::string some[] = {"ab", "c", "d", "中", "文", "🙂", " ", "  "};
  for (int i = 0; i < 2000; ++i) {
    std::string text;
    for (int64_t n = stream.below(40); n > 0; --n) {
      text += stream.below(3) == 0 ? std::string(1, static_cast<char>(stream.bits())) : some[stream.below(std::size(some))];
    }
    ASSERT_EQ((*tokenizer)->decode((*tokenizer)->encode(text)), text);
  }
}

TEST(RwkvVocabulary, NamesTheLineThatIsWrong) {
  const std::string format = "expected an id from 1, a Python literal and a length, as in: 257 '\\t\\t' 2";
  EXPECT_EQ(error_of(rwkv_lines({}) + "257\n"), "vocab.txt:257: " + format);
  EXPECT_EQ(error_of("0 'a' 1\n"), "vocab.txt:1: " + format);
  EXPECT_EQ(error_of("1 'a' one\n"), "vocab.txt:1: " + format);
  EXPECT_EQ(error_of("1 'a' 1\n\n2 'bc' 1\n"), "vocab.txt:3: the token has 2 bytes, not 1");
  EXPECT_EQ(error_of("1 'a' 1\n1 'b' 1\n"), "vocab.txt:2: the id 1 is taken by an earlier line");
  EXPECT_EQ(error_of("1 a 1\n"),
            "vocab.txt:1: what stands between id and length is no Python literal of a string or of bytes, or empty");
  EXPECT_EQ(error_of("1 'a' 1\n"),
            "vocab.txt: the vocabulary has no token for the byte 0, so it cannot take every text; each of the 256 bytes needs one");
}

TEST(PythonLiteral, ReadsWhatReprWrites) {
  EXPECT_EQ(python_literal(R"('a b')"), "a b");
  EXPECT_EQ(python_literal(R"("it's")"), "it's");
  EXPECT_EQ(python_literal(R"('\'"\\\n\r\t')"), "'\"\\\n\r\t");
  EXPECT_EQ(python_literal(R"('\x80')"), "\xC2\x80");
  EXPECT_EQ(python_literal(R"(b'\x80 \\')"), "\x80 \\");
  EXPECT_EQ(python_literal(R"('\u2028\U0001f40e')"), "\xE2\x80\xA8🐎");
  EXPECT_EQ(python_literal("'中'"), "中");
  EXPECT_EQ(python_literal("''"), "");
  for (const char* wrong : {"", "'", "a", "'a", "'a\"", "'a'b'", R"('\')", R"('\q')", R"('\x4')", R"('\ud800')", R"('\U00110000')",
                            R"(b'\u2028')", "b'中'", "u'a'", "'\xFF'"}) {
    EXPECT_EQ(python_literal(wrong), std::nullopt) << wrong;
  }
}

}  // namespace
}  // namespace hippodrome::rwkv_vocabulary_test

#include <gtest/gtest.h>

#include "tests/fuzz/corpus.h"
#include "tests/fuzz/tokenizer_target.h"

namespace hippodrome::tokenizer_fuzz_test {
namespace {

using fuzz_corpus::run;

TEST(TokenizerFuzz, TokenizerJson) {
  run("tokenizer_json",
      {"{", "}", "[", "]", ":", ",", "\"", "\"type\"", "\"BPE\"", "\"Split\"", "\"Sequence\"", "\"NFC\"", "\"ids\"", "\"A\"", "true",
       "false", "null", "-1", "0", "2147483648", "1e999", "18446744073709551616", "\"a b\"", "\\ud800", "\xC3", "\\u0120", "\\n"},
      fuzz_tokenizer_json);
}

TEST(TokenizerFuzz, RwkvVocabulary) {
  run("rwkv_vocabulary",
      {" ", "\n", "\r\n", "'", "\"", "b'", "\\", "\\x", "\\u", "\\U0010FFFF", "\\ud800", "0", "1", "-1", "2147483648",
       "99999999999999999999", "257 'ab' 2\n", "\xFF", "\xE4\xB8\xAD"},
      fuzz_rwkv_vocabulary);
}

TEST(TokenizerFuzz, SentencePiece) {
  run("sentencepiece",
      {"\x0A", "\x12", "\x1A", "\x18\x02", "\x18\x04", "\x18\x05", "\x18\x06", "\xFF\xFF\xFF\xFF\x0F", "\x80", "<0x00>", "\xE2\x96\x81",
       "ab", std::string("\0\0\x80\x7F", 4), std::string("\0\0\xC0\x7F", 4), std::string("\xF8\x03\0\0", 4), "\x13", "\xC0\x01\x01"},
      fuzz_sentencepiece);
}

}  // namespace
}  // namespace hippodrome::tokenizer_fuzz_test

#include <gtest/gtest.h>

#include "tests/fuzz/corpus.h"
#include "tests/fuzz/safetensors_target.h"
#include "tests/fuzz/toml_target.h"

namespace hippodrome::fuzz_corpus_test {
namespace {

using fuzz_corpus::run;

TEST(FuzzCorpus, Toml) {
  run("toml",
      {"[", "]", "{", "}", "=", ".", "\"", "'", "\"\"\"", "'''", "\n", "#", ",", "[[", "]]", "0x", "1e999", "-0", "nan",
       "inf", "true", "2026-01-02", "\\u0000", "\\UFFFFFFFF", "\xEF\xBB\xBF", "\xC3", "integer", "tree.", "name", "0"},
      fuzz_toml);
}

TEST(FuzzCorpus, Safetensors) {
  run("safetensors",
      {"{", "}", "[", "]", ":", ",", "\"", "\"dtype\"", "\"shape\"", "\"data_offsets\"", "\"__metadata__\"", "\"F64\"",
       "\"BOOL\"", "\"U8\"", "-1", "0", "1e3", "9223372036854775807", "18446744073709551615", "18446744073709551616",
       "null", "\xC3", "\\ud800", std::string("\0\0\0\0\0\0\0\0", 8), std::string(8, '\xFF')},
      fuzz_safetensors);
}

}  // namespace
}  // namespace hippodrome::fuzz_corpus_test

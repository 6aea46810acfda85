#include <gtest/gtest.h>

#include "tests/fuzz/checkpoint_target.h"
#include "tests/fuzz/corpus.h"

namespace hippodrome::checkpoint_fuzz_test {
namespace {

TEST(FuzzCorpus, Checkpoint) {
  fuzz_corpus::run("checkpoint",
                   {"{", "}", "[", "]", ":", ",", "\"", "null", "true", "Infinity", "NaN", "-1", "0", "1", "2", "3", "1e999", "0.5",
                    "9223372036854775807", "18446744073709551616", "\"auto\"", "\"gpt2\"", "\"llama\"", "\"mistral\"", "\"mamba\"",
                    "\"rwkv\"", "\"num_hidden_layers\"", "\"hidden_size\"", "\"rope_scaling\"", "\"rope_type\"", "\"llama3\"",
                    "\"__float__\"", "\"sliding_window\"", "\"weight_map\"", "../", "\\u0000", std::string("\0", 1), "\xC3"},
                   fuzz_checkpoint, /*mutations=*/2000);
}

}  // namespace
}  // namespace hippodrome::checkpoint_fuzz_test

#include "core/base/text.h"

#include <gtest/gtest.h>

#include <limits>

namespace hippodrome::text_test {
namespace {

TEST(BaseText, NearestNameFindsSlipsOfTheKeyboard) {
  const std::vector<std::string> names = {"heads", "kv_heads", "width", "parameters"};
  EXPECT_EQ(nearest_name("head", names), "heads");
  EXPECT_EQ(nearest_name("haeds", names), "heads");  // two neighbours swapped
  EXPECT_EQ(nearest_name("KV-Heads", names), "kv_heads");
  EXPECT_EQ(nearest_name("kvheads", names), "kv_heads");
  EXPECT_EQ(nearest_name("param", names), "parameters");
  EXPECT_EQ(nearest_name("with", names), "width");
}

TEST(BaseText, NearestNameStaysSilentWhenNothingIsNear) {
  const std::vector<std::string> names = {"heads", "width"};
  EXPECT_EQ(nearest_name("dropout", names), "");
  EXPECT_EQ(nearest_name("", names), "");
  EXPECT_EQ(nearest_name("x", {"y"}), "");
  EXPECT_EQ(nearest_name("head", {}), "");
  EXPECT_EQ(nearest_name(std::string(1 << 20, 'h'), names), "");
}

TEST(BaseText, SuggestionListsShortListsOnly) {
  EXPECT_EQ(suggestion("mamaba", {"mamba", "lstm"}), "; did you mean \"mamba\"?");
  EXPECT_EQ(suggestion("zebra", {"mamba", "lstm"}), "; valid: mamba, lstm");
  EXPECT_EQ(suggestion("zebra", {}), "");
  EXPECT_EQ(suggestion("zzz", std::vector<std::string>(9, "mamba")), "");
}

TEST(BaseText, Join) {
  EXPECT_EQ(join({}, ", "), "");
  EXPECT_EQ(join({"a", "", "c"}, ", "), "a, , c");
}

TEST(BaseText, FormatBytes) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(12), "12 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1024), "1.00 KiB");
  EXPECT_EQ(format_bytes(1.5 * 1048576), "1.50 MiB");
  EXPECT_EQ(format_bytes(15.25 * 1048576), "15.2 MiB");
  EXPECT_EQ(format_bytes(1048576 - 1), "1.00 MiB");  // not "1024 KiB"
  EXPECT_EQ(format_bytes(-2048), "-2.00 KiB");
}

TEST(BaseText, FormatCount) {
  EXPECT_EQ(format_count(980), "980");
  EXPECT_EQ(format_count(0.25), "0.25");
  EXPECT_EQ(format_count(1234), "1.23 k");
  EXPECT_EQ(format_count(1.2345e6), "1.23 M");
  EXPECT_EQ(format_count(999999), "1.00 M");
  EXPECT_EQ(format_count(99950), "100 k");
  EXPECT_EQ(format_count(3.98e11), "398 G");
  EXPECT_EQ(format_count(std::numeric_limits<double>::infinity()), "inf");
}

TEST(BaseText, FormatDuration) {
  EXPECT_EQ(format_duration(0), "0 s");
  EXPECT_EQ(format_duration(12.5e-6), "12.5 µs");
  EXPECT_EQ(format_duration(0.85), "850 ms");
  EXPECT_EQ(format_duration(3.21), "3.2 s");
  EXPECT_EQ(format_duration(59.96), "1 min 0 s");
  EXPECT_EQ(format_duration(250.2), "4 min 10 s");
  EXPECT_EQ(format_duration(3599.7), "1 h 0 min");
  EXPECT_EQ(format_duration(7500), "2 h 5 min");
}

// FIPS 180-4 examples.
TEST(BaseText, Sha256) {
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256(std::string(1000000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

}  // namespace
}  // namespace hippodrome::text_test

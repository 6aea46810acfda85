#include "core/measure/provenance.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "core/tensor/matmul.h"

namespace hippodrome {
namespace {

TEST(Provenance, SaysWhatANumberWasMeasuredOn) {
  const nlohmann::json facts = provenance();
  EXPECT_THAT(facts["started"].get<std::string>(), testing::MatchesRegex("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z"));
  EXPECT_TRUE(facts["commit"].is_string());
  EXPECT_TRUE(facts["dirty"].is_boolean());
  EXPECT_EQ(facts["threads"], at::get_num_threads());
  EXPECT_EQ(facts["matmul"], matrix_library_name(matrix_library()));
  EXPECT_FALSE(facts["hardware"]["cpu"].get<std::string>().empty());
  EXPECT_GT(facts["hardware"]["memory_bytes"].get<int64_t>(), int64_t{1} << 28);
  EXPECT_THAT(facts["versions"]["torch"].get<std::string>(), testing::StartsWith("2."));
}

}  // namespace
}  // namespace hippodrome

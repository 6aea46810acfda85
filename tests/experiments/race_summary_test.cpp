#include "experiments/race/summary.h"

#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace hippodrome::race_summary_test {
namespace {

using nlohmann::json;
using testing::HasSubstr;

json scale_row(const std::string& model, const std::string& phase, int64_t length, double rate, double bytes) {
  return {{"kind", "scale"}, {"status", "ok"}, {"model", model}, {"phase", phase}, {"length", length}, {"tokens_per_second", rate}, {"peak_bytes", bytes}};
}

json of(const std::vector<json>& rows, const std::string& kind, const std::string& phase, const std::string& quantity, const std::string& model = "") {
  json found;
  for (const json& row : rows) {
    if (row["kind"] != kind || row["phase"] != phase || row["quantity"] != quantity) continue;
    if (!model.empty() && row["model"] != model) continue;
    EXPECT_TRUE(found.is_null()) << "twice: " << row;
    found = row;
  }
  return found;
}

// `quadratic` takes time in proportion to its length for each token and is ahead up to 1,024; its memory grows with length.
std::vector<json> made_up() {
  std::vector<json> rows;
  for (const int64_t length : {256, 512, 2048, 4096}) {
    const auto l = static_cast<double>(length);
    rows.push_back(scale_row("quadratic", "prefill", length, 1024e3 / l, 1e6 * l));
    rows.push_back(scale_row("linear", "prefill", length, 1e3, 2e6));
  }
  return rows;
}

TEST(SlopesAndCrossovers, AreThoseOfTheCurves) {
  const std::vector<json> derived = slopes_and_crossovers(made_up());
  EXPECT_NEAR(of(derived, "slope", "prefill", "seconds", "quadratic")["exponent"].get<double>(), 2.0, 1e-9);
  EXPECT_NEAR(of(derived, "slope", "prefill", "seconds", "linear")["exponent"].get<double>(), 1.0, 1e-9);
  const json memory = of(derived, "slope", "prefill", "peak_bytes", "quadratic");
  EXPECT_NEAR(memory["exponent"].get<double>(), 1.0, 1e-9);
  EXPECT_EQ(memory["from"], 256);
  EXPECT_EQ(memory["to"], 4096);
  const json speed = of(derived, "crossover", "prefill", "tokens_per_second");
  EXPECT_EQ(speed["faster"], "linear");
  EXPECT_EQ(speed["slower"], "quadratic");
  EXPECT_EQ(speed["length"], 1024);
  const json smaller = of(derived, "crossover", "prefill", "peak_bytes");
  EXPECT_EQ(smaller["faster"], "linear");
  EXPECT_TRUE(smaller["length"].is_null()) << "smaller at every length";
  EXPECT_THAT(smaller["note"].get<std::string>(), HasSubstr("256 to 4096"));
}

// Decoding is timed token by token at its depth, so that a time that does not depend on it has slope 0.
TEST(SlopesAndCrossovers, TakeDecodingByTheToken) {
  std::vector<json> rows;
  for (const int64_t length : {256, 1024}) rows.push_back(scale_row("linear", "decode", length, 50.0, 1e6));
  EXPECT_NEAR(of(slopes_and_crossovers(rows), "slope", "decode", "seconds", "linear")["exponent"].get<double>(), 0.0, 1e-9);
}

TEST(SlopesAndCrossovers, PassOverPointsWithoutAResult) {
  std::vector<json> rows = made_up();
  rows.push_back({{"kind", "scale"}, {"status", "out_of_memory"}, {"message", "too large"}, {"model", "quadratic"}, {"phase", "prefill"}, {"length", 8192}});
  rows.push_back(scale_row("linear", "prefill", 8192, 1e3, 2e6));
  rows.push_back(scale_row("alone", "train", 256, 10.0, 10.0));
  rows.push_back({{"kind", "trial"}, {"status", "ok"}, {"model", "linear"}});
  const std::vector<json> derived = slopes_and_crossovers(rows);
  EXPECT_EQ(of(derived, "slope", "prefill", "seconds", "quadratic")["to"], 4096);
  EXPECT_EQ(of(derived, "crossover", "prefill", "tokens_per_second")["length"], 1024) << "where both have points";
  EXPECT_TRUE(of(derived, "slope", "train", "seconds").is_null()) << "one point has no slope";
  EXPECT_TRUE(slopes_and_crossovers({}).empty());
}

TEST(AlignedTable, AlignsByCharacters) {
  EXPECT_EQ(aligned_table({{"model", "at 32", "state"}, {"mamba", "0.5", "1.2 kB"}, {"größer", "0.912 (0.88–0.95)", "–"}}),
            "model               at 32   state\n"
            "mamba                 0.5  1.2 kB\n"
            "größer  0.912 (0.88–0.95)       –\n");
  EXPECT_EQ(aligned_table({{"only", "heading"}}), "only  heading\n");
}

// The row of a model without a result holds a sentence, which must not widen the columns.
TEST(AlignedTable, SentencesSetNoWidth) {
  const std::string text = aligned_table({{"model", "a", "b", "c", "d"}, {"one", "1", "2", "3", "4"}, {"two", "out_of_memory: 8000000 bytes asked for, of a limit of 20"}});
  EXPECT_THAT(text, HasSubstr("model  a  b  c  d\none    1  2  3  4\n"));
  EXPECT_THAT(text, HasSubstr("two    out_of_memory: 8000000 bytes asked for, of a limit of 20\n"));
}

json trial_row(const std::string& model, int64_t seed, double metric) {
  return {{"kind", "trial"}, {"status", "ok"}, {"model", model}, {"task", "parity"}, {"seed", seed},
          {"metric", {{"name", "accuracy"}, {"value", metric}, {"higher_is_better", true}}},
          {"chance", 0.5}, {"floor", nullptr}, {"tokens_per_second", 1234.0 * static_cast<double>(seed)}, {"parameters", 10000},
          {"flops_per_token", 2e5}, {"state_bytes", 2048}, {"peak_memory_bytes", 3 << 20},
          {"by_length", {{{"length", 32}, {"value", metric}}, {{"length", 64}, {"value", nullptr}}}}};
}

TEST(SummaryTables, ShowMediansRangesAndTroubles) {
  std::vector<json> rows = made_up();
  for (const json& row : {trial_row("lstm", 1, 0.9), trial_row("lstm", 2, 0.8), trial_row("lstm", 3, 0.95), trial_row("mamba", 1, 1.0)}) rows.push_back(row);
  rows.push_back({{"kind", "trial"}, {"status", "out_of_memory"}, {"message", "out of memory: 8 bytes"}, {"model", "huge"}, {"task", "parity"}, {"seed", 1}});
  const std::vector<json> derived = slopes_and_crossovers(rows);
  rows.insert(rows.end(), derived.begin(), derived.end());
  const std::string text = summary_tables(rows);
  EXPECT_THAT(text, HasSubstr("parity: accuracy, chance 0.500"));
  EXPECT_THAT(text, HasSubstr("0.900 (0.800–0.950)"));
  EXPECT_THAT(text, HasSubstr("out_of_memory: out of memory: 8 bytes"));
  EXPECT_THAT(text, HasSubstr("prefill, tokens/s"));
  EXPECT_THAT(text, HasSubstr("1024"));
  EXPECT_THAT(text, HasSubstr("linear (speed)"));
  EXPECT_THAT(text, HasSubstr(" 2.00\n")) << "the slope of quadratic's time";
}

}  // namespace
}  // namespace hippodrome::race_summary_test

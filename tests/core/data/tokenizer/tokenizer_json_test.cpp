#include "core/data/tokenizer/tokenizer_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "core/base/random.h"
#include "core/data/tokenizer/split.h"
#include "tests/core/data/tokenizer/tiny.h"

namespace hippodrome::tokenizer_json_test {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::StartsWith;
using Ids = std::vector<int64_t>;
using tiny_tokenizers::byte_level_json;

std::unique_ptr<Tokenizer> read(const json& tree) {
  auto tokenizer = parse_tokenizer_json(tree.dump(), "tokenizer.json");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *std::move(tokenizer) : byte_tokenizer();
}
absl::Status error_of(const json& tree) { return parse_tokenizer_json(tree.dump(), "tokenizer.json").status(); }

// "Ġ" is the space.
json words() { return byte_level_json({{"l", "o"}, {"lo", "w"}, {"Ġ", "low"}, {"e", "r"}, {"a", "a"}}); }

TEST(TokenizerJson, MergesTheLowestRankFirstAndTheLeftmostOfEquals) {
  const auto tokenizer = read(words());
  EXPECT_EQ(tokenizer->encode("low lower"), (Ids{257, 258, 259}));
  EXPECT_EQ(tokenizer->encode("aaa"), (Ids{260, 'a'}));
  EXPECT_EQ(tokenizer->encode("aaaa"), (Ids{260, 260}));
  EXPECT_EQ(tokenizer->encode(""), Ids{});
  EXPECT_EQ(tokenizer->vocabulary(), 262);
  // A merge that comes to be only through one of higher rank still comes first where it can.
  const auto late = read(byte_level_json({{"b", "c"}, {"a", "b"}, {"a", "bc"}}));
  EXPECT_EQ(late->encode("abcab"), (Ids{258, 257}));
}

TEST(TokenizerJson, DoesNotMergeAcrossPieces) {
  const auto tokenizer = read(byte_level_json({{"a", "1"}, {"a", "Ġ"}}));
  EXPECT_EQ(tokenizer->encode("a1a b"), (Ids{'a', '1', 'a', ' ', 'b'}));
}

TEST(TokenizerJson, MergesAreListsOrStrings) {
  json tree = words();
  for (json& merge : tree["model"]["merges"]) merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  EXPECT_EQ(read(tree)->encode("low lower"), (Ids{257, 258, 259}));
}

TEST(TokenizerJson, AWholePieceThatIsATokenNeedsNoMergeWhenMergesAreIgnored) {
  json tree = byte_level_json({{"a", "b"}});
  tree["model"]["vocab"]["bab"] = 300;
  EXPECT_EQ(read(tree)->encode("bab bab"), (Ids{'b', 256, ' ', 'b', 256}));
  tree["model"]["ignore_merges"] = true;
  EXPECT_EQ(read(tree)->encode("bab bab"), (Ids{300, ' ', 'b', 256}));
}

TEST(TokenizerJson, FindsAddedTokensInTextTheLongestFirst) {
  json tree = words();
  tree["added_tokens"].push_back({{"id", 400}, {"content", "<|end|>low"}, {"special", false}, {"normalized", false}});
  tree["added_tokens"].push_back({{"id", 401}, {"content", "er"}, {"special", false}, {"normalized", true}});
  const auto tokenizer = read(tree);
  EXPECT_EQ(tokenizer->encode("low<|end|>er<|end|>lower<|end"), (Ids{257, 261, 401, 400, 401, '<', '|', 'e', 'n', 'd'}));
  EXPECT_EQ(tokenizer->decode({257, 261, 400}), "low<|end|><|end|>low");
  EXPECT_EQ(tokenizer->special_tokens().ids, (std::map<std::string, int64_t>{{"<|end|>", 261}}));
  EXPECT_EQ(tokenizer->vocabulary(), 402);
}

TEST(TokenizerJson, ComposesWhatIsNoTokenOfItsOwn) {
  json tree = byte_level_json({{"Ã", "©"}});  // é, in bytes
  EXPECT_EQ(read(tree)->encode("e\xCC\x81"), (Ids{'e', 0xCC, 0x81}));
  tree["normalizer"] = {{"type", "NFC"}};
  EXPECT_EQ(read(tree)->encode("e\xCC\x81"), Ids{256});
  tree["added_tokens"].push_back({{"id", 400}, {"content", "e\xCC\x81!"}, {"special", false}, {"normalized", true}});
  EXPECT_EQ(read(tree)->encode("é!e\xCC\x81!é"), (Ids{400, 400, 256}));
  EXPECT_EQ(read(tree)->decode({400}), "é!");
}

TEST(TokenizerJson, FramesATextAsItsTemplateSays) {
  json tree = words();
  const json begin = {{"SpecialToken", {{"id", "<|end|>"}, {"type_id", 0}}}}, text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const json processor = {{"type", "TemplateProcessing"}, {"single", {begin, text}}, {"pair", json::array()},
                          {"special_tokens", {{"<|end|>", {{"id", "<|end|>"}, {"ids", {261}}}}}}};
  tree["post_processor"] = {{"type", "Sequence"}, {"processors", {{{"type", "ByteLevel"}}, processor}}};
  EXPECT_EQ(read(tree)->encode_framed("low"), (Ids{261, 257}));
  EXPECT_EQ(read(tree)->encode("low"), Ids{257});
  tree["post_processor"] = processor;
  tree["post_processor"]["single"] = {begin, text, begin, begin};
  EXPECT_EQ(read(tree)->encode_framed("low"), (Ids{261, 257, 261, 261}));
  tree["post_processor"]["special_tokens"] = json::object();
  EXPECT_EQ(error_of(tree).message(), "tokenizer.json: post_processor.special_tokens lacks the ids of \"<|end|>\"");
}

TEST(TokenizerJson, PutsASpaceBeforeTextThatHasNone) {
  json tree = words();
  tree["pre_tokenizer"]["add_prefix_space"] = true;
  EXPECT_EQ(read(tree)->encode("low low<|end|>low"), (Ids{258, 258, 261, 258}));
}

json with_llama3(json tree) {
  tree["pre_tokenizer"] = {{"type", "Sequence"},
                           {"pretokenizers",
                            {{{"type", "Split"}, {"pattern", {{"Regex", kLlama3Pattern}}}, {"behavior", "Isolated"}, {"invert", false}},
                             {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  return tree;
}

TEST(TokenizerJson, SplitsAsLlama3WhereThePatternIsThat) {
  json tree = byte_level_json({{"1", "2"}, {"3", "4"}, {"(", "a"}});
  EXPECT_EQ(read(tree)->encode("1234(a"), (Ids{256, 257, '(', 'a'}));
  EXPECT_EQ(read(with_llama3(tree))->encode("1234(a"), (Ids{256, '3', '4', 258}));
}

TEST(TokenizerJson, DecodesWhatItEncodedWhateverTheBytes) {
  RandomStream stream(1, "round trip");
  const std::string some[] = {"low", " low", "er", "aa", "\n\n", "  ", "'ll", "é", "中", "🙂", "\xCC\x81", "<|end|>", "12345"};
  for (const json& tree : {words(), with_llama3(words())}) {
    const auto tokenizer = read(tree);
    for (int i = 0; i < 2000; ++i) {
      std::string text;
      for (int64_t n = stream.below(40); n > 0; --n) {
        text += stream.below(3) == 0 ? std::string(1, static_cast<char>(stream.bits())) : some[stream.below(std::size(some))];
      }
      std::string by_token;
      const Ids ids = tokenizer->encode(text);
      for (const int64_t id : ids) by_token += tokenizer->token(id);
      ASSERT_EQ(tokenizer->decode(ids), text);
      ASSERT_EQ(by_token, text);
    }
  }
  EXPECT_EQ(read(words())->decode({-1, 4000, 'a'}), "\xEF\xBF\xBD\xEF\xBF\xBD" "a");
}

TEST(TokenizerJson, LongRunsTakeNoTimeOfNote) {
  const auto tokenizer = read(words());
  EXPECT_EQ(tokenizer->encode(std::string(1'000'001, 'a')).size(), 500'001u);
}

TEST(TokenizerJson, SaysWhatItDoesNotRead) {
  const auto unsupported = [](const std::function<void(json&)>& change) {
    json tree = words();
    change(tree);
    const absl::Status status = error_of(tree);
    EXPECT_TRUE(absl::IsUnimplemented(status)) << status;
    return std::string(status.message());
  };
  EXPECT_EQ(unsupported([](json& t) { t["model"]["type"] = "WordPiece"; }),
            "tokenizer.json: model WordPiece is not supported; BPE is");
  EXPECT_EQ(unsupported([](json& t) { t["normalizer"] = {{"type", "Lowercase"}}; }),
            "tokenizer.json: normalizer Lowercase is not supported; none and NFC are");
  EXPECT_EQ(unsupported([](json& t) { t["pre_tokenizer"] = nullptr; }),
            "tokenizer.json: pre_tokenizer none is not supported; ByteLevel is, alone or behind Llama 3's Split");
  EXPECT_THAT(unsupported([](json& t) { t["pre_tokenizer"] = {{"type", "Metaspace"}}; }), HasSubstr("pre_tokenizer Metaspace"));
  EXPECT_THAT(unsupported([](json& t) { t["decoder"] = {{"type", "Fuse"}}; }), HasSubstr("decoder Fuse"));
  EXPECT_THAT(unsupported([](json& t) { t["post_processor"] = {{"type", "BertProcessing"}}; }),
              HasSubstr("post_processor BertProcessing"));
  EXPECT_THAT(unsupported([](json& t) { t["model"]["byte_fallback"] = true; }), HasSubstr("model.byte_fallback true"));
  EXPECT_THAT(unsupported([](json& t) { t["model"]["end_of_word_suffix"] = "</w>"; }), HasSubstr("model.end_of_word_suffix"));
  EXPECT_THAT(unsupported([](json& t) { t["model"]["dropout"] = 0.1; }), HasSubstr("model.dropout 0.1"));
  EXPECT_THAT(unsupported([](json& t) { t["model"]["vocab"].erase("Ġ"); }), HasSubstr("the token of byte 32"));
  EXPECT_THAT(unsupported([](json& t) { t["added_tokens"][0]["lstrip"] = true; }), HasSubstr("added_tokens.0.lstrip true"));
  EXPECT_THAT(unsupported([](json& t) {
                t = with_llama3(t);
                t["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "\\s+";
              }),
              HasSubstr("pre_tokenizer.pretokenizers.0.pattern \"\\\\s+\""));
}

TEST(TokenizerJson, SaysWhatIsMalformed) {
  const auto malformed = [](const std::function<void(json&)>& change) {
    json tree = words();
    change(tree);
    const absl::Status status = error_of(tree);
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    return std::string(status.message());
  };
  EXPECT_EQ(malformed([](json& t) { t["model"]["merges"][1] = "lo"; }),
            "tokenizer.json: model.merges.1 must be two tokens with one space between");
  EXPECT_EQ(malformed([](json& t) { t["model"]["merges"][1] = {"lo", "x\n"}; }),
            "tokenizer.json: model.merges.1 needs the token \"x\\n\", which model.vocab lacks");
  EXPECT_THAT(malformed([](json& t) { t["model"]["merges"][1] = 3; }), HasSubstr("model.merges.1 must be"));
  EXPECT_EQ(malformed([](json& t) { t["model"]["vocab"]["low"] = 1; }), "tokenizer.json: model.vocab two tokens have the id 1");
  EXPECT_THAT(malformed([](json& t) { t["model"]["vocab"]["low"] = -1; }), HasSubstr("\"low\" has no id from 0"));
  EXPECT_THAT(malformed([](json& t) { t["model"]["vocab"]["low"] = 1ull << 40; }), HasSubstr("\"low\" has no id from 0"));
  EXPECT_THAT(malformed([](json& t) { t["added_tokens"][0].erase("id"); }), HasSubstr("added_tokens.0 must have"));
  EXPECT_THAT(malformed([](json& t) { t["model"]["ignore_merges"] = "yes"; }), HasSubstr("model.ignore_merges must be true or false"));
  EXPECT_EQ(parse_tokenizer_json("{\"model\": ", "t.json").status().message(), "t.json: the file is not JSON from byte 11 on");
  EXPECT_EQ(parse_tokenizer_json("[]", "t.json").status().message(), "t.json: the file does not hold a JSON object");
}

}  // namespace
}  // namespace hippodrome::tokenizer_json_test

#include "core/data/tokenizer/tokenizer.h"

#include <gtest/gtest.h>

#include "core/io/atomic_file.h"
#include "tests/core/data/tokenizer/tiny.h"
#include "tests/test_folder.h"

namespace hippodrome::tokenizer_test {
namespace {

using namespace tiny_tokenizers;
using Ids = std::vector<int64_t>;

class TokenizerFolder : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void write(const std::string& name, const std::string& bytes) { ASSERT_TRUE(write_file(folder_ / name, bytes).ok()); }
  Ids ids_of(const std::string& name, const std::string& text) {
    const auto tokenizer = load_tokenizer(folder_ / name);
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    return tokenizer.ok() ? (*tokenizer)->encode_framed(text) : Ids{};
  }
  std::string error_of(const std::string& name) { return std::string(load_tokenizer(folder_ / name).status().message()); }

  const std::filesystem::path folder_ = testing_folder::own_folder();
  const std::string json_ = byte_level_json({{"a", "b"}}).dump();
  const std::string model_ =
      sentencepiece_model(piece("a", -1) + piece("b", -1), number_field(3, 2), number_field(3, 0) + number_field(4, 0));
};

TEST_F(TokenizerFolder, TakesWhatIsThereInOrder) {
  EXPECT_EQ(error_of(""), (folder_ / "").string() + " holds no tokenizer: looked for tokenizer.json, tokenizer.model and rwkv_vocab*.txt");
  write("rwkv_vocab_v1.txt", rwkv_lines({"ab"}));
  EXPECT_EQ(ids_of("", "ab"), Ids{257});
  write("tokenizer.model", model_);
  EXPECT_EQ(ids_of("", "ab"), (Ids{3, 4}));
  write("tokenizer_config.json", R"({"add_bos_token": true})");
  EXPECT_EQ(ids_of("", "ab"), (Ids{1, 3, 4}));
  write("tokenizer.json", json_);
  EXPECT_EQ(ids_of("", "ab"), Ids{256});
}

TEST_F(TokenizerFolder, TakesAFileByItsName) {
  write("a.json", json_);
  write("a.model", model_);
  write("a.txt", rwkv_lines({"ab"}));
  write("a.bin", "");
  EXPECT_EQ(ids_of("a.json", "ab"), Ids{256});
  EXPECT_EQ(ids_of("a.model", "ab"), (Ids{3, 4}));
  EXPECT_EQ(ids_of("a.txt", "ab"), Ids{257});
  EXPECT_EQ(error_of("a.bin"), (folder_ / "a.bin").string() +
                                   " is no tokenizer by its name: expected a .json of byte-level BPE, a .model of SentencePiece "
                                   "or a .txt of RWKV's vocabulary");
  EXPECT_NE(error_of("absent.json").find("absent.json"), std::string::npos);
}

TEST_F(TokenizerFolder, AModelServesWhereTheJsonIsOfAKindNotRead) {
  nlohmann::json tree = nlohmann::json::parse(json_);
  tree["model"]["byte_fallback"] = true;
  write("tokenizer.json", tree.dump());
  EXPECT_EQ(error_of(""), (folder_ / "tokenizer.json").string() +
                              ": model.byte_fallback true is not supported; byte-level BPE without is; such a file's "
                              "tokenizer.model serves");
  write("tokenizer.model", model_);
  EXPECT_EQ(ids_of("", "ab"), (Ids{3, 4}));
  // A broken file is not passed over.
  write("tokenizer.json", "{");
  EXPECT_NE(error_of("").find("the file is not JSON"), std::string::npos);
}

TEST_F(TokenizerFolder, SeveralVocabulariesAreOneTooMany) {
  write("rwkv_vocab_1.txt", rwkv_lines({}));
  write("rwkv_vocab_2.txt", rwkv_lines({}));
  EXPECT_NE(error_of("").find("holds several RWKV vocabularies"), std::string::npos);
}

TEST(ByteTokenizer, IsTheBytes) {
  const auto tokenizer = byte_tokenizer();
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  const Ids ids = tokenizer->encode_framed(all);
  ASSERT_EQ(ids.size(), 256u);
  EXPECT_EQ(ids[255], 255);
  EXPECT_EQ(tokenizer->decode(ids), all);
  EXPECT_EQ(tokenizer->token(256), "\xEF\xBF\xBD");
}

TEST(TextStream, ShowsCharactersWhole) {
  const auto tokenizer = byte_tokenizer();
  TextStream stream(*tokenizer);
  const std::string text = "a中\xFF🙂\xE4";
  std::vector<std::string> shown;
  for (const char byte : text) shown.push_back(stream.add(static_cast<unsigned char>(byte)));
  EXPECT_EQ(shown, (std::vector<std::string>{"a", "", "", "中", "\xFF", "", "", "", "🙂", ""}));
  EXPECT_EQ(stream.finish(), "\xE4");
  EXPECT_EQ(stream.finish(), "");
}

}  // namespace
}  // namespace hippodrome::tokenizer_test

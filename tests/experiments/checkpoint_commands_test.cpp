#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <gmock/gmock.h>

#include <sstream>

#include "core/io/safetensors.h"
#include "tests/core/data/tokenizer/tiny.h"
#include "tests/experiments/run_program.h"

// Models that leave for Hugging Face's layout and come back, by the commands that a user would give.
namespace hippodrome::checkpoint_commands_test {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing_program::ProgramTest;
using testing_program::text_of;
namespace fs = std::filesystem;

class CheckpointCommands : public ProgramTest {
 protected:
  // A trial of three steps of that preset.
  std::string trial_of(const std::string& preset) {
    write("race.toml", "threads = 1\nmatmul = \"mkl\"\n[training]\nsteps = 3\nbatch = 2\nevaluate_every = 3\nevaluate_batches = 1\n"
                       "test_batches = 1\n[[tasks]]\ntask = \"parity\"\nlength = 16\ntest_lengths = [16]\n[[models]]\npreset = \"" +
                           preset + "\"\nname = \"m\"\nrepeats = 1\nwidth = 16\n");
    EXPECT_EQ(run({"race", "race.toml", "--out", "run"}), 0) << err();
    return "run/trials/parity-m-1";
  }

  std::string printed(std::vector<std::string> arguments) {
    EXPECT_EQ(run(arguments), 0) << err();
    return out();
  }

  std::string continued(const std::string& model) {
    return printed({"generate", "--model", model, "--prompt-ids", "1 0 1", "--new-tokens", "8", "--greedy", "--print-ids"});
  }

  json evaluated(const std::string& model, bool name_task) {
    std::vector<std::string> arguments = {"evaluate", "--model", model, "--lengths", "16", "--rows", "4", "--batches", "2", "--json"};
    if (name_task) arguments.insert(arguments.end(), {"--task", "parity", "--set", "length=16", "--set", "test_lengths=[16]"});
    return json::parse(printed(arguments))["results"];
  }
};

TEST_F(CheckpointCommands, ATrialIsTheSameModelWhereverItGoes) {
  for (const std::string preset : {"transformer", "mamba"}) {
    SCOPED_TRACE(preset);
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    const std::string trial = trial_of(preset), ids = continued(trial);
    EXPECT_THAT(printed({"export", trial, "--out", "exported"}), HasSubstr(preset == "mamba" ? "as mamba, " : "as llama, "));
    EXPECT_EQ(json::parse(text_of(folder_ / "exported/config.json"))["torch_dtype"], "float32");
    EXPECT_THAT(printed({"import", "exported", "--out", "imported"}), HasSubstr("float32 on disk"));
    EXPECT_THAT(printed({"export", "--model", "imported", "--out", "again", "--shard-size", "2KB"}), HasSubstr("again"));
    EXPECT_TRUE(fs::exists(folder_ / "again/model.safetensors.index.json"));
    const json trained = evaluated(trial, /*name_task=*/false);
    for (const std::string model : {"exported", "imported", "again"}) {
      EXPECT_EQ(continued(model), ids) << model;
      EXPECT_EQ(evaluated(model, /*name_task=*/true), trained) << model;
    }
  }
}

TEST_F(CheckpointCommands, LogitsAreThoseOfTheTokensInTheFile) {
  const std::string trial = trial_of("transformer");
  const auto tokens = at::tensor({1, 0, 1, 1, 0, 0}, at::kLong).view({2, 3});
  ASSERT_TRUE(write_safetensors(folder_ / "t.safetensors", {{"tokens", tokens}}).ok());
  const auto logits = [&](const std::string& dtype) {
    EXPECT_EQ(run({"logits", "--model", trial, "--tokens", "t.safetensors", "--out", "l.safetensors", "--dtype", dtype}), 0) << err();
    return read_safetensors(folder_ / "l.safetensors")->at("logits").clone();
  };
  const auto single = logits("float32"), wide = logits("float64");
  EXPECT_EQ(single.scalar_type(), at::kFloat);
  EXPECT_EQ(wide.scalar_type(), at::kDouble);
  EXPECT_EQ(single.dim(), 3);
  EXPECT_LE(single.to(at::kDouble).sub(wide).abs().max().item().toDouble(), 1e-5);
  EXPECT_GT(single.to(at::kDouble).sub(wide).abs().max().item().toDouble(), 0.0) << "float64 was float32";
}

TEST_F(CheckpointCommands, MistakesAreOneSentence) {
  const std::string trial = trial_of("transformer");
  const auto complaint = [&](const std::vector<std::string>& arguments) {
    EXPECT_NE(run(arguments), 0);
    return err();
  };
  ASSERT_TRUE(write_safetensors(folder_ / "t.safetensors", {{"tokens", at::full({1, 2}, 999, at::kLong)}}).ok());
  EXPECT_THAT(complaint({"logits", trial, "--tokens", "t.safetensors", "--out", "l"}), HasSubstr("holds the id 999; ids of this model are 0 to "));
  ASSERT_TRUE(write_safetensors(folder_ / "t.safetensors", {{"tokens", at::full({2}, 0, at::kLong)}}).ok());
  EXPECT_THAT(complaint({"logits", trial, "--tokens", "t.safetensors", "--out", "l"}), HasSubstr("\"tokens\" must be int64 [rows, length]"));
  EXPECT_THAT(complaint({"generate", "--model", "nowhere", "--prompt-ids", "1"}), HasSubstr("nowhere holds no model"));
  fs::create_directories(folder_ / "bert");
  write("bert/config.json", R"({"model_type": "bert"})");
  EXPECT_THAT(complaint({"import", "bert", "--out", "x"}), HasSubstr("bert/config.json: \"model_type\" is \"bert\""));
  EXPECT_FALSE(fs::exists(folder_ / "x"));
  EXPECT_EQ(run({"export", trial, "--out", "exported"}), 0) << err();
  EXPECT_THAT(complaint({"export", trial, "--out", "exported"}), HasSubstr("holds a model already"));
  EXPECT_THAT(complaint({"evaluate", "exported"}), HasSubstr("name one, e.g. --task text"));
  EXPECT_THAT(complaint({"generate", "exported", "--prompt", "a"}),
              HasSubstr("exported holds no tokenizer: give one by --tokenizer, or token ids by --prompt-ids"));
}

// A model on 257 tokens, the vocabulary it was trained by, and the text that comes out token by token.
TEST_F(CheckpointCommands, TextGoesThroughTheTokenizer) {
  write("vocabulary.txt", tiny_tokenizers::rwkv_lines({}));
  std::string book;
  for (int i = 0; i < 400; ++i) book += "中é ab\n";
  write("book.txt", book);
  write("race.toml", "threads = 1\nmatmul = \"mkl\"\n[training]\nsteps = 1\nbatch = 2\nevaluate_every = 1\nevaluate_batches = 1\n"
                     "test_batches = 1\n[[tasks]]\ntask = \"text\"\npath = \"book.txt\"\ntokenizer = \"vocabulary.txt\"\nlength = 16\n"
                     "[[models]]\npreset = \"transformer\"\nname = \"m\"\nrepeats = 1\nwidth = 16\n");
  ASSERT_EQ(run({"race", "race.toml", "--out", "run"}), 0) << err();
  const auto generated = [&](const std::string& model, std::vector<std::string> more) {
    std::vector<std::string> arguments = {"generate", "--model", model, "--new-tokens", "6", "--greedy"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return printed(arguments);
  };
  const std::string trial = "run/trials/text-m-1", text = generated(trial, {"--prompt", "中"});
  EXPECT_EQ(text.substr(0, 3), "中");
  // Byte b is id b + 1, so the ids of the prompt and of what follows say the same.
  std::istringstream ids(generated(trial, {"--prompt-ids", "229 185 174", "--print-ids"}));
  std::string spelled = "中";
  for (int id = 0; ids >> id;) spelled += id > 0 ? std::string(1, static_cast<char>(id - 1)) : "<|endoftext|>";
  EXPECT_EQ(text, spelled + "\n");

  // Outside the race, the folder's own tokenizer, or one that is named.
  ASSERT_EQ(run({"export", trial, "--out", "exported"}), 0) << err();
  EXPECT_EQ(generated("exported", {"--prompt", "中", "--tokenizer", "vocabulary.txt"}), text);
  fs::copy_file(folder_ / "vocabulary.txt", folder_ / "exported/rwkv_vocab.txt");
  EXPECT_EQ(generated("exported", {"--prompt", "中"}), text);
  write("large.txt", tiny_tokenizers::rwkv_lines({"ab"}));
  EXPECT_NE(run({"generate", "exported", "--prompt", "a", "--tokenizer", "large.txt"}), 0);
  EXPECT_THAT(err(), HasSubstr("the tokenizer has 258 ids and the model 257"));
}

}  // namespace
}  // namespace hippodrome::checkpoint_commands_test

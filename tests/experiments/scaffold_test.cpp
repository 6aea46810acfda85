#include <gtest/gtest.h>

#include <filesystem>

#include "tests/experiments/run_program.h"

namespace hippodrome::scaffold_test {
namespace {

using testing_program::ProgramTest;
using testing_program::text_of;
namespace fs = std::filesystem;

// The scaffold's own layer is compiled and held to the laws by hand (README); here: that its files and lines land where they
// belong, and that nothing is written when something is wrong.
class NewLayer : public ProgramTest {
 protected:
  void SetUp() override {
    ProgramTest::SetUp();
    fs::create_directories(folder_ / "architectures");
    fs::copy_file(testing_folder::source_folder() / "architectures/registry.cpp", folder_ / "architectures/registry.cpp");
  }
};

TEST_F(NewLayer, WritesItsFolderAndItsTwoLines) {
  ASSERT_EQ(run({"new", "slow_gate", "--family", "recurrent"}), 0);
  const fs::path layer = folder_ / "architectures/recurrent/slow_gate";
  EXPECT_NE(text_of(layer / "slow_gate.h").find("class SlowGate final : public Layer"), std::string::npos);
  EXPECT_NE(text_of(layer / "slow_gate.cpp").find("#include \"architectures/recurrent/slow_gate/slow_gate.h\""), std::string::npos);
  EXPECT_NE(text_of(layer / "README.md").find("# slow_gate"), std::string::npos);
  const std::string list = text_of(folder_ / "architectures/registry.cpp");
  EXPECT_NE(list.find("#include \"architectures/recurrent/slow_gate/slow_gate.h\"\n// includes of new layers"), std::string::npos);
  EXPECT_NE(list.find("layer_entry<SlowGate>(\"slow_gate\", \"recurrent\""), std::string::npos);
}

TEST_F(NewLayer, RefusesNamesThatAreTakenOrNoNames) {
  const std::string before = text_of(folder_ / "architectures/registry.cpp");
  for (const std::string name : {"mamba", "Bad", "1st", "a-b"}) {
    EXPECT_EQ(run({"new", name}), 2) << name;
  }
  EXPECT_EQ(text_of(folder_ / "architectures/registry.cpp"), before);
  EXPECT_FALSE(fs::exists(folder_ / "architectures/recurrent"));
}

TEST_F(NewLayer, SaysWhereItMustRun) {
  fs::remove(folder_ / "architectures/registry.cpp");
  EXPECT_EQ(run({"new", "slow_gate"}), 2);
  EXPECT_NE(text_of(folder_ / "err.txt").find("give it with --root"), std::string::npos);
}

}  // namespace
}  // namespace hippodrome::scaffold_test

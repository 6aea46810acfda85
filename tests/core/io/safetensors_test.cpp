#include "core/io/safetensors.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>

#include "core/io/atomic_file.h"
#include "tests/test_folder.h"

namespace hippodrome::safetensors_test {
namespace {

namespace fs = std::filesystem;

// A file of this header and data, whatever they are.
std::string file_of(std::string_view header, std::string_view data = "") {
  const uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes.append(header).append(data);
}

std::string error_of(std::string_view bytes) {
  return std::string(parse_safetensors(bytes, "m.safetensors").status().message());
}

class SafetensorsTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing_folder::own_folder();
    fs::create_directories(folder_);
    path_ = folder_ / "m.safetensors";
  }
  void TearDown() override { fs::remove_all(folder_); }

  fs::path folder_, path_;
};

TEST_F(SafetensorsTest, EveryTypeAndShapeComesBackBitForBit) {
  std::map<std::string, Tensor> tensors;
  for (const at::ScalarType type : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong, at::kInt, at::kShort,
                                    at::kChar, at::kByte, at::kBool}) {
    const std::string name = c10::toString(type);
    tensors[name + ".matrix"] = at::arange(-3, 12, at::kLong).reshape({3, 5}).to(type);
    tensors[name + ".scalar"] = at::full({}, 1, type);
    tensors[name + ".empty"] = at::empty({0, 4}, type);
    tensors[name + ".odd"] = at::ones({3}, type);
  }
  tensors["\"quoted\" \\ naïve 名\n"] = at::ones({1});
  const std::map<std::string, std::string> metadata = {{"config", "{\"width\": 3}"}, {"é", ""}};
  ASSERT_TRUE(write_safetensors(path_, tensors, metadata).ok());
  const std::string bytes = *read_file(path_);
  for (const absl::StatusOr<SafetensorsFile>& file :
       {open_safetensors(path_), parse_safetensors(bytes, "m.safetensors")}) {
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(file->metadata, metadata);
    ASSERT_EQ(file->tensors.size(), tensors.size());
    for (const auto& [name, tensor] : tensors) {
      const Tensor& read = file->tensors.at(name);
      EXPECT_EQ(read.scalar_type(), tensor.scalar_type());
      EXPECT_EQ(read.sizes(), tensor.sizes());
      EXPECT_TRUE(at::equal(read, tensor)) << name;
    }
  }
}

TEST_F(SafetensorsTest, BytesAreFixed) {
  ASSERT_TRUE(write_safetensors(path_,
                                {{"b", at::full({1, 2}, 1.0, at::kFloat)},
                                 {"a", at::full({1}, 7, at::kByte)},
                                 {"c", at::full({1}, 2.0, at::kFloat)}},
                                {{"y", "2"}, {"x", "1"}})
                  .ok());
  const std::string header =
      R"({"__metadata__":{"x":"1","y":"2"},"b":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},)"
      R"("c":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},"a":{"dtype":"U8","shape":[1],"data_offsets":[12,13]}})";
  const std::string padded = header + std::string((8 - header.size() % 8) % 8, ' ');
  EXPECT_EQ(*read_file(path_),
            file_of(padded, std::string("\x00\x00\x80\x3f\x00\x00\x80\x3f\x00\x00\x00\x40\x07", 13)));
}

TEST_F(SafetensorsTest, NothingAtAllCanBeWrittenAndRead) {
  ASSERT_TRUE(write_safetensors(path_, {}).ok());
  EXPECT_EQ(*read_file(path_), file_of("{}      "));
  const absl::StatusOr<std::map<std::string, Tensor>> tensors = read_safetensors(path_);
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  EXPECT_TRUE(tensors->empty());
}

TEST_F(SafetensorsTest, StridesAreWrittenInOrder) {
  const Tensor whole = at::arange(0, 24, at::kFloat).reshape({4, 6});
  const Tensor transposed = whole.t(), column = whole.select(1, 2), expanded = at::ones({1}).expand({5});
  ASSERT_TRUE(write_safetensors(path_, {{"t", transposed}, {"c", column}, {"e", expanded}}).ok());
  const absl::StatusOr<SafetensorsFile> file = open_safetensors(path_);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE(at::equal(file->tensors.at("t"), transposed));
  EXPECT_TRUE(file->tensors.at("t").is_contiguous());
  EXPECT_TRUE(at::equal(file->tensors.at("c"), column));
  EXPECT_TRUE(at::equal(file->tensors.at("e"), expanded));
}

TEST_F(SafetensorsTest, TensorsOutliveTheFileAndWritingToThemLeavesItAlone) {
  ASSERT_TRUE(write_safetensors(path_, {{"w", at::ones({1000})}}).ok());
  const std::string before = *read_file(path_);
  Tensor tensor;
  {
    absl::StatusOr<SafetensorsFile> file = open_safetensors(path_);
    ASSERT_TRUE(file.ok());
    tensor = file->tensors.at("w");
  }
  tensor.fill_(3.0);
  EXPECT_EQ(*read_file(path_), before);
  ASSERT_TRUE(write_safetensors(path_, {{"w", at::zeros({5})}}).ok());
  EXPECT_TRUE(at::equal(tensor, at::full({1000}, 3.0)));
}

// As other writers may lay it out: a float behind one byte.
TEST_F(SafetensorsTest, MisalignedDataIsCopied) {
  const std::string bytes = file_of(R"({"f":{"dtype":"F32","shape":[1],"data_offsets":[1,5]},)"
                                    R"("b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                                    std::string("\x05\x00\x00\x80\x3f", 5));
  ASSERT_TRUE(write_file(path_, bytes).ok());
  const absl::StatusOr<SafetensorsFile> file = open_safetensors(path_);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->tensors.at("f").item<float>(), 1.0f);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(file->tensors.at("f").const_data_ptr()) % alignof(float), 0u);
  EXPECT_EQ(file->tensors.at("b").item<uint8_t>(), 5);
}

TEST(Safetensors, HostileFilesAreRefusedInOneSentence) {
  const std::string eight(8, '\0');
  const auto tensor = [](std::string_view dtype, std::string_view shape, std::string_view offsets) {
    return "{\"w\":{\"dtype\":\"" + std::string(dtype) + "\",\"shape\":" + std::string(shape) +
           ",\"data_offsets\":" + std::string(offsets) + "}}";
  };
  ASSERT_EQ(error_of(file_of(tensor("F32", "[2]", "[0,8]"), eight)), "");
  ASSERT_EQ(error_of(file_of(tensor("F32", "[2,0]", "[0,0]"))), "");
  const std::string whole = tensor("F32", "[2]", "[0,8]");
  const std::string two = R"({"v":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"w":{"dtype":"U8","shape":[4],)";
  std::string ones = "1";
  for (int i = 0; i < 64; ++i) {
    ones += ",1";
  }
  const struct {
    std::string bytes;
    std::string error;
  } cases[] = {
      {"", "this is no safetensors file: it has 0 bytes"},
      {"1234567", "this is no safetensors file: it has 7 bytes"},
      {std::string(8, '\xff'), "this is no safetensors file: its header would have 18446744073709551615 bytes, more than the "
                               "100 MB the format allows"},
      {eight, "the header is not a JSON object"},
      {file_of("{}").substr(0, 9), "the file is cut off inside its header: it has 9 bytes, and the header ends at 10"},
      {file_of("[]"), "the header is not a JSON object"},
      {file_of(" {}"), "the header is not a JSON object"},
      {file_of("{"), "the header is not valid JSON near its byte 2"},
      {file_of("{}x"), "the header is not valid JSON near its byte 3"},
      {file_of(std::string("{}\0x", 4)), "the header is not valid JSON: it holds a zero byte"},
      {file_of("{\"\xff\":{}}"), "the header is not valid JSON near its byte 3"},
      {file_of("{\"w\":3}"), "the header's entry \"w\" is not an object"},
      {file_of("{\"w\":[]}"), "the header's entry \"w\" is not an object"},
      {file_of("{\"w\":{}}"), "tensor \"w\" has no proper \"dtype\""},
      {file_of("{\"__metadata__\":{\"a\":1}}"), "the metadata's entry \"a\" is not a string"},
      {file_of("{\"__metadata__\":{\"a\":{}}}"), "the metadata's entry \"a\" is not a string"},
      {file_of("{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}"), "the metadata has the key \"a\" twice"},
      {file_of(whole.substr(0, whole.size() - 1) + "," + whole.substr(1), eight),
       "the header names \"w\" twice"},
      {file_of(R"({"w":{"dtype":"F32","dtype":"F32"}})"), "tensor \"w\" has the key \"dtype\" twice"},
      {file_of(R"({"w":{"dtype":"F32","strides":[1]}})"), "tensor \"w\" has the unknown key \"strides\""},
      {file_of(R"({"w":{"dtype":"F32","data_offsets":[0,0]}})"), "tensor \"w\" has no proper \"shape\""},
      {file_of(R"({"w":{"dtype":"F32","shape":3}})"), "tensor \"w\" has no proper \"shape\""},
      {file_of(tensor("F8_E4M3", "[8]", "[0,8]"), eight),
       "tensor \"w\" has the dtype \"F8_E4M3\"; read are F64, F32, F16, BF16, I64, I32, I16, I8, U8 and BOOL"},
      {file_of(tensor("F32", "[-2]", "[0,8]"), eight), "the shape of tensor \"w\" holds a negative number"},
      {file_of(tensor("F32", "[2.0]", "[0,8]"), eight),
       "the shape of tensor \"w\" holds a number that is no 64-bit integer"},
      {file_of(tensor("F32", "[9223372036854775808]", "[0,8]"), eight),
       "the shape of tensor \"w\" holds a number that is no 64-bit integer"},
      {file_of(tensor("F32", "[99999999999999999999999]", "[0,8]"), eight),
       "the shape of tensor \"w\" holds a number that is no 64-bit integer"},
      {file_of(tensor("F32", "[4294967296,4294967296]", "[0,8]"), eight),
       "tensor \"w\" has the shape [4294967296, 4294967296], more than 64 bits count"},
      {file_of(tensor("F32", "[4294967296,4294967296,0]", "[0,0]")),
       "tensor \"w\" has the shape [4294967296, 4294967296, 0], more than 64 bits count"},
      {file_of(tensor("F32", "[[2]]", "[0,8]"), eight), "the shape of tensor \"w\" holds something that is no number"},
      {file_of(tensor("F32", "[\"2\"]", "[0,8]"), eight), "the shape of tensor \"w\" holds something that is no number"},
      {file_of(tensor("F32", "[" + ones + "]", "[0,4]"), "1234"),
       "the shape of tensor \"w\" has more than 64 axes"},
      {file_of(tensor("F32", "[2]", "[0]"), eight), "tensor \"w\" has no proper \"data_offsets\""},
      {file_of(tensor("F32", "[2]", "[0,8,8]"), eight), "\"data_offsets\" of tensor \"w\" holds more than two numbers"},
      {file_of(tensor("F32", "[2]", "[0,7]"), eight),
       "tensor \"w\" of shape [2] in F32 needs 8 bytes, but its offsets are 0 to 7"},
      {file_of(tensor("F32", "[2]", "[8,0]"), eight),
       "tensor \"w\" of shape [2] in F32 needs 8 bytes, but its offsets are 8 to 0"},
      {file_of(tensor("F32", "[1000000000000]", "[0,4000000000000]"), eight),
       "the file is cut off inside tensor \"w\": it holds 8 bytes of data, and the tensor ends at 4000000000000"},
      {file_of(tensor("U8", "[8]", "[9223372036854775799,9223372036854775807]"), eight),
       "the 9223372036854775799 bytes before tensor \"w\" belong to no tensor"},
      {file_of(tensor("U8", "[4]", "[4,8]"), eight), "the 4 bytes before tensor \"w\" belong to no tensor"},
      {file_of(tensor("U8", "[4]", "[0,4]"), eight), "the last 4 bytes belong to no tensor"},
      {file_of(two + "\"data_offsets\":[3,7]}}", eight), "tensor \"w\" overlaps the tensor before it"},
      {file_of(two + "\"data_offsets\":[0,4]}}", eight), "tensor \"w\" overlaps the tensor before it"},
      {file_of(two + "\"data_offsets\":[5,9]}}", eight), "the 1 bytes before tensor \"w\" belong to no tensor"},
      {file_of(tensor("BOOL", "[8]", "[0,8]"), std::string(7, '\1') + "\2"),
       "tensor \"w\" is BOOL and holds bytes other than 0 and 1"},
      {file_of(std::string(100000, '[')), "the header is not a JSON object"},
      {file_of("{\"w\":" + std::string(100000, '[')), "the header's entry \"w\" is not an object"},
  };
  for (const auto& [bytes, error] : cases) {
    EXPECT_EQ(error_of(bytes), "m.safetensors: " + error) << bytes.substr(0, 200);
  }
}

// Written by the `safetensors` package 0.8.0 for Python: arange(6) as [2, 3] in every type NumPy has, under the type's name.
TEST(Safetensors, AFileOfThePythonPackageIsRead) {
  const fs::path path = testing_folder::source_folder() / "tests/fuzz/corpus/safetensors/numpy.safetensors";
  const absl::StatusOr<SafetensorsFile> file = open_safetensors(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->metadata, (std::map<std::string, std::string>{{"format", "np"}}));
  EXPECT_EQ(file->tensors.size(), 11u);
  const Tensor expected = at::arange(6, at::kDouble).reshape({2, 3});
  for (const auto& [name, type] : std::map<std::string, at::ScalarType>{{"F64", at::kDouble},
                                                                        {"F32", at::kFloat},
                                                                        {"F16", at::kHalf},
                                                                        {"I64", at::kLong},
                                                                        {"I32", at::kInt},
                                                                        {"I16", at::kShort},
                                                                        {"I8", at::kChar},
                                                                        {"U8", at::kByte},
                                                                        {"BOOL", at::kBool}}) {
    ASSERT_EQ(file->tensors.count(name), 1u) << name;
    EXPECT_EQ(file->tensors.at(name).scalar_type(), type);
    EXPECT_TRUE(at::equal(file->tensors.at(name), expected.to(type))) << name;
  }
  EXPECT_EQ(file->tensors.at("empty").sizes(), (std::vector<int64_t>{0, 3}));
  EXPECT_EQ(file->tensors.at("scalar").item<float>(), 2.5f);
}

TEST(Safetensors, EveryTruncationIsAnError) {
  const fs::path path = fs::path(testing::TempDir()) / ("safetensors_cut." + std::to_string(::getpid()));
  ASSERT_TRUE(write_safetensors(path, {{"a", at::ones({5})}, {"b", at::ones({3}, at::kByte)}}).ok());
  const std::string bytes = *read_file(path);
  for (size_t size = 0; size < bytes.size(); ++size) {
    ASSERT_TRUE(write_file(path, bytes.substr(0, size)).ok());
    EXPECT_FALSE(open_safetensors(path).ok()) << size;
    EXPECT_FALSE(parse_safetensors(bytes.substr(0, size), "cut").ok()) << size;
  }
  fs::remove(path);
}

TEST(Safetensors, LongNamesAreCutInMessages) {
  std::string name;
  for (int i = 0; i < 1000; ++i) {
    name += "é";
  }
  const std::string error = error_of(file_of("{\"" + name + "\":3}"));
  EXPECT_LT(error.size(), 250u);
  EXPECT_NE(error.find("é…\""), std::string::npos) << error;
}

TEST_F(SafetensorsTest, FileErrorsNameTheFile) {
  EXPECT_EQ(open_safetensors(path_).status().message(), "cannot read " + path_.string() + ": No such file or directory");
  EXPECT_EQ(open_safetensors(folder_).status().message(), folder_.string() + ": this is not a regular file");
  ASSERT_TRUE(write_file(path_, "").ok());
  EXPECT_EQ(open_safetensors(path_).status().message(), path_.string() + ": this is no safetensors file: it is empty");
}

TEST_F(SafetensorsTest, WhatCannotBeWrittenIsNamedAndLeavesNoFile) {
  const std::string file = path_.string();
  EXPECT_EQ(write_safetensors(path_, {{"w", Tensor()}}).message(), file + ": tensor \"w\" has no plain data to write");
  EXPECT_EQ(write_safetensors(path_, {{"w", at::zeros({2}, at::kComplexFloat)}}).message(),
            file + ": tensor \"w\" is of type ComplexFloat, for which safetensors has no name here");
  EXPECT_EQ(write_safetensors(path_, {{"w", at::empty({2}, at::TensorOptions(at::kMeta))}}).message(),
            file + ": tensor \"w\" has no plain data to write");
  EXPECT_EQ(write_safetensors(path_, {{"__metadata__", at::ones({2})}}).message(),
            file + ": a tensor cannot be named \"__metadata__\"");
  EXPECT_EQ(write_safetensors(path_, {{"\xff", at::ones({2})}}).message(),
            file + ": a tensor name or the metadata is not UTF-8 text");
  EXPECT_EQ(write_safetensors(path_, {{"w", at::ones({2})}}, {{"k", "\xc3"}}).message(),
            file + ": a tensor name or the metadata is not UTF-8 text");
  EXPECT_EQ(write_safetensors(folder_ / "no" / "m", {}).message(),
            "cannot write " + (folder_ / "no" / "m").string() + ": No such file or directory");
  EXPECT_TRUE(fs::is_empty(folder_));
}

}  // namespace
}  // namespace hippodrome::safetensors_test

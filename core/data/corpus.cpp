#include "core/data/corpus.h"

#include <c10/core/CPUAllocator.h>
#include <dlfcn.h>
#include <torch/version.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/random.h"
#include "core/base/text.h"

namespace hippodrome {
namespace {
namespace corpus {

namespace fs = std::filesystem;

constexpr int64_t kDefaultBytes = 8'000'000;
constexpr int64_t kLargestHeader = 256 << 10;

struct File {
  std::string relative;  // to the folder, with '/'
  fs::path path;
  int64_t size;
};

absl::StatusOr<std::string> read_file(const fs::path& path, int64_t limit) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  const int64_t size = in ? static_cast<int64_t>(in.tellg()) : -1;
  std::string bytes(static_cast<size_t>(std::max<int64_t>(limit > 0 ? std::min(size, limit) : size, 0)), '\0');
  in.seekg(0);
  in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (size < 0 || !in) {
    return absl::NotFoundError(absl::StrCat("cannot read ", path.string(), ": check that the file may be read"));
  }
  return bytes;
}

// All regular files below `root` in the order of their paths, hidden and empty ones left out.
std::vector<File> list_files(const fs::path& root) {
  std::vector<File> files;
  std::error_code error;
  fs::recursive_directory_iterator entry(root, fs::directory_options::skip_permission_denied, error);
  for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    std::error_code ignored;
    if (entry->path().filename().string().starts_with('.')) {
      entry.disable_recursion_pending();
    } else if (entry->is_regular_file(ignored)) {
      const auto size = entry->file_size(ignored);
      if (!ignored && size > 0) {
        files.push_back(
            {entry->path().lexically_relative(root).generic_string(), entry->path(), static_cast<int64_t>(size)});
      }
    }
  }
  std::sort(files.begin(), files.end(), [](const File& a, const File& b) { return a.relative < b.relative; });
  return files;
}

Split split_of(const std::string& relative) {
  const double place = RandomStream(0, relative).fork("split").uniform();
  return place < 0.90 ? Split::kTrain : place < 0.95 ? Split::kValidation : Split::kTest;
}

// Keeps as many files as fit into `limit` bytes, chosen by a hash of their paths; returns how many were left out.
int64_t keep_within(int64_t limit, std::vector<File>& files) {
  std::vector<std::pair<uint64_t, size_t>> order;
  for (size_t i = 0; i < files.size(); ++i) {
    order.emplace_back(RandomStream(0, files[i].relative).fork("choice").bits(), i);
  }
  std::sort(order.begin(), order.end());
  std::vector<char> kept(files.size(), 0);
  for (const auto& [hash, index] : order) {
    if (files[index].size + 1 <= limit) {
      limit -= files[index].size + 1;
      kept[index] = 1;
    }
  }
  std::vector<File> chosen;
  for (size_t i = 0; i < files.size(); ++i) {
    if (kept[i]) {
      chosen.push_back(std::move(files[i]));
    }
  }
  const int64_t left_out = static_cast<int64_t>(files.size() - chosen.size());
  files = std::move(chosen);
  return left_out;
}

absl::StatusOr<Corpus> read_files(std::vector<File> files, int64_t max_bytes) {
  Corpus corpus;
  corpus.split_by = "file";
  if (max_bytes > 0) {
    corpus.files_left_out = keep_within(max_bytes, files);
  }
  for (const File& file : files) {
    ASSIGN_OR_RETURN(const std::string text, read_file(file.path, 0));
    if (text.find('\0') != std::string::npos) {
      ++corpus.binary_files;
      continue;
    }
    SymbolStream& stream = corpus.splits[static_cast<size_t>(split_of(file.relative))];
    stream.bytes.append(text).push_back('\0');
    ++stream.files;
  }
  return corpus;
}

// The folder `include` that goes with the loaded LibTorch: beside its library folder, or further up (system
// packages).
absl::StatusOr<fs::path> header_folder() {
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(&c10::GetCPUAllocator), &info) != 0 && info.dli_fname != nullptr) {
    std::error_code ignored;
    fs::path folder = fs::weakly_canonical(info.dli_fname, ignored).parent_path();
    for (int level = 0; level < 3 && folder.has_relative_path(); ++level) {
      folder = folder.parent_path();
      if (fs::exists(folder / "include/ATen/core/Tensor.h", ignored)) {
        return folder / "include";
      }
    }
  }
  return absl::NotFoundError(
      "the default corpus is the headers that LibTorch ships, but there are none beside the loaded library: set path "
      "to any text file or folder");
}

absl::StatusOr<Corpus> read_headers(int64_t max_bytes) {
  ASSIGN_OR_RETURN(const fs::path include, header_folder());
  std::vector<File> files;
  for (const std::string folder : {"ATen", "c10", "torch"}) {
    for (File& file : list_files(include / folder)) {
      file.relative = absl::StrCat(folder, "/", file.relative);
      if (!file.relative.starts_with("ATen/ops/") && file.size <= kLargestHeader) {
        files.push_back(std::move(file));
      }
    }
  }
  ASSIGN_OR_RETURN(Corpus corpus, read_files(std::move(files), max_bytes > 0 ? max_bytes : kDefaultBytes));
  corpus.source =
      absl::StrCat("headers of LibTorch ", TORCH_VERSION_MAJOR, ".", TORCH_VERSION_MINOR, ".", TORCH_VERSION_PATCH);
  return corpus;
}

// Cuts `bytes` after `first` and `second` symbols of `width` bytes.
void cut(const std::string& bytes, int64_t width, int64_t first, int64_t second, Corpus& corpus) {
  const int64_t ends[] = {0, first * width, second * width, static_cast<int64_t>(bytes.size())};
  for (int split = 0; split < 3; ++split) {
    corpus.splits[split].bytes = bytes.substr(ends[split], ends[split + 1] - ends[split]);
    corpus.splits[split].files = 1;
  }
}

absl::StatusOr<Corpus> read_single(const fs::path& path, int64_t max_bytes, bool wide) {
  ASSIGN_OR_RETURN(const std::string bytes, read_file(path, max_bytes));
  Corpus corpus;
  corpus.split_by = "position";
  const int64_t width = wide ? 2 : 1;
  const int64_t symbols = static_cast<int64_t>(bytes.size()) / width;
  cut(bytes, width, symbols * 90 / 100, symbols * 95 / 100, corpus);
  return corpus;
}

absl::StatusOr<Corpus> read_pair(const fs::path& folder, int64_t max_bytes) {
  ASSIGN_OR_RETURN(std::string train, read_file(folder / "train.bin", max_bytes));
  ASSIGN_OR_RETURN(const std::string held_out, read_file(folder / "val.bin", max_bytes));
  Corpus corpus;
  corpus.split_by = "file";
  cut(held_out, 2, 0, static_cast<int64_t>(held_out.size()) / 4, corpus);
  corpus.splits[0].bytes = std::move(train);
  return corpus;
}

absl::Status check_ids(const std::string& path, int64_t vocabulary, Corpus& corpus) {
  int64_t largest = 0;
  for (SymbolStream& stream : corpus.splits) {
    if (stream.bytes.size() % 2 != 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          path, " has an odd number of bytes, but a .bin holds 16-bit token ids: give a nanoGPT-style file"));
    }
    stream.wide = true;
    for (int64_t i = 0; i < stream.size(); ++i) {
      int64_t id = 0;
      stream.copy(i, 1, &id);
      largest = std::max(largest, id);
    }
  }
  if (vocabulary > 0 && largest >= vocabulary) {
    return absl::InvalidArgumentError(absl::StrCat(path, " holds token id ", largest, ", but vocabulary is ",
                                                   vocabulary, ": set vocabulary to at least ", largest + 1));
  }
  corpus.vocabulary = vocabulary > 0 ? vocabulary : largest + 1;
  return absl::OkStatus();
}

absl::StatusOr<Corpus> read_path(const std::string& path, int64_t max_bytes, bool& wide) {
  std::error_code ignored;
  if (path.empty()) {
    return read_headers(max_bytes);
  }
  if (!fs::exists(path, ignored)) {
    return absl::NotFoundError(
        absl::StrCat("there is no file or folder ", path,
                     ": give an existing text file, folder or .bin of tokens, or leave path out for "
                     "the headers of LibTorch"));
  }
  if (fs::is_directory(path, ignored)) {
    wide = fs::exists(fs::path(path) / "train.bin", ignored) && fs::exists(fs::path(path) / "val.bin", ignored);
    return wide ? read_pair(path, max_bytes) : read_files(list_files(path), max_bytes);
  }
  wide = fs::path(path).extension() == ".bin";
  return read_single(path, wide ? max_bytes / 2 * 2 : max_bytes, wide);
}

}  // namespace corpus
}  // namespace

void SymbolStream::copy(int64_t start, int64_t count, int64_t* out) const {
  const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
  for (int64_t i = 0; i < count; ++i) {
    out[i] = wide ? data[2 * (start + i)] | data[2 * (start + i) + 1] << 8 : data[start + i];
  }
}

std::vector<uint16_t> SymbolStream::first(int64_t count) const {
  std::vector<int64_t> ids(static_cast<size_t>(std::min(count, size())));
  copy(0, static_cast<int64_t>(ids.size()), ids.data());
  return {ids.begin(), ids.end()};
}

absl::StatusOr<Corpus> read_corpus(const std::string& path, int64_t max_bytes, int64_t vocabulary) {
  bool wide = false;
  ASSIGN_OR_RETURN(Corpus corpus, corpus::read_path(path, max_bytes, wide));
  if (wide) {
    RETURN_IF_ERROR(corpus::check_ids(path, vocabulary, corpus));
  } else if (vocabulary != 0 && vocabulary != 256) {
    return absl::InvalidArgumentError(absl::StrCat("text is read as bytes, so its vocabulary is 256, not ", vocabulary,
                                                   ": leave vocabulary out, or give a .bin of tokens as path"));
  }
  if (corpus.source.empty()) {
    corpus.source = path;
  }
  for (SymbolStream& stream : corpus.splits) {
    stream.sha256 = sha256(stream.bytes);
  }
  return corpus;
}

absl::StatusOr<Corpus> tokenized(Corpus corpus, const Tokenizer& tokenizer) {
  if (corpus.splits[0].wide) {
    return absl::InvalidArgumentError(
        absl::StrCat(corpus.source, " holds tokens already: leave tokenizer out, or give the text they come from"));
  }
  corpus.vocabulary = tokenizer.vocabulary();
  if (corpus.vocabulary > 1 << 16) {
    return absl::InvalidArgumentError(absl::StrCat("the tokenizer has ", corpus.vocabulary,
                                                   " ids, and a corpus holds 16-bit ones: give one of at most 65536"));
  }
  for (SymbolStream& stream : corpus.splits) {
    const std::vector<int64_t> ids = tokenizer.encode(stream.bytes);
    stream.bytes.clear();
    for (const int64_t id : ids) {
      stream.bytes += static_cast<char>(id & 0xFF);
      stream.bytes += static_cast<char>(id >> 8);
    }
    stream.wide = true;
    stream.sha256 = sha256(stream.bytes);
  }
  return corpus;
}

}  // namespace hippodrome

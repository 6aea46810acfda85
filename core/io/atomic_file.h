#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "core/base/status.h"

// Files that are whole or absent: written beside their place, flushed to the disk and renamed. Errors are one sentence that
// names the file and the reason.
namespace hippodrome {

// A file being written. What is not committed leaves nothing behind.
class AtomicFile {
 public:
  // The folder must exist.
  static absl::StatusOr<AtomicFile> create(const std::filesystem::path& path);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&& other) noexcept;
  ~AtomicFile();

  absl::Status write(std::string_view bytes);
  // Puts the file in place of any older one of that name.
  absl::Status commit();

 private:
  AtomicFile(std::filesystem::path path, std::filesystem::path temporary, int descriptor);
  void discard();

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;  // -1: committed, moved from or failed
};

absl::Status write_file(const std::filesystem::path& path, std::string_view contents);

// Adds `line` and a newline in a single write, so that lines of several processes do not mix. `line` holds no newline.
absl::Status append_line(const std::filesystem::path& path, std::string_view line);

// The contents of a regular file of at most `limit` bytes.
absl::StatusOr<std::string> read_file(const std::filesystem::path& path, size_t limit = size_t{1} << 40);

}  // namespace hippodrome

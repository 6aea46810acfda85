#include "core/io/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

namespace hippodrome {
namespace atomic_file_detail {
namespace {

// "cannot write runs/a.json: No space left on device"
absl::Status failure(std::string_view action, const std::filesystem::path& path, int error) {
  const std::string message =
      "cannot " + std::string(action) + " " + path.string() + ": " + std::generic_category().message(error);
  return error == ENOENT || error == ENOTDIR ? absl::NotFoundError(message) : absl::UnavailableError(message);
}

class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (value_ >= 0) {
      ::close(value_);
    }
  }
  int get() const { return value_; }

 private:
  int value_;
};

// Returns 0 or the error.
int write_all(int descriptor, std::string_view bytes) {
  // Linux moves at most 2 GiB at a time anyway.
  constexpr size_t kLargestWrite = size_t{1} << 30;
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), std::min(bytes.size(), kLargestWrite));
    if (written < 0) {
      if (errno == EINTR) {
        continue;
      }
      return errno;
    }
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return 0;
}

std::filesystem::path folder_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

}  // namespace
}  // namespace atomic_file_detail

AtomicFile::AtomicFile(std::filesystem::path path, std::filesystem::path temporary, int descriptor)
    : path_(std::move(path)), temporary_(std::move(temporary)), descriptor_(descriptor) {}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

AtomicFile& AtomicFile::operator=(AtomicFile&& other) noexcept {
  if (this != &other) {
    discard();
    path_ = std::move(other.path_);
    temporary_ = std::move(other.temporary_);
    descriptor_ = std::exchange(other.descriptor_, -1);
  }
  return *this;
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::discard() {
  if (descriptor_ >= 0) {
    ::close(std::exchange(descriptor_, -1));
    ::unlink(temporary_.c_str());
  }
}

absl::StatusOr<AtomicFile> AtomicFile::create(const std::filesystem::path& path) {
  if (path.filename().empty()) {
    return absl::InvalidArgumentError("cannot write \"" + path.string() + "\": this names no file");
  }
  // The process number keeps processes apart, the attempt keeps apart files of one process and remains of a killed one.
  for (int attempt = 0; attempt < 1000; ++attempt) {
    std::filesystem::path temporary = path;
    temporary += "." + std::to_string(::getpid()) + "." + std::to_string(attempt) + ".partial";
    const int descriptor = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor >= 0) {
      return AtomicFile(path, std::move(temporary), descriptor);
    }
    if (errno != EEXIST && errno != EINTR) {
      return atomic_file_detail::failure("write", path, errno);
    }
  }
  return absl::UnavailableError("cannot write " + path.string() + ": too many .partial files beside it; remove them");
}

absl::Status AtomicFile::write(std::string_view bytes) {
  if (descriptor_ < 0) {
    return absl::FailedPreconditionError("cannot write " + path_.string() + ": it is closed already");
  }
  if (const int error = atomic_file_detail::write_all(descriptor_, bytes); error != 0) {
    discard();
    return atomic_file_detail::failure("write", path_, error);
  }
  return absl::OkStatus();
}

absl::Status AtomicFile::commit() {
  if (descriptor_ < 0) {
    return absl::FailedPreconditionError("cannot write " + path_.string() + ": it is closed already");
  }
  if (::fsync(descriptor_) != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int error = errno;
    discard();
    return atomic_file_detail::failure("write", path_, error);
  }
  ::close(std::exchange(descriptor_, -1));
  // The rename itself lasts when the folder is flushed; some file systems cannot, which does not harm the contents.
  const atomic_file_detail::Descriptor folder(
      ::open(atomic_file_detail::folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.get() >= 0) {
    ::fsync(folder.get());
  }
  return absl::OkStatus();
}

absl::Status write_file(const std::filesystem::path& path, std::string_view contents) {
  ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(path));
  RETURN_IF_ERROR(file.write(contents));
  return file.commit();
}

absl::Status append_line(const std::filesystem::path& path, std::string_view line) {
  if (line.find('\n') != std::string_view::npos) {
    return absl::InvalidArgumentError("cannot append to " + path.string() + ": the line holds a newline");
  }
  const atomic_file_detail::Descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  if (file.get() < 0) {
    return atomic_file_detail::failure("append to", path, errno);
  }
  std::string record(line);
  record += '\n';
  ssize_t written = -1;
  do {
    written = ::write(file.get(), record.data(), record.size());
  } while (written < 0 && errno == EINTR);
  if (written < 0) {
    return atomic_file_detail::failure("append to", path, errno);
  }
  if (static_cast<size_t>(written) != record.size()) {
    return absl::UnavailableError("cannot append to " + path.string() + ": only part of the line was written");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> read_file(const std::filesystem::path& path, size_t limit) {
  const atomic_file_detail::Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat facts {};
  if (file.get() < 0 || ::fstat(file.get(), &facts) != 0) {
    return atomic_file_detail::failure("read", path, errno);
  }
  if (!S_ISREG(facts.st_mode)) {
    return absl::InvalidArgumentError("cannot read " + path.string() + ": it is " +
                                      (S_ISDIR(facts.st_mode) ? "a folder" : "not a regular file"));
  }
  if (static_cast<size_t>(facts.st_size) > limit) {
    return absl::InvalidArgumentError("cannot read " + path.string() + ": it has " + std::to_string(facts.st_size) +
                                      " bytes, more than the " + std::to_string(limit) + " allowed here");
  }
  std::string contents(static_cast<size_t>(facts.st_size), '\0');
  size_t filled = 0;
  while (filled < contents.size()) {
    const ssize_t count = ::read(file.get(), contents.data() + filled, contents.size() - filled);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return atomic_file_detail::failure("read", path, errno);
    }
    if (count == 0) {
      contents.resize(filled);  // shortened while it was read
      break;
    }
    filled += static_cast<size_t>(count);
  }
  return contents;
}

}  // namespace hippodrome

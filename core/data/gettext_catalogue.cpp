#include "core/data/gettext_catalogue.h"

#include <iconv.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <utility>

#include "core/data/tokenizer/unicode.h"

namespace hippodrome {
namespace {
namespace gettext_detail {

constexpr uint32_t kMagic = 0x950412DE;
constexpr size_t kHeader = 28;
constexpr char kContextEnd = '\4';

absl::Status malformed(const std::string& name, const std::string& message) {
  return absl::DataLossError(name + ": " + message);
}

// The numbers and strings of a file, none of them trusted.
class File {
 public:
  explicit File(std::string_view bytes) : bytes_(bytes) {}

  bool detect_byte_order() {
    if (number(0) == kMagic) return true;
    big_endian_ = true;
    return number(0) == kMagic;
  }

  // The 32 bits at a place within the file.
  uint32_t number(uint64_t at) const {
    uint32_t value = 0;
    for (uint64_t i = 0; i < 4; ++i) {
      const uint32_t byte = static_cast<unsigned char>(bytes_[at + (big_endian_ ? i : 3 - i)]);
      value = value << 8 | byte;
    }
    return value;
  }

  // The string that entry `index` of the table at `table` names; none where it or its terminating zero lies outside.
  std::optional<std::string_view> string(uint64_t table, uint64_t index) const {
    const uint64_t length = number(table + 8 * index), offset = number(table + 8 * index + 4);
    if (offset + length >= bytes_.size() || bytes_[offset + length] != '\0') {
      return std::nullopt;
    }
    return bytes_.substr(offset, length);
  }

 private:
  std::string_view bytes_;
  bool big_endian_ = false;
};

char lower(char letter) { return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter - 'A' + 'a') : letter; }

// What follows "charset=" in the header entry, in lower case; "utf-8" where it says nothing.
std::string character_set(std::string_view header) {
  std::string text(header);
  std::transform(text.begin(), text.end(), text.begin(), lower);
  const size_t begin = text.find("charset=");
  if (begin == std::string::npos) {
    return "utf-8";
  }
  const size_t first = begin + 8;
  const std::string value = text.substr(first, text.find_first_of(" \t\r\n;", first) - first);
  return value.empty() || value == "charset" || value == "utf8" ? "utf-8" : value;  // "CHARSET" is a template's
}

// The C library's converters are many and some are rarely used; the file's word opens only those that catalogues use.
bool convertible(std::string_view set) {
  constexpr std::array kNames = {"us-ascii", "ascii",   "euc-jp", "euc-kr", "gb2312",
                                 "gbk",      "gb18030", "big5",   "koi8-r", "koi8-u"};
  if (std::find(kNames.begin(), kNames.end(), set) != kNames.end()) return true;
  for (const std::string_view family : {"iso-8859-", "iso8859-", "windows-125", "cp125"}) {
    const std::string_view part = set.substr(std::min(set.size(), family.size()));
    if (set.starts_with(family) && !part.empty() && part.size() <= 2 &&
        part.find_first_not_of("0123456789") == std::string_view::npos) {
      return true;
    }
  }
  return false;
}

// To UTF-8 from a character set.
class Converter {
 public:
  explicit Converter(const std::string& set) : handle_(set == "utf-8" ? kNone : iconv_open("UTF-8", set.c_str())) {
    usable_ = set == "utf-8" || handle_ != kNone;
  }
  Converter(const Converter&) = delete;
  Converter& operator=(const Converter&) = delete;
  ~Converter() {
    if (handle_ != kNone) iconv_close(handle_);
  }
  bool usable() const { return usable_; }

  // Whether `bytes` were text of the set.
  bool convert(std::string_view bytes, std::string& text) const {
    if (handle_ == kNone) {
      text = bytes;
      return is_utf8(text);
    }
    std::string input(bytes);
    text.resize(4 * input.size() + 16);
    char *in = input.data(), *out = text.data();
    size_t in_left = input.size(), out_left = text.size();
    iconv(handle_, nullptr, nullptr, nullptr, nullptr);
    if (iconv(handle_, &in, &in_left, &out, &out_left) == static_cast<size_t>(-1) || in_left > 0) {
      return false;
    }
    text.resize(text.size() - out_left);
    return is_utf8(text);
  }

 private:
  inline static const iconv_t kNone = reinterpret_cast<iconv_t>(-1);
  iconv_t handle_;
  bool usable_;
};

// The message itself: behind its context, before its plural form.
std::string_view singular(std::string_view message) {
  message = message.substr(0, message.find('\0'));
  const size_t context = message.find(kContextEnd);
  return context == std::string_view::npos ? message : message.substr(context + 1);
}

using Entries = std::vector<std::pair<std::string_view, std::string_view>>;

absl::StatusOr<Entries> entries_of(std::string_view bytes, const std::string& name) {
  File file(bytes);
  if (bytes.size() < kHeader || !file.detect_byte_order()) {
    return malformed(name, "this is no compiled message catalogue: it does not begin with the number 0x950412de");
  }
  if (const uint32_t major = file.number(4) >> 16; major > 1) {
    return absl::UnimplementedError(name + ": the catalogue is of revision " + std::to_string(major) +
                                    ", and 0 and 1 are read");
  }
  const uint64_t count = file.number(8), originals = file.number(12), translations = file.number(16);
  for (const uint64_t table : {originals, translations}) {
    if (table + 8 * count > bytes.size()) {
      return malformed(name, "the table of " + std::to_string(count) + " strings at byte " + std::to_string(table) +
                                 " ends beyond the file's " + std::to_string(bytes.size()) + " bytes");
    }
  }
  Entries entries;
  uint64_t total = 0;
  for (uint64_t i = 0; i < count; ++i) {
    const auto original = file.string(originals, i), translation = file.string(translations, i);
    if (!original || !translation) {
      return malformed(name, "the " + std::string(original ? "translation" : "original") + " of message " +
                                 std::to_string(i) + " is no terminated string within the file");
    }
    // Strings that share bytes without end would make a small file fill the memory.
    total += original->size() + translation->size() + 2;
    if (total > bytes.size()) return malformed(name, "strings overlap: together they are longer than the file");
    entries.emplace_back(*original, *translation);
  }
  return entries;
}

}  // namespace gettext_detail
}  // namespace

absl::StatusOr<GettextCatalogue> parse_gettext_catalogue(std::string_view bytes, const std::string& name) {
  ASSIGN_OR_RETURN(const gettext_detail::Entries entries, gettext_detail::entries_of(bytes, name));
  std::string set = "utf-8";
  for (const auto& [original, translation] : entries) {
    if (original.empty()) set = gettext_detail::character_set(translation);
  }
  const bool known = set == "utf-8" || gettext_detail::convertible(set);
  const gettext_detail::Converter converter(known ? set : "utf-8");
  if (!known || !converter.usable()) {
    return absl::UnimplementedError(name +
                                    ": the catalogue's character set is not one of those read, which are UTF-8, "
                                    "ISO-8859, KOI8, Windows-125x and those of East Asia");
  }
  GettextCatalogue catalogue;
  for (const auto& [original, translation] : entries) {
    if (original.empty()) continue;
    Message message;
    if (converter.convert(gettext_detail::singular(original), message.original) &&
        converter.convert(translation.substr(0, translation.find('\0')), message.translation)) {
      catalogue.messages.push_back(std::move(message));
    } else {
      ++catalogue.undecodable;
    }
  }
  return catalogue;
}

}  // namespace hippodrome

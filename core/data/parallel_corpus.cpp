#include "core/data/parallel_corpus.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <numeric>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/random.h"
#include "core/data/gettext_catalogue.h"
#include "core/data/message_text.h"
#include "core/io/atomic_file.h"

namespace hippodrome {
namespace {
namespace parallel {

namespace fs = std::filesystem;

constexpr size_t kLargestFile = size_t{1} << 30;
constexpr const char* kSystemFolders[] = {"/usr/share/locale", "/usr/share/locale-langpack"};

// The pairs of all catalogues of one name, versions aside.
using Domains = std::map<std::string, std::vector<Sentences>>;

std::vector<fs::path> catalogues_in(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    std::error_code ignored;
    // Links repeat other catalogues by their older names.
    if (entry->path().extension() == ".mo" && entry->is_regular_file(ignored) && !entry->is_symlink(ignored)) {
      files.push_back(entry->path());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

// "gtk30-properties.mo" is of "gtk-properties".
std::string domain_of(const fs::path& file) {
  std::string name = file.stem().string();
  name.erase(std::remove_if(name.begin(), name.end(), [](char c) { return (c >= '0' && c <= '9') || c == '.'; }),
             name.end());
  return name;
}

bool lists_names(const fs::path& file) { return file.filename().string().starts_with("iso_"); }

absl::Status not_found(const std::vector<fs::path>& folders, const std::string& language) {
  std::vector<std::string> places;
  for (const fs::path& folder : folders) places.push_back(folder.string());
  return absl::NotFoundError(absl::StrCat("there are no messages translated to \"", language, "\" in ",
                                          absl::StrJoin(places, " or "),
                                          ": install Debian packages that bring some (audacity-data, pidgin-data, "
                                          "filezilla-common, gnupg-l10n, libc-l10n; where "
                                          "dpkg leaves out /usr/share/locale, as in slim containers, take path-exclude "
                                          "out of /etc/dpkg/dpkg.cfg.d first), or set "
                                          "path to a .tsv of sentences and their translations"));
}

// How a corpus is put together: pairs come split by split, and a source counts once.
class Collector {
 public:
  explicit Collector(ParallelCorpus& corpus) : corpus_(corpus) {}

  void add(Split split, Sentences pair) {
    if (sources_.insert(pair.source).second) {
      corpus_.splits[static_cast<size_t>(split)].push_back(std::move(pair));
    } else {
      ++corpus_.duplicates;
    }
  }

 private:
  ParallelCorpus& corpus_;
  std::set<std::string> sources_;
};

void split_by_domain(Domains domains, ParallelCorpus& corpus) {
  std::vector<std::pair<uint64_t, std::string>> order;
  size_t total = 0;
  for (const auto& [name, pairs] : domains) {
    order.emplace_back(RandomStream(0, name).fork("split").bits(), name);
    total += pairs.size();
  }
  std::sort(order.begin(), order.end());
  std::map<Split, std::vector<std::string>> names;
  size_t test = 0, validation = 0;
  for (const auto& [hash, name] : order) {
    const size_t size = domains[name].size();
    const Split split = 20 * test < total ? Split::kTest : 20 * validation < total ? Split::kValidation : Split::kTrain;
    names[split].push_back(name);
    test += split == Split::kTest ? size : 0;
    validation += split == Split::kValidation ? size : 0;
  }
  Collector collector(corpus);
  for (const Split split : {Split::kTrain, Split::kValidation, Split::kTest}) {
    std::sort(names[split].begin(), names[split].end());
    for (const std::string& name : names[split]) {
      for (Sentences& pair : domains[name]) collector.add(split, std::move(pair));
    }
  }
}

absl::StatusOr<ParallelCorpus> read_catalogues(const std::vector<fs::path>& roots, const std::string& language) {
  ParallelCorpus corpus;
  corpus.split_by = "catalogue";
  Domains domains;
  std::vector<fs::path> folders;
  for (const fs::path& root : roots) {
    folders.push_back(root / language / "LC_MESSAGES");
    for (const fs::path& file : catalogues_in(folders.back())) {
      if (lists_names(file)) continue;
      const absl::StatusOr<std::string> bytes = read_file(file, kLargestFile);
      const absl::StatusOr<GettextCatalogue> catalogue =
          bytes.ok() ? parse_gettext_catalogue(*bytes, file.string()) : bytes.status();
      // One odd file among a system's many is no reason to stop; provenance counts it.
      if (!catalogue.ok()) {
        ++corpus.unreadable_files;
        continue;
      }
      ++corpus.files;
      corpus.dropped += catalogue->undecodable;
      for (const Message& message : catalogue->messages) {
        if (auto pair = cleaned(message.original, message.translation)) {
          domains[domain_of(file)].push_back(*std::move(pair));
        } else {
          ++corpus.dropped;
        }
      }
    }
  }
  split_by_domain(std::move(domains), corpus);
  if (corpus.split(Split::kTrain).empty()) return not_found(folders, language);
  corpus.source = absl::StrCat("messages of programs, English to ", language);
  return corpus;
}

absl::StatusOr<ParallelCorpus> read_lines(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, read_file(path, kLargestFile));
  ParallelCorpus corpus;
  corpus.source = path;
  corpus.split_by = "sentence";
  corpus.files = 1;
  Collector collector(corpus);
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    ++number;
    const size_t tab = std::min(line.find('\t'), line.size());
    const std::string_view behind = line.substr(std::min(tab + 1, line.size()));
    Sentences pair{squeezed(line.substr(0, tab)), squeezed(behind)};
    if (pair.source.empty() || pair.target.empty() || behind.find('\t') != std::string_view::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ":", number, ": expected a source, one tab and its translation"));
    }
    const double place = RandomStream(0, pair.source).fork("split").uniform();
    collector.add(place < 0.90 ? Split::kTrain : place < 0.95 ? Split::kValidation : Split::kTest, std::move(pair));
  }
  return corpus;
}

}  // namespace parallel
}  // namespace

absl::StatusOr<ParallelCorpus> read_parallel_corpus(const std::string& path, const std::string& language) {
  namespace fs = std::filesystem;
  if (path.empty()) {
    return parallel::read_catalogues({std::begin(parallel::kSystemFolders), std::end(parallel::kSystemFolders)},
                                     language);
  }
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    return parallel::read_catalogues({path}, language);
  }
  if (!fs::exists(path, ignored)) {
    return absl::NotFoundError(
        absl::StrCat("there is no file or folder ", path,
                     ": give a .tsv of sentences and their translations or a folder of catalogues, or "
                     "leave path out for the translated messages of this machine's programs"));
  }
  return parallel::read_lines(path);
}

}  // namespace hippodrome

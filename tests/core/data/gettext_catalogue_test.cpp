#include "core/data/gettext_catalogue.h"

#include <gtest/gtest.h>

#include "tests/core/data/gettext_files.h"
#include "tests/fuzz/corpus.h"
#include "tests/fuzz/gettext_catalogue_target.h"

namespace hippodrome::gettext_catalogue_test {
namespace {

using gettext_files::catalogue;
using gettext_files::Messages;

// Also of ASan: the bytes end where the file ends.
GettextCatalogue read(const std::string& bytes) {
  const auto parsed = parse_gettext_catalogue(bytes, "de.mo");
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return parsed.ok() ? *parsed : GettextCatalogue{};
}

Messages messages(const GettextCatalogue& catalogue) {
  Messages list;
  for (const Message& message : catalogue.messages) list.emplace_back(message.original, message.translation);
  return list;
}

std::string error_of(const std::string& bytes) {
  return std::string(parse_gettext_catalogue(bytes, "de.mo").status().message());
}

TEST(GettextCatalogue, ReadsBothByteOrdersAndRevisions) {
  const Messages list = {{"Close",
                          "Schlie\xC3\x9F"
                          "en"},
                         {"Open",
                          "\xC3\x96"
                          "ffnen"}};
  for (const bool big_endian : {false, true}) {
    for (const uint32_t revision : {0u, 1u, 0x10000u, 0x10001u}) {
      EXPECT_EQ(messages(read(catalogue(list, "UTF-8", big_endian, revision))), list);
    }
  }
  EXPECT_EQ(error_of(catalogue(list, "UTF-8", false, 0x20000)),
            "de.mo: the catalogue is of revision 2, and 0 and 1 are read");
}

TEST(GettextCatalogue, TakesSingularsWithoutContext) {
  const std::string singular("one file\0many files", 19), forms("eine Datei\0viele Dateien", 24);
  EXPECT_EQ(messages(read(catalogue({{"menu\4File", "Datei"}, {singular, forms}, {"menu\4" + singular, forms}}))),
            (Messages{{"File", "Datei"}, {"one file", "eine Datei"}, {"one file", "eine Datei"}}));
}

TEST(GettextCatalogue, ConvertsOlderCharacterSets) {
  EXPECT_EQ(messages(read(catalogue({{"Open",
                                      "\xD6"
                                      "ffnen"}},
                                    "ISO-8859-1"))),
            (Messages{{"Open",
                       "\xC3\x96"
                       "ffnen"}}));
  EXPECT_EQ(messages(read(catalogue({{"no", "\xCE\xC5\xD4"}}, "koi8-r"))),
            (Messages{{"no", "\xD0\xBD\xD0\xB5\xD1\x82"}}));
  EXPECT_EQ(messages(read(catalogue({{"book", "\xCB\xDC"}}, "EUC-JP"))), (Messages{{"book", "\xE6\x9C\xAC"}}));
  EXPECT_EQ(messages(read(catalogue({{"Open", "Auf"}}, "CHARSET"))), (Messages{{"Open", "Auf"}}));
}

TEST(GettextCatalogue, CountsWhatIsNoText) {
  const GettextCatalogue utf8 = read(catalogue({{"Open",
                                                 "\xD6"
                                                 "ffnen"},
                                                {"Close", "Zu"}}));
  EXPECT_EQ(utf8.undecodable, 1);
  EXPECT_EQ(messages(utf8), (Messages{{"Close", "Zu"}}));
  // Half a character at the end.
  EXPECT_EQ(read(catalogue({{"book", "\xCB"}}, "EUC-JP")).undecodable, 1);
}

TEST(GettextCatalogue, NeverOpensAConverterThatOnlyTheFileKnows) {
  for (const char* set :
       {"../../x", "UTF-16", "ISO-2022-CN-EXT", "ISO-8859-1//TRANSLIT", "ISO-8859-", "ISO-8859-999"}) {
    EXPECT_TRUE(absl::IsUnimplemented(parse_gettext_catalogue(catalogue({{"Open", "Auf"}}, set), "de.mo").status()))
        << set;
  }
}

TEST(GettextCatalogue, SaysWhatIsMalformed) {
  const std::string whole = catalogue({{"Open", "Auf"}});
  const auto with = [&](size_t at, uint32_t value) {
    return std::string(whole).replace(at, 4, gettext_files::number(value, false));
  };
  EXPECT_EQ(error_of("no catalogue, but as long as the header of one"),
            "de.mo: this is no compiled message catalogue: it does not begin with the number 0x950412de");
  EXPECT_EQ(error_of(whole.substr(0, 27)), error_of(""));
  EXPECT_NE(error_of(with(8, 0xFFFFFFFF)).find("the table of 4294967295 strings at byte 28 ends beyond"),
            std::string::npos);
  EXPECT_NE(error_of(with(16, 0xFFFFFFFF)).find("at byte 4294967295 ends beyond"), std::string::npos);
  EXPECT_EQ(error_of(with(28 + 8, 0xFFFFFFFF)),
            "de.mo: the original of message 1 is no terminated string within the file");
  EXPECT_EQ(error_of(with(28 + 16 + 12, 0xFFFFFFFF)),
            "de.mo: the translation of message 1 is no terminated string within the file");
  EXPECT_EQ(error_of(with(28 + 8, 3)), "de.mo: the original of message 1 is no terminated string within the file");
  EXPECT_EQ(error_of(whole.substr(0, whole.size() - 1)),
            "de.mo: the translation of message 1 is no terminated string within the file");

  // Ten thousand messages that are all the same ten thousand bytes.
  Messages one = {{std::string(10000, 'a'), "b"}};
  std::string shared;
  for (const uint32_t value : {0x950412DEu, 0u, 10000u, 28u, 28u, 0u, 0u})
    shared += gettext_files::number(value, false);
  for (int i = 0; i < 10000; ++i)
    shared += gettext_files::number(10000, false) + gettext_files::number(28 + 80000, false);
  shared += std::string(10000, 'a') + '\0';
  EXPECT_EQ(error_of(shared), "de.mo: strings overlap: together they are longer than the file");
}

TEST(GettextCatalogueFuzz, Catalogues) {
  fuzz_corpus::run("gettext_catalogue",
                   {std::string("\xDE\x12\x04\x95", 4),
                    std::string("\x95\x04\x12\xDE", 4),
                    std::string("\0\0\0\0", 4),
                    "\xFF\xFF\xFF\xFF",
                    std::string("\x1C\0\0\0", 4),
                    std::string("\0\0\1\0", 4),
                    "charset=",
                    "UTF-8\n",
                    "EUC-JP\n",
                    "ISO-8859-15\n",
                    "BIG5\n",
                    "\4",
                    std::string(1, '\0'),
                    "_",
                    "&",
                    "(_F)",
                    "...",
                    "\xE2\x80\xA6",
                    "%s",
                    "<b>",
                    "\n",
                    "\t",
                    "\xC3",
                    "\xA4\xA4"},
                   fuzz_gettext_catalogue, 20000);
}

}  // namespace
}  // namespace hippodrome::gettext_catalogue_test

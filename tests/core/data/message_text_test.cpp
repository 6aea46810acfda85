#include "core/data/message_text.h"

#include <gtest/gtest.h>

#include <vector>

namespace hippodrome::message_text_test {
namespace {

struct Case {
  std::string original, translation;
  std::string source, target;  // both empty: dropped
};

TEST(MessageText, IsCleanedOrDropped) {
  const std::vector<Case> cases = {
      {"Save the file", "Datei speichern", "Save the file", "Datei speichern"},
      {"  a\n\tb \n", "c\r\nd", "a b", "c d"},
      // Mnemonics, in a word or behind it.
      {"_Open", "\xC3\x96_ffnen", "Open",
       "\xC3\x96"
       "ffnen"},
      {"Save _As...", "Speichern _unter\xE2\x80\xA6", "Save As", "Speichern unter"},
      {"E&xit", "&Beenden", "Exit", "Beenden"},
      {"_File", "\xE3\x83\x95\xE3\x82\xA1\xE3\x82\xA4\xE3\x83\xAB(_F)", "File",
       "\xE3\x83\x95\xE3\x82\xA1\xE3\x82\xA4\xE3\x83\xAB"},
      // Names keep theirs; so do sides of which only one has any.
      {"LC_ALL is not set", "LC_ALL fehlt", "LC_ALL is not set", "LC_ALL fehlt"},
      {"a __init__ b", "c __init__ d", "a __init__ b", "c __init__ d"},
      {"R&D", "die R&D", "R&D", "die R&D"},
      {"_Next page", "Weiter", "Next page", "Weiter"},
      {"bread & butter", "Brot & Butter", "bread & butter", "Brot & Butter"},
      {"use my_name", "nimm den Namen", "use my_name", "nimm den Namen"},
      {"wait ...", "warten \xE2\x80\xA6", "wait", "warten"},
      {"wait ... and see", "abwarten", "wait ... and see", "abwarten"},
      // No sentences.
      {"%s is missing", "%s fehlt", "", ""},
      {"done", "100 % erledigt", "", ""},
      {"{0} files", "{0} Dateien", "", ""},
      {"<b>Hello</b>", "Hallo", "", ""},
      {"Usage: $HOME", "Aufruf", "", ""},
      {"Stock label|_Close", "Zu", "", ""},
      {"a &lt; b", "a kleiner b", "", ""},
      {"a &#160; b", "ab", "", ""},
      {"bell\a", "Glocke", "", ""},
      {"Name", "Name", "", ""},
      {"_Name", "Name", "", ""},
      {"_Name", "_Name", "", ""},
      {"Name...", "Name", "", ""},
      {"...", "\xE2\x80\xA6", "", ""},
      {"12:30", "12.30", "", ""},
      {"empty", "", "", ""},
      {"", "leer", "", ""},
      {"blank", " \n", "", ""},
  };
  for (const Case& one : cases) {
    const auto pair = cleaned(one.original, one.translation);
    EXPECT_EQ(pair.has_value(), !one.source.empty()) << one.original;
    if (pair) {
      EXPECT_EQ(pair->source, one.source);
      EXPECT_EQ(pair->target, one.target);
    }
  }
}

}  // namespace
}  // namespace hippodrome::message_text_test

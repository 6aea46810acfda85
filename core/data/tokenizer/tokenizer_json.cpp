#include "core/data/tokenizer/tokenizer_json.h"

#include <limits>

#include "core/data/tokenizer/byte_level.h"
#include "core/data/tokenizer/json_keys.h"
#include "core/data/tokenizer/unicode.h"

namespace hippodrome {
namespace tokenizer_json_detail {
namespace {

constexpr int64_t kLargestId = std::numeric_limits<int32_t>::max();

// A token's id, or -1 where the value is none.
int64_t id_of(const Json& value) {
  const bool fits = value.is_number_unsigned() && value.get<uint64_t>() <= static_cast<uint64_t>(kLargestId);
  return fits ? value.get<int64_t>() : -1;
}

class Reader {
 public:
  Reader(const Json& root, const std::string& name) : root_(root), keys_(name) {}

  absl::StatusOr<ByteLevelModel> read() {
    if (!root_.is_object()) return keys_.malformed("", "the file does not hold a JSON object");
    RETURN_IF_ERROR(read_normalizer());
    RETURN_IF_ERROR(read_pre_tokenizer());
    RETURN_IF_ERROR(read_decoder());
    RETURN_IF_ERROR(read_vocabulary());
    RETURN_IF_ERROR(read_merges());
    RETURN_IF_ERROR(read_added_tokens());
    RETURN_IF_ERROR(read_post_processor(keys_.get(root_, "post_processor"), "post_processor"));
    return std::move(model_);
  }

 private:
  absl::Status read_normalizer() {
    const Json& normalizer = keys_.get(root_, "normalizer");
    if (normalizer.is_null()) return absl::OkStatus();
    const std::string type = keys_.type(normalizer);
    if (type != "NFC") return keys_.unsupported("normalizer", type, "none and NFC are");
    model_.compose = true;
    return absl::OkStatus();
  }

  absl::Status read_byte_level(const Json& step, const std::string& key) {
    const std::string type = keys_.type(step);
    if (type != "ByteLevel") return keys_.unsupported(key, type, "ByteLevel is, alone or behind Llama 3's Split");
    ASSIGN_OR_RETURN(model_.prefix_space, keys_.flag(step, key, "add_prefix_space", true));
    ASSIGN_OR_RETURN(const bool splits, keys_.flag(step, key, "use_regex", true));
    model_.split = splits ? SplitRule::kGpt2 : SplitRule::kWhole;
    return absl::OkStatus();
  }

  absl::Status read_pre_tokenizer() {
    const Json& step = keys_.get(root_, "pre_tokenizer");
    if (keys_.type(step) != "Sequence") return read_byte_level(step, "pre_tokenizer");
    const Json& steps = keys_.get(step, "pretokenizers");
    if (!steps.is_array() || steps.empty() || steps.size() > 2) {
      return keys_.unsupported("pre_tokenizer.pretokenizers", "of other than one or two steps", "Split and ByteLevel are");
    }
    RETURN_IF_ERROR(read_byte_level(steps.back(), "pre_tokenizer.pretokenizers." + std::to_string(steps.size() - 1)));
    if (steps.size() == 1) return absl::OkStatus();
    return read_split(steps[0], "pre_tokenizer.pretokenizers.0");
  }

  absl::Status read_split(const Json& split, const std::string& key) {
    if (keys_.type(split) != "Split") return keys_.unsupported(key, keys_.type(split), "Split before ByteLevel is");
    const Json& pattern = keys_.get(keys_.get(split, "pattern"), "Regex");
    if (!pattern.is_string() || pattern.get_ref<const std::string&>() != kLlama3Pattern) {
      return keys_.unsupported(key + ".pattern", pattern.dump(-1, ' ', true), "only the regular expression of Llama 3 is");
    }
    const Json& behavior = keys_.get(split, "behavior");
    if (behavior != "Isolated") return keys_.unsupported(key + ".behavior", behavior.dump(-1, ' ', true), "\"Isolated\" is");
    ASSIGN_OR_RETURN(const bool inverted, keys_.flag(split, key, "invert", false));
    if (inverted) return keys_.unsupported(key + ".invert", "true", "false is");
    if (model_.split != SplitRule::kWhole || model_.prefix_space) {
      return keys_.unsupported("pre_tokenizer", "a Split before a ByteLevel that splits or adds a space again",
                               "use_regex = false with add_prefix_space = false is");
    }
    model_.split = SplitRule::kLlama3;
    return absl::OkStatus();
  }

  absl::Status read_decoder() {
    const std::string type = keys_.type(keys_.get(root_, "decoder"));
    return type == "ByteLevel" ? absl::OkStatus() : keys_.unsupported("decoder", type, "ByteLevel is");
  }

  absl::Status read_vocabulary() {
    const Json& model = keys_.get(root_, "model");
    // Files of old have no type; merges tell BPE.
    if (const std::string type = keys_.type(model); type != "BPE" && (type != "none" || !model.contains("merges"))) {
      return keys_.unsupported("model", type, "BPE is");
    }
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const Json& value = keys_.get(model, key);
      if (!value.is_null() && value != "") {
        return keys_.unsupported("model." + std::string(key), value.dump(-1, ' ', true), "none is");
      }
    }
    if (const Json& dropout = keys_.get(model, "dropout"); !dropout.is_null() && dropout != 0.0) {
      return keys_.unsupported("model.dropout", dropout.dump(-1, ' ', true), "none is");
    }
    ASSIGN_OR_RETURN(const bool fallback, keys_.flag(model, "model", "byte_fallback", false));
    if (fallback) {
      return keys_.unsupported("model.byte_fallback", "true", "byte-level BPE without is; such a file's tokenizer.model serves");
    }
    vocabulary_ = &keys_.get(model, "vocab");
    if (!vocabulary_->is_object()) return keys_.malformed("model.vocab", "must be an object of ids by token");
    ASSIGN_OR_RETURN(const bool ignore_merges, keys_.flag(model, "model", "ignore_merges", false));
    for (const auto& [entry, value] : vocabulary_->items()) {
      const int64_t id = id_of(value);
      if (id < 0) return keys_.malformed("model.vocab", quoted(entry) + " has no id from 0 to 2147483647");
      std::string bytes;
      if (!byte_level_bytes(entry, bytes)) {
        bytes = entry;
      } else if (ignore_merges && !bytes.empty()) {
        model_.pairs.add_whole(bytes, id);
      }
      if (!model_.tokens.emplace(id, std::move(bytes)).second) {
        return keys_.malformed("model.vocab", "two tokens have the id " + std::to_string(id));
      }
    }
    for (int byte = 0; byte < 256; ++byte) {
      const std::string character = byte_level_character(static_cast<unsigned char>(byte));
      const auto found = vocabulary_->find(character);
      if (found == vocabulary_->end()) {
        return keys_.unsupported("model.vocab", "without " + quoted(character) + ", the token of byte " + std::to_string(byte),
                                 "one with a token for each of the 256 bytes is");
      }
      model_.pairs.set_byte(static_cast<unsigned char>(byte), id_of(*found));
    }
    return absl::OkStatus();
  }

  absl::Status read_merges() {
    const Json& merges = keys_.get(keys_.get(root_, "model"), "merges");
    if (!merges.is_array()) return keys_.malformed("model.merges", "must be a list");
    for (size_t i = 0; i < merges.size(); ++i) {
      const Json& merge = merges[i];
      const std::string key = "model.merges." + std::to_string(i);
      std::string left, right;
      if (merge.is_string()) {
        const auto& both = merge.get_ref<const std::string&>();
        const size_t space = both.find(' ');
        if (space == std::string::npos || both.find(' ', space + 1) != std::string::npos) {
          return keys_.malformed(key, "must be two tokens with one space between");
        }
        left = both.substr(0, space);
        right = both.substr(space + 1);
      } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
        left = merge[0].get<std::string>();
        right = merge[1].get<std::string>();
      } else {
        return keys_.malformed(key, "must be \"a b\" or [\"a\", \"b\"]");
      }
      const auto a = vocabulary_->find(left), b = vocabulary_->find(right), both = vocabulary_->find(left + right);
      for (const auto& [found, entry] : {std::pair(a, left), std::pair(b, right), std::pair(both, left + right)}) {
        if (found == vocabulary_->end()) return keys_.malformed(key, "needs the token " + quoted(entry) + ", which model.vocab lacks");
      }
      model_.pairs.add_merge(id_of(*a), id_of(*b), id_of(*both));
    }
    return absl::OkStatus();
  }

  absl::Status read_added_tokens() {
    const Json& list = keys_.get(root_, "added_tokens");
    if (list.is_null()) return absl::OkStatus();
    if (!list.is_array()) return keys_.malformed("added_tokens", "must be a list");
    for (size_t i = 0; i < list.size(); ++i) {
      const std::string key = "added_tokens." + std::to_string(i);
      const Json& content = keys_.get(list[i], "content");
      const int64_t id = id_of(keys_.get(list[i], "id"));
      if (!content.is_string() || id < 0) return keys_.malformed(key, "must have a content and an id from 0 to 2147483647");
      for (const char* option : {"lstrip", "rstrip", "single_word"}) {
        ASSIGN_OR_RETURN(const bool set, keys_.flag(list[i], key, option, false));
        if (set) return keys_.unsupported(key + "." + option, "true", "false is");
      }
      ASSIGN_OR_RETURN(const bool special, keys_.flag(list[i], key, "special", false));
      ASSIGN_OR_RETURN(const bool normalized, keys_.flag(list[i], key, "normalized", !special));
      const auto& text = content.get_ref<const std::string&>();
      if (special) model_.special.ids.emplace(text, id);
      // As it stands in the text where it is looked for, which is what it decodes to.
      const std::string found = normalized && model_.compose ? composed(text) : text;
      (normalized ? model_.literal_composed : model_.literal).insert(found, id);
      model_.tokens.insert_or_assign(id, found);
    }
    return absl::OkStatus();
  }

  absl::Status read_post_processor(const Json& step, const std::string& key) {
    const std::string type = keys_.type(step);
    if (step.is_null() || type == "ByteLevel") return absl::OkStatus();
    if (type == "TemplateProcessing") return read_template(step, key);
    const Json& steps = keys_.get(step, "processors");
    if (type != "Sequence") return keys_.unsupported(key, type, "ByteLevel, TemplateProcessing and a Sequence of them are");
    if (!steps.is_array()) return keys_.malformed(key + ".processors", "must be a list");
    for (size_t i = 0; i < steps.size(); ++i) {
      const std::string inner = key + ".processors." + std::to_string(i);
      if (keys_.type(steps[i]) == "Sequence") return keys_.unsupported(inner, "Sequence", "a sequence within another is not");
      RETURN_IF_ERROR(read_post_processor(steps[i], inner));
    }
    return absl::OkStatus();
  }

  // "single": [{"SpecialToken": {"id": NAME}}, …, {"Sequence": {"id": "A"}}, …]; "special_tokens": {NAME: {"ids": […]}}.
  absl::Status read_template(const Json& step, const std::string& key) {
    const Json& single = keys_.get(step, "single");
    if (!single.is_array()) return keys_.malformed(key + ".single", "must be a list");
    std::vector<int64_t> before, after;
    bool seen_text = false;
    for (size_t i = 0; i < single.size(); ++i) {
      const std::string part = key + ".single." + std::to_string(i);
      if (const Json& text = keys_.get(single[i], "Sequence"); !text.is_null()) {
        if (seen_text || keys_.get(text, "id") != "A") return keys_.malformed(part, "must be the text A, once");
        seen_text = true;
        continue;
      }
      const Json& token = keys_.get(keys_.get(single[i], "SpecialToken"), "id");
      if (!token.is_string()) return keys_.malformed(part, "must be a Sequence or a SpecialToken with its id");
      const auto& token_name = token.get_ref<const std::string&>();
      const Json& ids = keys_.get(keys_.get(keys_.get(step, "special_tokens"), token_name.c_str()), "ids");
      if (!ids.is_array() || ids.empty()) {
        return keys_.malformed(key + ".special_tokens", "lacks the ids of " + quoted(token_name));
      }
      for (const Json& id : ids) {
        if (id_of(id) < 0 || !model_.tokens.contains(id_of(id))) {
          return keys_.malformed(key + ".special_tokens", "has ids of " + quoted(token_name) + " that are no tokens");
        }
        (seen_text ? after : before).push_back(id_of(id));
      }
    }
    if (!seen_text) return keys_.malformed(key + ".single", "leaves out the text A");
    // Steps of a sequence frame from the inside out.
    std::vector<int64_t>& outer = model_.special.before;
    outer.insert(outer.begin(), before.begin(), before.end());
    model_.special.after.insert(model_.special.after.end(), after.begin(), after.end());
    return absl::OkStatus();
  }

  const Json& root_;
  JsonKeys keys_;
  const Json* vocabulary_ = nullptr;
  ByteLevelModel model_;
};

}  // namespace
}  // namespace tokenizer_json_detail

absl::StatusOr<std::unique_ptr<Tokenizer>> parse_tokenizer_json(std::string_view text, const std::string& name) {
  ASSIGN_OR_RETURN(const Json root, parse_json(text, name));
  ASSIGN_OR_RETURN(ByteLevelModel model, tokenizer_json_detail::Reader(root, name).read());
  return byte_level_tokenizer(std::move(model));
}

}  // namespace hippodrome

#include <bit>
#include <cmath>
#include <set>

#include "core/data/tokenizer/json_keys.h"
#include "core/data/tokenizer/protobuf.h"
#include "core/data/tokenizer/sentencepiece.h"
#include "core/data/tokenizer/sentencepiece_text.h"
#include "core/data/tokenizer/unicode.h"

namespace hippodrome {
namespace sentencepiece_model_detail {
namespace {

using Model = SentencePieceModel;

class Reader {
 public:
  explicit Reader(const std::string& name) : name_(name) {}

  // Numbers of fields are those of sentencepiece_model.proto.
  absl::StatusOr<Model> read(std::string_view bytes) {
    RETURN_IF_ERROR(each_field(bytes, "the model", [this](const ProtobufField& field) -> absl::Status {
      switch (field.number) {
        case 1: return read_piece(field.bytes);
        case 2: return read_trainer(field.bytes);
        case 3: return read_normalizer(field.bytes);
        case 5: return read_denormalizer(field.bytes);
        default: return absl::OkStatus();
      }
    }));
    RETURN_IF_ERROR(check());
    return std::move(model_);
  }

 private:
  template <class Visit>
  absl::Status each_field(std::string_view message, const std::string& what, Visit visit) {
    ProtobufReader reader(message);
    ProtobufField field;
    while (reader.next(field)) RETURN_IF_ERROR(visit(field));
    return reader.whole() ? absl::OkStatus() : malformed(what + " is cut short or no message");
  }

  absl::Status malformed(const std::string& message) const { return absl::DataLossError(name_ + ": " + message); }
  absl::Status unsupported(const std::string& message) const {
    return absl::UnimplementedError(name_ + ": " + message + " is not supported; models of byte pairs and unigrams are");
  }

  absl::Status read_piece(std::string_view message) {
    Model::Piece piece;
    const std::string what = "piece " + std::to_string(model_.pieces.size());
    uint64_t type = 1;
    RETURN_IF_ERROR(each_field(message, what, [&](const ProtobufField& field) {
      if (field.number == 1) piece.text = std::string(field.bytes);
      if (field.number == 2) piece.score = std::bit_cast<float>(static_cast<uint32_t>(field.value));
      if (field.number == 3) type = field.value;
      return absl::OkStatus();
    }));
    if (type < 1 || type > 6) return malformed(what + " is of unknown type " + std::to_string(type));
    if (piece.text.empty() || !is_utf8(piece.text)) return malformed(what + " has no text in UTF-8");
    if (!std::isfinite(piece.score)) return malformed(what + " has a score that is no finite number");
    piece.type = static_cast<Model::Type>(type);
    model_.pieces.push_back(std::move(piece));
    return absl::OkStatus();
  }

  absl::Status read_trainer(std::string_view message) {
    return each_field(message, "trainer_spec", [this](const ProtobufField& field) -> absl::Status {
      switch (field.number) {
        case 3:
          if (field.value != 1 && field.value != 2) return unsupported("model_type " + std::to_string(field.value));
          model_.kind = static_cast<Model::Kind>(field.value);
          break;
        case 24:
          if (field.value != 0) return unsupported("treat_whitespace_as_suffix");
          break;
        case 35: model_.byte_fallback = field.value != 0; break;
        case 41: model_.begin = static_cast<int32_t>(field.value); break;
        case 42: model_.end = static_cast<int32_t>(field.value); break;
        case 44: model_.unknown_text = std::string(field.bytes); break;
        default: break;
      }
      return absl::OkStatus();
    });
  }

  absl::Status read_normalizer(std::string_view message) {
    return each_field(message, "normalizer_spec", [this](const ProtobufField& field) {
      if (field.number == 2) model_.charsmap = std::string(field.bytes);
      if (field.number == 3) model_.add_dummy_prefix = field.value != 0;
      if (field.number == 4) model_.remove_extra_whitespaces = field.value != 0;
      if (field.number == 5) model_.escape_whitespaces = field.value != 0;
      return absl::OkStatus();
    });
  }

  absl::Status read_denormalizer(std::string_view message) {
    return each_field(message, "denormalizer_spec", [this](const ProtobufField& field) {
      return field.number == 2 && !field.bytes.empty() ? unsupported("a denormalizer's charsmap") : absl::OkStatus();
    });
  }

  absl::Status check() {
    std::set<std::string_view> ordinary, reserved;
    int64_t unknown = 0;
    std::set<int> bytes;
    for (size_t id = 0; id < model_.pieces.size(); ++id) {
      const Model::Piece& piece = model_.pieces[id];
      const bool is_ordinary = piece.type == Model::Type::kNormal || piece.type == Model::Type::kUserDefined ||
                               piece.type == Model::Type::kUnused;
      if (!(is_ordinary ? ordinary : reserved).insert(piece.text).second) {
        return malformed("piece " + std::to_string(id) + " has the text of an earlier one");
      }
      unknown += piece.type == Model::Type::kUnknown;
      if (piece.type == Model::Type::kControl) model_.special.ids.emplace(piece.text, static_cast<int64_t>(id));
      if (piece.type != Model::Type::kByte) continue;
      const int byte = sentencepiece_byte(piece.text);
      if (byte < 0) return malformed("piece " + std::to_string(id) + " is a byte and not called <0x00> to <0xFF>");
      bytes.insert(byte);
    }
    if (unknown != 1) return malformed("the model has " + std::to_string(unknown) + " unknown tokens, not one");
    if (model_.byte_fallback && bytes.size() != 256) {
      return malformed("byte_fallback needs 256 byte pieces, and there are " + std::to_string(bytes.size()));
    }
    if (!model_.charsmap.empty() && !SentencePieceText::valid_charsmap(model_.charsmap)) {
      return malformed("normalizer_spec.precompiled_charsmap is broken");
    }
    return absl::OkStatus();
  }

  std::string name_;
  Model model_;
};

}  // namespace
}  // namespace sentencepiece_model_detail

absl::StatusOr<SentencePieceModel> parse_sentencepiece(std::string_view bytes, const std::string& name) {
  return sentencepiece_model_detail::Reader(name).read(bytes);
}

absl::Status read_sentencepiece_frame(std::string_view json, const std::string& name, SentencePieceModel& model) {
  ASSIGN_OR_RETURN(const Json root, parse_json(json, name));
  const JsonKeys keys(name);
  const auto frame = [&](const char* key, int64_t id, std::vector<int64_t>& ids) -> absl::Status {
    ASSIGN_OR_RETURN(const bool wanted, keys.flag(root, "", key, false));
    if (!wanted) return absl::OkStatus();
    if (id < 0 || id >= static_cast<int64_t>(model.pieces.size())) {
      return keys.malformed(key, "asks for a token that the model beside has not");
    }
    ids.push_back(id);
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(frame("add_bos_token", model.begin, model.special.before));
  return frame("add_eos_token", model.end, model.special.after);
}

}  // namespace hippodrome

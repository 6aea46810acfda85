#include "architectures/huggingface/rope.h"

#include <cmath>

namespace hippodrome::huggingface {
namespace rope_detail {
namespace {

constexpr double kLargest = 1e12;

struct TopKeys {
  double rope_theta = 0.0;  // 0: not there
  double partial_rotary_factor = 1.0;
  int64_t max_position_embeddings = 2048;
  int64_t original_max_position_embeddings = 0;

  void bind(Fields& fields) {
    fields.number("rope_theta", rope_theta, {0.0, kLargest}, "base of the frequencies");
    fields.number("partial_rotary_factor", partial_rotary_factor, {0.0, 1.0}, "share of a head that is rotated");
    fields.integer("max_position_embeddings", max_position_embeddings, {0, int64_t{1} << 40}, "longest sequence");
    fields.integer("original_max_position_embeddings", original_max_position_embeddings, {0, int64_t{1} << 40},
                   "longest sequence before the extension");
  }
};

struct Parameters {
  std::string rope_type = "default";
  double rope_theta = 0.0;
  double partial_rotary_factor = 1.0;
  double factor = 0.0;  // 0 here and below: not there
  double low_freq_factor = 0.0;
  double high_freq_factor = 0.0;
  int64_t original_max_position_embeddings = 0;

  void bind(Fields& fields) {
    fields.choice("rope_type", rope_type, {"default", "linear", "llama3"}, "how frequencies are scaled");
    fields.number("rope_theta", rope_theta, {0.0, kLargest}, "base of the frequencies");
    fields.number("partial_rotary_factor", partial_rotary_factor, {0.0, 1.0}, "share of a head that is rotated");
    fields.number("factor", factor, {0.0, 1e9}, "what frequencies are divided by");
    fields.number("low_freq_factor", low_freq_factor, {0.0, 1e9}, "below this many turns all is divided");
    fields.number("high_freq_factor", high_freq_factor, {0.0, 1e9}, "above this many turns nothing is");
    fields.integer("original_max_position_embeddings", original_max_position_embeddings, {0, int64_t{1} << 40},
                   "longest sequence before the extension");
  }
};

}  // namespace
}  // namespace rope_detail

absl::Status read_rope(const Json& json, const std::string& file, double default_base, ConfigValue& attention) {
  using rope_detail::Parameters;
  ASSIGN_OR_RETURN(const rope_detail::TopKeys top, read_keys(json, file, rope_detail::TopKeys()));
  const auto table = [&](const char* key) {
    const auto found = json.find(key);
    return found != json.end() && found->is_object() && !found->empty() ? *found : Json();
  };
  const bool old_dialect = !table("rope_scaling").is_null();
  const std::string path = old_dialect ? "rope_scaling" : "rope_parameters";
  Json given = table(path.c_str());
  if (given.is_null()) given = Json::object();
  // Before version 4.43 the key was "type".
  if (!given.contains("rope_type") && given.contains("type")) given["rope_type"] = given["type"];
  ASSIGN_OR_RETURN(const Parameters rope, read_keys(given, file, Parameters(), path));
  if (top.partial_rotary_factor != 1.0 || rope.partial_rotary_factor != 1.0) {
    return unsupported(file, "\"partial_rotary_factor\" below 1, heads that are rotated in part, is not computed here");
  }
  const double base = rope.rope_theta > 0.0 ? rope.rope_theta : top.rope_theta > 0.0 ? top.rope_theta : default_base;
  attention.set("rope_base", ConfigValue(base));
  if (rope.rope_type == "default") return absl::OkStatus();

  const auto needed = [&](const char* key, double value) {
    return value > 0.0 ? absl::OkStatus()
                       : absl::InvalidArgumentError(file + ": \"" + key + "\" is missing in [" + path +
                                                    "], where \"rope_type\" is \"" + rope.rope_type + "\"");
  };
  RETURN_IF_ERROR(needed("factor", rope.factor));
  attention.set("rope_scaling", ConfigValue(rope.rope_type));
  attention.set("rope_factor", ConfigValue(rope.factor));
  if (rope.rope_type == "linear") return absl::OkStatus();
  RETURN_IF_ERROR(needed("low_freq_factor", rope.low_freq_factor));
  RETURN_IF_ERROR(needed("high_freq_factor", rope.high_freq_factor));
  attention.set("rope_low_frequency_factor", ConfigValue(rope.low_freq_factor));
  attention.set("rope_high_frequency_factor", ConfigValue(rope.high_freq_factor));
  const int64_t original = top.original_max_position_embeddings > 0    ? top.original_max_position_embeddings
                           : rope.original_max_position_embeddings > 0 ? rope.original_max_position_embeddings
                                                                       : top.max_position_embeddings;
  attention.set("rope_original_length", ConfigValue(original));
  return absl::OkStatus();
}

void write_rope(const ResolvedModel& model, int64_t block, Json& json) {
  json["rope_theta"] = model.number(block, "rope_base");
  const std::string scaling = model.text(block, "rope_scaling");
  if (scaling.empty() || scaling == "none") return;
  Json& table = json["rope_scaling"] = {{"rope_type", scaling}, {"factor", model.number(block, "rope_factor")}};
  if (scaling != "llama3") return;
  const auto original = static_cast<int64_t>(model.number(block, "rope_original_length"));
  table["low_freq_factor"] = model.number(block, "rope_low_frequency_factor");
  table["high_freq_factor"] = model.number(block, "rope_high_frequency_factor");
  table["original_max_position_embeddings"] = original;
  json["max_position_embeddings"] =
      static_cast<int64_t>(std::llround(static_cast<double>(original) * model.number(block, "rope_factor")));
}

}  // namespace hippodrome::huggingface

#include <cmath>

#include "core/base/text.h"
#include "experiments/plan/plan.h"
#include "experiments/race/summary.h"

namespace hippodrome {
namespace plan_text_detail {
namespace {

// 1,234,567
std::string grouped(int64_t number) {
  std::string text = std::to_string(number);
  for (auto at = static_cast<int64_t>(text.size()) - 3; at > (number < 0 ? 1 : 0); at -= 3) {
    text.insert(static_cast<size_t>(at), ",");
  }
  return text;
}

// "128 GiB" where that is exact, else three digits.
std::string bytes_text(int64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int64_t size = 1;
  int unit = 0;
  while (unit < 4 && bytes >= size * 1024) size *= 1024, ++unit;
  return bytes % size == 0 ? std::to_string(bytes / size) + " " + kUnits[unit] : format_bytes(static_cast<double>(bytes));
}

// What must be fitted into, as hardware is sold: "80 GB" or "80 GiB".
std::string memory_text(int64_t bytes) {
  constexpr int64_t kGigabyte = 1'000'000'000;
  return bytes % kGigabyte == 0 ? std::to_string(bytes / kGigabyte) + " GB" : bytes_text(bytes);
}

std::string most(int64_t number) { return number >= kAnyNumber ? "any" : number == 0 ? "–" : grouped(number); }
std::string yes_or_no(bool yes) { return yes ? "yes" : "no"; }

std::string kind_table(const Plan& plan) {
  std::vector<std::vector<std::string>> table = {{"kind", "layers", "parameters", "active", "FLOPs per token"}};
  double flops = 0.0;
  for (const KindSize& kind : plan.kinds) {
    const bool tied_head = kind.kind == "head" && kind.parameters == 0;
    table.push_back({tied_head ? "head (tied)" : kind.kind, std::to_string(kind.layers), grouped(kind.parameters),
                     grouped(kind.active_parameters), kind.flops > 0.0 ? format_count(kind.flops) : "–"});
    flops += kind.flops;
  }
  table.push_back({"total", "", grouped(plan.parameters), grouped(plan.active_parameters), format_count(flops)});
  return aligned_table(table);
}

std::string flops_lines(const Plan& plan) {
  std::string text = "FLOPs per token: " + format_count(plan.flops.decode) + " decoding behind " +
                     grouped(plan.options.context) + " tokens, " + format_count(plan.flops.train) + " training at length " +
                     grouped(plan.options.length) + " (three times the forward)\n";
  text += "Matrices alone: " + format_count(plan.flops.matrices) + ", the embedding being a look-up";
  if (!plan.tied) text += "; " + format_count(plan.flops.matrices_with_embedding) + " where it is counted as a product";
  return text + "\n";
}

std::string sequence_lines(const Plan& plan) {
  const SequenceBytes& sequence = plan.sequence;
  const int64_t context = plan.options.context;
  std::string text = "A sequence of " + grouped(context) + " tokens: " + bytes_text(sequence.cache) + " of KV cache (" +
                     plan.options.dtype + ", " + grouped(sequence.cache_per_token) + " B per token), " +
                     bytes_text(sequence.state) + " of recurrent state (float32)\n";
  if (sequence.windowed_cache < sequence.cache) {
    text += "  a sliding window caps the cache at " + bytes_text(sequence.windowed_cache) +
            "; published figures, and those below, leave it out\n";
  }
  if (sequence.published_state_elements > sequence.state_elements) {
    text += "  " + grouped(sequence.state_elements) + " elements of state; published tables have " +
            grouped(sequence.published_state_elements) + ", with all k taps of a convolution's window instead of the k − 1 it needs\n";
  }
  return text;
}

std::string break_even_lines(const Plan& plan) {
  const BreakEven& even = plan.break_even;
  if (even.tokens == 0) return "";
  std::string text = "State and cache together beat the cache of a Transformer of this size (" +
                     std::to_string(even.twin.layers) + " layers of width " + grouped(even.twin.width) + ", " +
                     grouped(even.twin.cache_per_token) + " B per token)\n  from " + grouped(even.tokens) + " tokens on";
  if (even.tokens_in_dtype != even.tokens) {
    text += "; from " + grouped(even.tokens_in_dtype) + " with the state in " + plan.options.dtype;
    if (even.tokens_published != even.tokens_in_dtype) {
      text += ", from " + grouped(even.tokens_published) + " as published tables count it";
    }
  }
  return text + "\n";
}

// "jamba with a sequence of 262,144 tokens fits 80 GiB in int8 and int4"
std::string fitting_formats(const Plan& plan) {
  std::vector<std::string> formats;
  for (const InferenceFit& fit : plan.inference) {
    if (fit.fits) formats.push_back(fit.weights.format);
  }
  const std::string what = plan.name + " with a sequence of " + grouped(plan.options.context) + " tokens ";
  const std::string memory = memory_text(plan.options.memory);
  return what + (formats.empty() ? "does not fit " + memory : "fits " + memory + " in " + join(formats, ", ")) + "\n";
}

std::string inference_table(const Plan& plan) {
  const std::string memory = memory_text(plan.options.memory);
  std::vector<std::vector<std::string>> table = {{"inference in " + memory, "weights", "with the sequence", "fits",
                                                  "largest context", "largest batch"}};
  for (const InferenceFit& fit : plan.inference) {
    table.push_back({fit.weights.format, bytes_text(fit.weights.bytes),
                     bytes_text(fit.weights.bytes + plan.sequence.cache + plan.sequence.state), yes_or_no(fit.fits),
                     most(fit.largest_context), most(fit.largest_batch)});
  }
  return aligned_table(table) + fitting_formats(plan) +
         "int8: a bfloat16 scale per row; int4: scale and zero per group of 32, 0.625 B per weight; embeddings bfloat16, norms "
         "float32\n";
}

std::string training_table(const Plan& plan) {
  const TrainingFit& fit = plan.training;
  const std::string memory = memory_text(plan.options.memory);
  std::vector<std::vector<std::string>> table = {
      {"training in " + memory, "activations", "total", "fits", "largest batch", "largest length"},
      {"all kept", bytes_text(fit.bytes.activations), bytes_text(fit.bytes.total()), yes_or_no(fit.fits),
       most(fit.largest_batch), most(fit.largest_length)},
      {"recomputed", bytes_text(fit.bytes.activations_recomputed), bytes_text(fit.bytes.total_recomputed()),
       yes_or_no(fit.fits_recomputed), most(fit.largest_batch_recomputed), most(fit.largest_length_recomputed)}};
  return aligned_table(table) + "batch " + grouped(plan.options.batch) + " × " + grouped(plan.options.length) + " tokens, " +
         plan.options.dtype + " activations; float32 weights " + bytes_text(fit.bytes.weights) + ", gradients " +
         bytes_text(fit.bytes.gradients) + ", AdamW's moments " + bytes_text(fit.bytes.optimizer) + "\n";
}

}  // namespace
}  // namespace plan_text_detail

std::string plan_text(const Plan& plan) {
  using namespace plan_text_detail;
  std::string text = plan.name + ": width " + grouped(plan.width) + ", vocabulary " + grouped(plan.vocabulary) + "\n";
  for (const std::string& warning : plan.warnings) text += "warning: " + warning + "\n";
  return text + "\n" + kind_table(plan) + "\n" + flops_lines(plan) + sequence_lines(plan) + break_even_lines(plan) + "\n" +
         inference_table(plan) + "\n" + training_table(plan);
}

}  // namespace hippodrome

// The rows of a run: what `rows.jsonl` in a run directory holds, one JSON object per line, UTF-8, in any order.
//
// This is the contract between the jobs that measure (race, scale) and whoever reads the results (the report, scripts).
// A field that is unknown or does not apply is null or absent; a number that is not finite is null. Unknown fields are
// kept and offered for download. Where two rows describe the same cell (below: "cell"), the later one counts, so a
// resumed run simply appends. A row is written with one call, newline included: only the last line can be torn.
//
// ---- kind "run": what was asked. Cell: the file (the last one counts).
//   name         text     required; the title of the report
//   description  text     one or two sentences for someone who has never seen the run
//   recipe       object   the resolved recipe
//   tasks        object   optional: task name -> one sentence for a newcomer, shown above the task's charts
//   models       object   optional: model name -> one sentence, shown when hovering over its name in the table
//   provenance   object   see below
//
// ---- kind "trial": one training. Cell: (model, task, seed, width).
//   status           "ok" | "failed" | "out_of_memory" | "timeout"   required
//   message          text     why it did not finish, one sentence
//   model, task      text     required
//   seed             integer
//   width            integer  model width D
//   parameters       integer  all trainable scalars, embeddings included
//   flops_per_token  number   forward pass, FLOPs (a multiply-add is two)
//   state_bytes      integer  measured bytes of state carried per sequence after `state_length` tokens
//   state_length     integer  tokens
//   tokens_per_second   number   during training
//   peak_memory_bytes   integer  during training
//   steps, tokens    integer  trained
//   train_seconds    number   evaluation excluded
//   metric           {"name": "accuracy" | "bits_per_byte" | …, "value": number, "higher_is_better": bool}   at the end
//   chance           number   the metric of guessing, in the metric's unit
//   plateaus         [{"name": text, "value": number}]   where a run that found a named shortcut stays, metric's unit
//   floor            {"name": text, "value": number} | null   a simple method on the same data, metric's unit
//   by_length        [{"length": tokens, "value": number, "trained": bool}]   the metric by length; or []
//                    Tasks of (source, target) pairs (reverse, copy, sort, translate): length is that of the source in
//                    symbols, where lengths are grouped the longest of the group; value is teacher-forced. Beside it:
//                    "pairs": int, number tested, and what the model says by itself, by greedy search, against the
//                    target: "exact_match", percent of pairs right to the end; "bleu"; "chrf"   all from 0 to 100
//   attention        [{"source": [label], "target": [label], "weights": [[number]]}]   tasks of pairs, of models that
//                    attend from target to source; or []. Some sources, the same ones in every model's row; target:
//                    what the model says of it. weights: one list a target label, of one number from 0 to 1 a source
//                    label; one list more where the target was cut off, of the symbol that would have followed
//   curve            [{"step": int, "tokens": int, "seconds": number, "loss": number,
//                     "auxiliary_loss": number, "metric": number | null}]
//                    loss: training cross-entropy in nats per predicted token (the report shows bits only);
//                    auxiliary_loss: weighted sum of what layers add in training, 0 where none does; not part of loss;
//                    seconds: training time so far; metric: on held-out data, null at steps without evaluation
//   kernel_class     "fused" | "library" | "reference"
//   provenance       object
//
// ---- kind "scale": speed and memory at one length. Cell: (model, phase, length).
//   model               text     required
//   phase               "train" | "prefill" | "decode"   required
//   length              integer  required; tokens per sequence; for decode, the depth at which tokens are generated
//   status, message     as above; status required
//   batch               integer  sequences
//   tokens_per_second   number   median over samples: trained, read, or generated tokens of all sequences
//   quantiles           [q20, q50, q80]   tokens per second
//   samples_seconds     [number]  every timed repeat: one training step, one prefill, or one decoding step
//   others_cores        number   cores that other processes used during the samples: 0 on a quiet machine
//   time_to_first_token number   seconds, prefill only
//   recorded            bool     whether a recorded step (a CUDA graph) was replayed
//   reads_source        bool     an encoder–decoder: the length is its source's
//   peak_bytes          integer  highest allocated
//   memory              {"weights", "gradients", "optimizer", "activations", "state"}   bytes at the peak; optimizer: its
//                       moments; activations: kept for backward; what of peak_bytes is in none of them is workspace
//   parameters          integer
//   kernel_class, provenance   as above
//
// ---- kind "slope": time ~ length^exponent, fitted on log axes. Cell: (model, phase, quantity).
//   model, phase  text    required
//   exponent      number  required
//   quantity      text    "seconds" (default): seconds for one whole sequence in train and prefill (1 = linear,
//                         2 = quadratic), for one token at that depth in decode (0 = does not grow, 1 = linear);
//                         "peak_bytes": bytes for one whole sequence
//   from, to      integer lengths fitted, tokens
//
// ---- kind "crossover": from which length on one model beats another. Cell: (phase, quantity, faster, slower).
//   phase     text    required
//   quantity  "tokens_per_second" | "peak_bytes"   required
//   faster    text    required; the model that is better (faster; smaller) beyond `length`
//   slower    text    required
//   length    number | null   tokens, interpolated on log axes; null: no crossing within the measured lengths
//   note      text    e.g. "mamba is faster at every measured length"
//
// ---- provenance, the same object in every row
//   {"commit": text, "dirty": bool, "hardware": {"cpu": text, "cores": int, "memory_bytes": int, "gpu": text | null,
//   "gpu_memory_bytes": int},
//    "versions": {"hippodrome": text, "torch": text, "compiler": text}, "seed": int, "dtype": text, "threads": int,
//    "matmul": text, "shape": {…}, "started": "2025-01-31T12:00:00Z"}
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <absl/status/statusor.h>
#include <nlohmann/json.hpp>

namespace hippodrome {

// The name of the file of rows inside a run directory.
inline constexpr char kRowsFile[] = "rows.jsonl";

struct Rows {
  std::vector<nlohmann::json> rows;   // in file order
  std::vector<std::string> warnings;  // sentences for the reader of the report, e.g. about a torn last line
};

// Reads `rows.jsonl` of a run directory. A last line without its newline that does not parse was torn by an interrupted
// write: it is skipped with a warning. Any other line that is not a row as above is an InvalidArgument naming file and
// line. A missing file is NotFound; a file without a row is FailedPrecondition.
absl::StatusOr<Rows> read_rows(const std::filesystem::path& run_directory);

}  // namespace hippodrome

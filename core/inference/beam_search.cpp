#include "core/inference/beam_search.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/topk.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "core/data/padded_rows.h"
#include "core/inference/source_attention.h"

namespace hippodrome {
namespace {

using Ids = std::vector<int64_t>;

constexpr double kImpossible = -std::numeric_limits<double>::infinity();

Tensor on_device(const Ids& ids, at::Device device) { return at::tensor(ids, at::kLong).to(device); }

// What the search starts from: the state behind each source, the logits of the first target token [sources, V], and the
// position of that token.
struct Beginning {
  ModelState state;
  Tensor logits;
  std::vector<int64_t> positions;  // [sources] of the next token to be read
  bool ragged = false;             // rows stand at different positions
};

Beginning begin(LanguageModel& model, const std::vector<Ids>& sources, const SearchOptions& options,
                Observer* observer) {
  Beginning result;
  std::vector<Ids> rows = sources;
  for (Ids& row : rows) row.push_back(model.encoder() ? kEnd : kBegin);
  const at::Device device = model.device();
  const PaddedRows read = padded_rows(rows);
  Context reading;
  reading.positions = read.positions.to(device);
  reading.ragged = read.ragged;
  Tensor hidden;
  const auto count = static_cast<int64_t>(sources.size());
  if (model.encoder()) {
    const EncodedSource encoded = model.encode(read.ids.to(device), reading);
    result.state = model.initial_state(count, options.max_length + 1, &encoded);
    Context context = Context::plain(count, 1, 0, device);
    context.observer = observer;
    const Tensor first = at::full({count, 1}, kBegin, context.positions.options());
    hidden = model.hidden(first, context, &result.state).select(1, 0);
    result.positions.assign(sources.size(), 1);
  } else {
    result.state = model.initial_state(count, read.ids.size(1) + options.max_length);
    const Tensor all = model.hidden(read.ids.to(device), reading, &result.state);
    for (const Ids& row : rows) result.positions.push_back(static_cast<int64_t>(row.size()));
    const Tensor last = on_device(result.positions, device).sub(1).view({count, 1, 1}).expand({count, 1, all.size(2)});
    hidden = all.gather(1, last).select(1, 0);
    result.ragged = read.ragged;
  }
  result.logits = model.logits(hidden);
  return result;
}

struct Beam {
  Ids ids;
  double log_probability = 0.0;
  std::vector<std::vector<float>> attention;
};

// A source whose search goes on, its beams in the rows of the state.
struct Search {
  size_t source;
  std::vector<Beam> beams;
  std::vector<Hypothesis> done;
};

double score_of(const Hypothesis& hypothesis, const SearchOptions& options) {
  const auto length = static_cast<double>(hypothesis.ids.size()) + (hypothesis.finished ? 1.0 : 0.0);
  double score = hypothesis.log_probability / std::pow((5.0 + length) / 6.0, options.length_penalty);
  if (options.coverage_penalty > 0.0 && !hypothesis.attention.empty()) {
    for (size_t i = 0; i < hypothesis.attention[0].size(); ++i) {
      double covered = 0.0;
      for (const auto& weights : hypothesis.attention) covered += weights[i];
      score += options.coverage_penalty * std::log(std::clamp(covered, 1e-12, 1.0));
    }
  }
  return score;
}

Hypothesis hypothesis_of(Beam beam, bool finished, const SearchOptions& options) {
  Hypothesis result{std::move(beam.ids), beam.log_probability, 0.0, finished, std::move(beam.attention)};
  result.score = score_of(result, options);
  return result;
}

void keep_best(std::vector<Hypothesis>& done, int64_t count) {
  std::stable_sort(done.begin(), done.end(),
                   [](const Hypothesis& a, const Hypothesis& b) { return a.score > b.score; });
  if (static_cast<int64_t>(done.size()) > count) done.resize(static_cast<size_t>(count));
}

}  // namespace

absl::Status check(const SearchOptions& options) {
  if (options.beam < 1) return absl::InvalidArgumentError("the beam must hold at least one hypothesis");
  if (options.n_best < 1 || options.n_best > options.beam) {
    return absl::InvalidArgumentError("n-best is " + std::to_string(options.n_best) +
                                      ", which must be from 1 to the beam's " + std::to_string(options.beam));
  }
  if (options.max_length < 1) return absl::InvalidArgumentError("the longest target must have at least one token");
  if (options.length_penalty < 0.0 || options.coverage_penalty < 0.0) {
    return absl::InvalidArgumentError("penalties of length and coverage must not be negative");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::vector<Hypothesis>>> beam_search(LanguageModel& model, const std::vector<Ids>& sources,
                                                                 const SearchOptions& options) {
  const at::NoGradGuard no_grad;
  RETURN_IF_ERROR(check(options));
  std::vector<std::vector<Hypothesis>> results(sources.size());
  if (sources.empty()) return results;
  const int64_t vocabulary = model.vocabulary(), beam = options.beam;
  const at::Device device = model.device();
  const bool looks = options.attention || options.coverage_penalty > 0.0;
  SourceAttention attention;
  Beginning start = begin(model, sources, options, looks && model.encoder() ? &attention : nullptr);
  if (options.coverage_penalty > 0.0 && attention.empty()) {
    return absl::InvalidArgumentError("a coverage penalty needs a model that attends to the source");
  }
  std::vector<Search> searches;
  std::vector<int64_t> rows, positions;  // of the state
  for (size_t i = 0; i < sources.size(); ++i) {
    searches.push_back({i, {Beam{}}, {}});
    positions.push_back(start.positions[i]);
  }
  ModelState state = std::move(start.state);
  Tensor logits = start.logits;
  int64_t width = 1;  // beams a source, all in the state: one at the first token, `beam` afterwards
  while (!searches.empty()) {
    const Tensor scores = at::log_softmax(logits.to(at::kDouble), -1).contiguous();
    // Twice as many candidates as beams: at most `beam` of them can be ends.
    const int64_t candidates = std::min(2 * beam, width * vocabulary);
    std::vector<double> before;
    for (const Search& search : searches) {
      for (int64_t k = 0; k < width; ++k) {
        before.push_back(k < static_cast<int64_t>(search.beams.size())
                             ? search.beams[static_cast<size_t>(k)].log_probability
                             : kImpossible);
      }
    }
    const Tensor totals = scores.add(at::tensor(before, at::kDouble).to(device).unsqueeze(-1))
                              .view({static_cast<int64_t>(searches.size()), width * vocabulary});
    const auto [best, places] = at::topk(totals, candidates, -1);
    const Tensor best_host = best.to(at::kCPU).contiguous(), places_host = places.to(at::kCPU).contiguous();
    std::vector<Search> going_on;
    std::vector<int64_t> next_rows, next_tokens, next_positions;
    for (size_t s = 0; s < searches.size(); ++s) {
      Search& search = searches[s];
      std::vector<Beam> beams;
      std::vector<int64_t> own_rows;
      for (int64_t c = 0; c < candidates && static_cast<int64_t>(beams.size()) < beam; ++c) {
        const auto at = static_cast<int64_t>(s) * candidates + c;
        const double total = best_host.const_data_ptr<double>()[at];
        if (total == kImpossible) break;
        const int64_t place = places_host.const_data_ptr<int64_t>()[at], k = place / vocabulary,
                      id = place % vocabulary;
        const int64_t row = static_cast<int64_t>(s) * width + k;
        Beam grown = search.beams[static_cast<size_t>(k)];
        grown.log_probability = total;
        if (!attention.empty()) {
          grown.attention.push_back(attention.row(row));
          grown.attention.back().resize(sources[search.source].size() + 1);  // without the padding
        }
        if (id == kEnd) {
          // An end counts where it is among the `beam` best; behind them a better way on is kept.
          if (c < beam) search.done.push_back(hypothesis_of(std::move(grown), /*finished=*/true, options));
          continue;
        }
        grown.ids.push_back(id);
        beams.push_back(std::move(grown));
        own_rows.push_back(row);
      }
      const bool cut = !beams.empty() && static_cast<int64_t>(beams[0].ids.size()) >= options.max_length;
      if (static_cast<int64_t>(search.done.size()) >= beam || cut || beams.empty()) {
        for (Beam& left : beams) {
          if (static_cast<int64_t>(search.done.size()) >= options.n_best) break;
          search.done.push_back(hypothesis_of(std::move(left), /*finished=*/false, options));
        }
        keep_best(search.done, options.n_best);
        results[search.source] = std::move(search.done);
        continue;
      }
      // A beam that found fewer ways on than it is wide repeats one of them, never to be chosen.
      for (int64_t k = 0; k < beam; ++k) {
        const bool real = k < static_cast<int64_t>(beams.size());
        const size_t from = real ? static_cast<size_t>(k) : 0;
        next_rows.push_back(own_rows[from]);
        next_tokens.push_back(beams[from].ids.back());
        next_positions.push_back(positions[static_cast<size_t>(own_rows[from])]);
      }
      going_on.push_back({search.source, std::move(beams), std::move(search.done)});
    }
    searches = std::move(going_on);
    if (searches.empty()) break;
    state = state.select(at::tensor(next_rows, at::kLong));
    const auto count = static_cast<int64_t>(next_tokens.size());
    Context context;
    context.positions = on_device(next_positions, device).unsqueeze(-1);
    context.ragged = start.ragged;
    attention.clear();
    context.observer = looks && model.encoder() ? &attention : nullptr;
    logits = model.logits(model.hidden(on_device(next_tokens, device).view({count, 1}), context, &state).select(1, 0));
    for (int64_t& position : next_positions) ++position;
    positions = std::move(next_positions);
    width = beam;
  }
  if (!options.attention) {
    for (auto& hypotheses : results) {
      for (Hypothesis& hypothesis : hypotheses) hypothesis.attention.clear();
    }
  }
  return results;
}

std::vector<double> forced_scores(LanguageModel& model, const std::vector<Pair>& pairs) {
  const at::NoGradGuard no_grad;
  std::vector<double> scores;
  if (pairs.empty()) return scores;
  const at::Device device = model.device();
  const Batch batch = batch_of_pairs(pairs, /*apart=*/model.encoder() != nullptr);
  Context context;
  context.positions = batch.positions.to(device);
  context.ragged = batch.ragged;
  ModelState state;
  if (model.encoder()) {
    Context reading;
    reading.positions = batch.source_positions.to(device);
    reading.ragged = batch.source_ragged;
    const EncodedSource encoded = model.encode(batch.source.to(device), reading);
    state = model.initial_state(batch.tokens.size(0), batch.tokens.size(1), &encoded);
  }
  const Tensor hidden = model.hidden(batch.tokens.to(device), context, model.encoder() ? &state : nullptr);
  for (size_t i = 0; i < pairs.size(); ++i) {
    const auto& [source, target] = pairs[i];
    const int64_t row = static_cast<int64_t>(i), first = model.encoder() ? 0 : static_cast<int64_t>(source.size()),
                  length = static_cast<int64_t>(target.size()) + 1;
    const Tensor logits = model.logits(hidden[row].narrow(0, first, length)).to(at::kDouble);
    const Tensor labels = batch.labels[row].narrow(0, first, length).to(device);
    scores.push_back(at::log_softmax(logits, -1).gather(1, labels.unsqueeze(-1)).sum().item().toDouble());
  }
  return scores;
}

}  // namespace hippodrome

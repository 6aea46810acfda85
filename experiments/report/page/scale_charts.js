// Speed and memory against sequence length: the two headline charts.
"use strict";

const scaleRows = (phase, model) =>
  results.scales.filter((r) => r.phase === phase && r.model === model).sort((a, b) => a.length - b.length);

// The series of a panel: value(row) gives {y, low, high} or null.
function phaseSeries(phase, value) {
  return results.models.filter(shown).map((model) => {
    const points = [], misses = [];
    for (const row of scaleRows(phase, model)) {
      const v = finished(row) ? value(row) : null;
      if (v && v.y > 0)
        points.push({x: row.length, ...v, text: pointText(row)});
      else
        misses.push({
          x: row.length,
          status: row.status,
          text: hoverLines(
            `${model}, ${PHASE_TITLES[phase]} at ${grouped(row.length)} tokens: ${
              finished(row) ? "not measured" : STATUS_WORDS[row.status] || row.status}`,
            row.message)
        });
    }
    return {model, points, misses};
  });
}

// Everything known about one measured point.
function pointText(row) {
  const q = row.quantiles, memory = row.memory || {};
  const spreadOf = q?.length === 3 && q[0] !== q[2] ?
    `${count(q[0])} to ${count(q[2])} in the middle 60 % of ${row.samples_seconds?.length ?? "the"} repeats` :
    "";
  const split = MEMORY_PARTS.filter((part) => partBytes(row, part) > 0)
                  .map((part) => `${partName(part)} ${bytes(partBytes(row, part))}`);
  return hoverLines(
    `${row.model}${kernelMark(row.kernel_class)}, ${PHASE_TITLES[row.phase]} at ${grouped(row.length)} tokens`,
    isNumber(row.batch) ? `batch of ${grouped(row.batch)}` : "",
    row.kernel_class ? `${row.kernel_class} kernel` : "",
    isNumber(row.tokens_per_second) ? tokensPerSecond(row.tokens_per_second) : "", spreadOf,
    isNumber(row.time_to_first_token) ? `time to first token ${seconds(row.time_to_first_token)}` : "",
    isNumber(row.peak_bytes) ? `peak memory ${bytes(row.peak_bytes)}` : "",
    split.length ? split.slice(0, 2).join(", ") : "", split.length > 2 ? split.slice(2).join(", ") : "");
}

// Workspace is what of the peak belongs to no other part; below one percent it is rounding of the allocator.
function partBytes(row, part) {
  if (part !== "workspace") return row.memory?.[part] || 0;
  const known = MEMORY_PARTS.reduce((sum, p) => sum + (p === part ? 0 : row.memory?.[p] || 0), 0);
  const rest = (row.peak_bytes || 0) - known;
  return known && rest > 0.01 * row.peak_bytes ? rest : 0;
}
const partName = (part) => (part === "optimizer" ? "optimiser" : part);

// ---- crossovers as rings on the lines -------------------------------------------------------------------------------

// Where a crossover lies on the line of a model, between measured points; null outside of them.
function onLine(points, x) {
  for (let i = 1; i < points.length; i++) {
    const [a, b] = [points[i - 1], points[i]];
    if (x < a.x || x > b.x) continue;
    const t = Math.log(x / a.x) / Math.log(b.x / a.x);
    return Math.exp(Math.log(a.y) * (1 - t) + Math.log(b.y) * t);
  }
  return null;
}

function crossoverRings(phase, quantity, series) {
  const line = (model) => series.find((s) => s.model === model)?.points || [];
  return results.crossovers
    .filter(
      (c) => c.phase === phase && c.quantity === quantity && isNumber(c.length) && shown(c.faster) && shown(c.slower))
    .flatMap((c) => {
      const ys = [onLine(line(c.faster), c.length), onLine(line(c.slower), c.length)].filter(isNumber);
      if (!ys.length) return [];
      return [{
        x: c.length,
        y: Math.exp(ys.reduce((sum, y) => sum + Math.log(y), 0) / ys.length),
        text:
          hoverLines(`from about ${aboutTokens(c.length)} tokens on,`, `${c.faster} ${crossoverVerb(c)} ${c.slower}`)
      }];
    });
}

const crossoverSwitch = (on, change) => choice("Crossovers", [[true, "on"], [false, "off"]], on, change);

function missNotes(panels) {
  const lost = missMarks(panels);
  return lost ? [`In the strip below a panel, where there is no result: ${lost}; hover for the reason.`] : [];
}

// ---- speed ----------------------------------------------------------------------------------------------------------

// Seconds that stand for the speed in a phase: one training step, the time to the first token, one generated token.
const PHASE_TIMES = {
  train: {title: "time per training step", of: (r) => (r.batch || 1) * r.length / r.tokens_per_second},
  prefill: {
    title: "time to first token",
    of:
      (r) => (isNumber(r.time_to_first_token) ? r.time_to_first_token : (r.batch || 1) * r.length / r.tokens_per_second)
  },
  decode: {title: "time per generated token", of: (r) => (r.batch || 1) / r.tokens_per_second},
};
const LENGTH_TITLES = {
  train: "sequence length (tokens)",
  prefill: readsSources ? "prompt or source length (tokens)" : "prompt length (tokens)",
  decode: readsSources ? "context or source length (tokens)" : "context length (tokens)"
};

function speedFigure() {
  let view = "rate",
      rings = results.crossovers.filter((c) => c.quantity === "tokens_per_second" && isNumber(c.length)).length <= 14;
  const rate = (row) => {
    const y = row.tokens_per_second;
    return isNumber(y) ? {y, low: row.quantiles?.[0] ?? y, high: row.quantiles?.[2] ?? y} : null;
  };
  const time = (row) => {
    if (!isNumber(row.tokens_per_second)) return null;
    const y = PHASE_TIMES[row.phase].of(row), v = rate(row);
    return {y, low: y * v.y / v.high, high: y * v.y / v.low};
  };
  const build = (options) => {
    const panels = results.phases.map((phase) => {
      const series = phaseSeries(phase, view === "rate" ? rate : time);
      return {
        title: PHASE_TITLES[phase],
        scale: view,
        xTitle: LENGTH_TITLES[phase],
        yTitle: view === "rate" ? "tokens per second" : PHASE_TIMES[phase].title,
        series,
        rings: rings ? crossoverRings(phase, "tokens_per_second", series) : []
      };
    });
    return {...logPanels(panels, options), notes: missNotes(panels)};
  };
  return figure({
    title: "Speed against sequence length",
    name: "speed",
    paperWidth: 1080,
    caption: "How to read this: both axes are logarithmic, and each panel has its own vertical scale. In " +
      "tokens per second a level line means that a token costs the same however long the sequence is, " +
      "and a falling line that longer sequences make each token dearer. Bands span the middle 60 % of " +
      "the repeats; rings mark where one model overtakes another.",
    controls: (redraw) => {
      const views = [["rate", "tokens per second"], ["time", "time"]];
      return [
        choice("Show", views, view, (value) => { view = value; redraw(); }),
        results.crossovers.length ? crossoverSwitch(rings, (value) => { rings = value; redraw(); }) : null,
      ];
    },
    build,
  });
}

// ---- memory ---------------------------------------------------------------------------------------------------------

function memoryFigure() {
  let rings = results.crossovers.filter((c) => c.quantity === "peak_bytes" && isNumber(c.length)).length <= 14;
  const peak = (row) => (
    isNumber(row.peak_bytes) ? {y: row.peak_bytes, low: row.peak_bytes, high: row.peak_bytes} : null);
  const build = (options) => {
    const panels = results.phases.map((phase) => {
      const series = phaseSeries(phase, peak);
      return {
        title: PHASE_TITLES[phase],
        scale: "bytes",
        xTitle: LENGTH_TITLES[phase],
        yTitle: "peak memory (bytes)",
        series,
        rings: rings ? crossoverRings(phase, "peak_bytes", series) : []
      };
    });
    return {...logPanels(panels, options), notes: missNotes(panels)};
  };
  return figure({
    title: "Memory against sequence length",
    name: "memory",
    paperWidth: 1080,
    caption: "How to read this: the most memory that was in use at once, on logarithmic axes; each panel has " +
      "its own vertical scale. A rising line will meet the machine's limit at some length, a level " +
      "one will not. Hover over a point for its parts.",
    controls: (redraw) => {
      const some = results.crossovers.some((c) => c.quantity === "peak_bytes");
      return some ? crossoverSwitch(rings, (value) => { rings = value; redraw(); }) : null;
    },
    build,
  });
}

function memorySplitFigure() {
  // To begin with the longest length that every model finished in every phase, so that the bars can be compared.
  const complete = results.lengths.filter((length) => results.scales.every((r) => r.length !== length || finished(r)));
  let length = (complete.length ? complete : results.lengths).at(-1);
  const names = MEMORY_PARTS;
  const build = (options) => {
    const panels = results.phases.map(
      (phase) => ({
        title: PHASE_TITLES[phase],
        bars: results.models.filter(shown).flatMap((model) => {
          const row = results.scales.find((r) => r.phase === phase && r.model === model && r.length === length);
          if (!row) return [];
          if (!finished(row) || !row.memory)
            return [{
              label: model,
              note: finished(row) ? "not measured" : STATUS_WORDS[row.status] || row.status,
              text: hoverLines(model, row.message)
            }];
          return [{
            label: model,
            parts: names.map((part) => partBytes(row, part)),
            total: row.peak_bytes,
            text: pointText(row)
          }];
        }),
      }));
    return barPanels(panels, names.map(partName), options);
  };
  const key = () => element(
    "span", {class: "parts-key"},
    names.map((part, i) => element("span", {}, element("i", {class: `part part-${i}`}), partName(part))));
  return figure({
    title: "What the memory holds",
    name: "memory-split",
    paperWidth: 1080,
    caption: "How to read this: the peak of each model at one length, split into weights, optimiser moments " +
      "and gradients, activations kept for the backward pass, the state carried along the " +
      "sequence, and workspace, which is freed again within the step; the scale is linear. Choose another length above.",
    controls: (redraw) =>
      [dropdown(
         "At length", results.lengths.map((l) => [l, `${grouped(l)} tokens`]), length,
         (value) => {
           length = value;
           redraw();
         }),
       key()],
    build,
  });
}

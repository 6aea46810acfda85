// The charts of one task: learning curves, the final metric by model.
"use strict";

// 0 to 100 %, with room for markers at both ends and for the word "chance" below its line.
const PERCENT_RANGE = [-0.05, 1.05];
const CHART_HEIGHT = 370;
const range = (low, high, padding = 0.04) => [low - (high - low) * padding, high + (high - low) * padding];

// ---- learning curves ------------------------------------------------------------------------------------------------

const CURVE_AXES = {
  steps: {title: "optimiser steps", of: (p) => p.step, text: (x) => `step ${grouped(x)}`},
  tokens: {title: "training tokens", of: (p) => p.tokens, text: (x) => `${count(x)} tokens`},
  time: {title: "training time (s)", of: (p) => p.seconds, text: (x) => `${seconds(x)} of training`},
};

// Curves in one unit: the held-out metric, or the training loss in bits.
function curveQuantity(facts, view) {
  if (view === "loss") {
    const unit = metricUnit("bits_per_token");
    return {
      unit,
      title: "training loss (bits per token)",
      of: (p) => (isNumber(p.loss) ? p.loss / Math.LN2 : null),
      references: [],
      lower: true
    };
  }
  return {
    unit: facts.unit,
    title: `${facts.unit.title} (${facts.better})`,
    of: (p) => p.metric,
    references: facts.references,
    lower: !facts.higherIsBetter
  };
}

// Seeds are joined at equal steps: the median of their values, and of their tokens or seconds.
function joinedCurve(trials, x, quantity) {
  const bySteps = new Map();
  for (const trial of trials) {
    for (const p of trial.curve || []) {
      if (!isNumber(quantity.of(p)) || !isNumber(x.of(p))) continue;
      if (!bySteps.has(p.step)) bySteps.set(p.step, []);
      bySteps.get(p.step).push([x.of(p), quantity.of(p)]);
    }
  }
  return [...bySteps].sort((a, b) => a[0] - b[0]).map(([, seeds]) => {
    const s = spread(seeds.map((v) => v[1]));
    return {x: median(seeds.map((v) => v[0])), y: s.median, low: s.low, high: s.high, spread: s};
  });
}

// The top of the scale where lower is better: the untrained first steps would otherwise flatten the rest.
function curveRange(lines, quantity, percent) {
  if (percent) return PERCENT_RANGE;
  const end = Math.max(...lines.flatMap((points) => points.map((p) => p.x)));
  const late = lines.flatMap((points) => points.filter((p) => p.x >= 0.08 * end || points.length < 6));
  if (!late.length) return [0, 1];
  const [low, high] = [Math.min(...late.map((p) => p.low)), Math.max(...late.map((p) => p.high))];
  const near = quantity.references.map((r) => r.value)
                 .filter((v) => v > low - 0.5 * (high - low) && v < high + 0.25 * (high - low));
  return range(Math.min(low, ...near), Math.max(high, ...near), 0.06);
}

function learningFigure(facts) {
  let x = "steps",
      view = taskTrials(facts.task).some((t) => t.curve?.some((p) => isNumber(p.metric))) ? "metric" : "loss";
  const hasLoss = taskTrials(facts.task).some((t) => t.curve?.some((p) => isNumber(p.loss)));
  const build = ({theme, width, paper}) => {
    const quantity = curveQuantity(facts, view), along = CURVE_AXES[x], height = CHART_HEIGHT;
    const lines = [], data = [];
    for (const model of facts.models.filter(shown)) {
      const trials = taskTrials(facts.task, model);
      const points = joinedCurve(trials.filter(finished), along, quantity);
      for (const p of points) p.text = hoverLines(model, along.text(p.x), spreadText(p.spread, quantity.unit.text));
      if (points.length) {
        lines.push(points);
        data.push(...lineWithBand(model, theme, points, {markers: Math.max(3, Math.round(width / 90)), paper}));
      }
      for (const trial of trials.filter((t) => !finished(t)))
        data.push(...brokenCurve(trial, theme, along, quantity, lines));
    }
    const yRange = curveRange(lines, quantity, quantity.unit.percent);
    const levels = referenceLines(quantity.references, theme, yRange, height - 64);
    return {
      data,
      height,
      layout: {
        xaxis: axis(theme, along.title, {
          rangemode: "tozero",
          nticks: Math.max(3, Math.round(width / 80)),
          tickformat: x === "tokens" ? "~s" : ",",
          showgrid: false
        }),
        yaxis: axis(theme, quantity.title, {range: yRange, tickformat: quantity.unit.percent ? ".0%" : ""}),
        ...levels,
      },
      notes: lines.length ? [] : ["No training of a shown model left a curve."],
    };
  };
  return figure({
    title: "Learning curves",
    name: `${facts.task}-learning-curves`,
    caption: "How to read this: each line is the median over seeds as training goes on, its band their range" +
      `${results.seeds.length > 1 ? "" : " (here one seed, so no band)"}; the earlier a line reaches a good level, ` +
      "the less training that model needed.",
    controls: (redraw) => {
      const axes = Object.keys(CURVE_AXES).map((key) => [key, key]);
      const views = [["metric", facts.unit.title], ["loss", "training loss"]];
      return [
        choice("Along", axes, x, (value) => { x = value; redraw(); }),
        hasLoss && view === "metric" ? choice("Show", views, view, (value) => { view = value; redraw(); }) : null,
      ];
    },
    build,
  });
}

// A training that did not finish: a thin line that ends in a cross.
function brokenCurve(trial, theme, along, quantity, lines) {
  const points = joinedCurve([trial], along, quantity);
  if (!points.length) return [];
  lines.push(points);
  const style = modelStyle(trial.model, theme);
  const text = hoverLines(
    `${trial.model}, seed ${trial.seed}: ${STATUS_WORDS[trial.status] || trial.status}`, trial.message);
  const last = points.at(-1);
  return [
    {
      x: points.map((p) => p.x),
      y: points.map((p) => p.y),
      mode: "lines",
      line: {color: style.color, width: 1, dash: "dot"},
      hoverinfo: "skip",
      showlegend: false
    },
    {
      x: [last.x],
      y: [last.y],
      mode: "markers",
      marker: {symbol: "x", size: 9, color: style.color},
      hoverinfo: "text",
      hovertext: [text],
      showlegend: false
    },
  ];
}

// ---- final metric by model ------------------------------------------------------------------------------------------

// Which references fit on a scale with the values, without squeezing these; the others are named in the notes.
function splitReferences(values, references) {
  let low = Math.min(...values), high = Math.max(...values);
  for (const r of references.filter((r) => r.kind === "floor")) {
    low = Math.min(low, r.value);
    high = Math.max(high, r.value);
  }
  const limit = 2 * Math.max(high - low, 0.1 * Math.abs(high));
  const near = [], far = [];
  for (const r of references) (Math.max(high, r.value) - Math.min(low, r.value) <= limit ? near : far).push(r);
  return {near, far};
}

function finalFigure(facts) {
  const build = ({theme, width, paper}) => {
    const ink = INKS[theme], {unit} = facts;
    const rows = facts.models.filter(shown).map(
      (model) => ({model, trials: taskTrials(facts.task, model), final: finalMetric(facts.task, model)}));
    const worst = facts.higherIsBetter ? -Infinity : Infinity;
    rows.sort(
      (a, b) => ((b.final?.median ?? worst) - (a.final?.median ?? worst)) * (facts.higherIsBetter ? 1 : -1) || 0);
    const values = rows.flatMap((r) => (r.final ? [r.final.low, r.final.high] : []));
    const {near, far} = unit.percent ?
      {near: facts.references, far: []} :
      splitReferences(values.length ? values : facts.references.map((r) => r.value), facts.references);
    const all = [...values, ...near.map((r) => r.value)];
    const xRange = unit.percent ? [-0.02, 1.06] : all.length ? range(Math.min(...all), Math.max(...all), 0.12) : [0, 1];

    const top = 14 + 18 * near.length;
    const plotHeight = Math.max(rows.length * 36 + 8, CHART_HEIGHT - 52 - top);
    // Seeds and median bars stay close together, however high a row is.
    const step = Math.min(0.34, 14 * rows.length / plotHeight), half = Math.min(0.3, 15 * rows.length / plotHeight);
    const data = [];
    rows.forEach((row, i) => {
      const style = modelStyle(row.model, theme);
      const done = row.trials.filter((t) => finished(t) && isNumber(t.metric?.value));
      data.push({
        x: done.map((t) => t.metric.value),
        y: done.map((_, k) => i + (done.length > 1 ? (k / (done.length - 1) - 0.5) * step : 0)),
        mode: "markers",
        name: plotText(row.model),
        showlegend: false,
        marker: {symbol: style.symbol, size: 9, color: faded(style.color, 0.55), line: {color: style.color, width: 1}},
        hoverinfo: "text",
        hovertext: done.map((t) => hoverLines(`${t.model}, seed ${t.seed}`, unit.text(t.metric.value))),
      });
      if (!row.final) return;
      data.push({
        x: [row.final.median, row.final.median],
        y: [i - half, i + half],
        mode: "lines",
        line: {color: style.color, width: 3},
        showlegend: false,
        hoverinfo: "text",
        hovertext: Array(2).fill(hoverLines(row.model, `median ${spreadText(row.final, unit.text)}`)),
      });
    });

    // Values stand in a column of their own at the right, names of references in rows of their own above: none collide.
    const annotations = rows.map((row, i) => {
      const lost = row.trials.filter((t) => !finished(t));
      const text = row.final ? `<b>${plotText(metricValue(unit, row.final.median))}</b>` : "";
      return {
        xref: "paper",
        x: 1,
        xanchor: "left",
        xshift: 8,
        y: i,
        showarrow: false,
        align: "left",
        font: {size: 13},
        text: text +
          (lost.length ? `${text ? "<br>" : ""}<span style="color:${ink.soft};font-size:11px">${lost.length} of ${
                           row.trials.length} ✕</span>` :
                         ""),
        hovertext:
          lost.map((t) => hoverLines(`seed ${t.seed}: ${STATUS_WORDS[t.status] || t.status}`, t.message)).join("<br>")
      };
    });
    const shapes = [];
    [...near].sort((a, b) => a.value - b.value).forEach((r, k) => {
      const rise = 18 * (near.length - k) - 5;  // px above the plot
      shapes.push({
        type: "line",
        x0: r.value,
        x1: r.value,
        yref: "paper",
        y0: 0,
        y1: 1 + rise / plotHeight,
        layer: "below",
        line: {color: ink.soft, width: 1.2, dash: REFERENCE_DASHES[r.kind]}
      });
      const right = (r.value - xRange[0]) / (xRange[1] - xRange[0]) > 0.55;
      annotations.push({
        x: r.value,
        xanchor: right ? "right" : "left",
        xshift: right ? -3 : 3,
        yref: "paper",
        y: 1 + rise / plotHeight,
        yanchor: "middle",
        text: plotText(`${clipped(r.name, 36)}, ${metricValue(unit, r.value)}`),
        showarrow: false,
        font: {size: 12, color: ink.soft}
      });
    });
    const longest = Math.max(4, ...rows.map((r) => r.model.length));
    const perLine = width < 420 ? 12 : 22;
    return {
      data,
      height: top + plotHeight + 52,
      layout: {
        margin: {l: Math.min(longest, perLine) * 7.2 + 18, r: 74, t: top, b: 52},
        xaxis: axis(
          theme, `${unit.title} (${facts.better})`,
          {range: xRange, tickformat: unit.percent ? ".0%" : "", nticks: Math.max(3, Math.round(width / 90))}),
        yaxis: axis(theme, "", {
          range: [Math.max(rows.length, 1) - 0.5, -0.5],
          tickvals: rows.map((_, i) => i),
          ticktext: rows.map((r) => plotText(wrapped(r.model, perLine)).replaceAll("\n", "<br>")),
          tickfont: {size: 13, color: ink.text},
          ticks: "",
          showgrid: false
        }),
        annotations,
        shapes,
      },
      notes: [
        far.length ? `Off the scale: ${far.map((r) => `${r.name}, ${unit.text(r.value)}`).join("; ")}.` : null,
        rows.some((r) => !r.trials.every(finished)) ? "✕ counts the seeds that did not finish." : null,
      ].filter(Boolean),
    };
  };
  const lines = facts.references.length ? "; dashed lines are named levels to compare with" : "";
  return figure({
    title: "Final result",
    name: `${facts.task}-final`,
    caption:
      `How to read this: each point is one seed at the end of training, the upright bar and the number the median (${
        facts.better}), best model first${lines}.`,
    build,
  });
}

const clipped = (text, length) => (text.length > length ? text.slice(0, length - 1) + "…" : text);

// Breaks a long name at a space, hyphen or underscore.
function wrapped(text, length) {
  if (text.length <= length) return text;
  const at = Math.max(
    text.lastIndexOf(" ", length), text.lastIndexOf("-", length - 1), text.lastIndexOf("_", length - 1));
  if (at <= 0) return clipped(text, length);
  const rest = text.slice(at + 1).trim();
  return text.slice(0, at + 1).trim() + "\n" + clipped(rest, length);
}

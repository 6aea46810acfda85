// A task's quality against length: its metric and, of tasks of (source, target) pairs, what a model says by itself.
"use strict";

// How what a model says by itself agrees with the target; the rows tell all of these from 0 to 100.
const SAID = {
  exact_match: {label: "exact match", unit: {...metricUnit("accuracy"), title: "exact match"}, of: (x) => x / 100},
  bleu: {label: "BLEU", unit: scoreUnit("BLEU"), of: (x) => x},
  chrf: {label: "chrF", unit: scoreUnit("chrF"), of: (x) => x},
};

// What the vertical axis may show: [{key, label, unit, better, of: element of by_length → number, references}], the
// first one first. Reference values belong to the metric.
function lengthQuantities(facts) {
  const metric = {
    key: "value",
    label: "teacher-forced",
    unit: facts.unit,
    better: facts.better,
    of: (p) => p.value,
    references: facts.references
  };
  if (!facts.pairs) return [metric];
  const elements = taskTrials(facts.task).filter(finished).flatMap((t) => t.by_length || []);
  const said = Object.entries(SAID)
                 .filter(([key]) => elements.some((p) => isNumber(p[key])))
                 .map(([key, {label, unit, of}]) => ({
                        key,
                        label,
                        unit,
                        better: "higher is better",
                        of: (p) => (isNumber(p[key]) ? of(p[key]) : null),
                        references: []
                      }));
  metric.unit = {...facts.unit, title: `teacher-forced ${facts.unit.title}`};
  return elements.some((p) => isNumber(p.value)) ? [...said, metric] : said;
}

function byLengthFigure(facts) {
  const trained =
    taskTrials(facts.task).flatMap((t) => (t.by_length || []).filter((p) => p.trained).map((p) => p.length));
  const quantities = lengthQuantities(facts);
  // Symbols that are drawn are right or wrong as a whole; of real text, hardly any sentence is.
  let quantity = quantities.find((q) => q.key === (facts.unit.percent ? "exact_match" : "bleu")) || quantities[0];
  const lengthText = (x) => (facts.pairs ? `source of ${grouped(x)} symbols` : `${grouped(x)} tokens`);
  const build = ({theme, width, paper}) => {
    const ink = INKS[theme], {unit} = quantity, height = CHART_HEIGHT;
    const data = [], lengths = new Set(), values = [];
    for (const model of facts.models.filter(shown)) {
      const byLength = new Map();
      for (const trial of taskTrials(facts.task, model).filter(finished)) {
        for (const p of trial.by_length || []) {
          if (!isNumber(quantity.of(p))) continue;
          if (!byLength.has(p.length)) byLength.set(p.length, []);
          byLength.get(p.length).push(p);
        }
      }
      const points = [...byLength].sort((a, b) => a[0] - b[0]).map(([length, seeds]) => {
        const s = spread(seeds.map(quantity.of)), tested = median(seeds.map((p) => p.pairs));
        lengths.add(length);
        values.push(s.low, s.high);
        return {
          x: length,
          y: s.median,
          low: s.low,
          high: s.high,
          text: hoverLines(
            model, `${lengthText(length)}${trained.includes(length) ? "" : ", longer or shorter than trained"}`,
            spreadText(s, unit.text), isNumber(tested) ? `${plural(tested, "pair")} tested` : "")
        };
      });
      if (points.length) data.push(...lineWithBand(model, theme, points, {paper}));
    }
    const xs = [...lengths].sort((a, b) => a - b);
    const ticks = thinned(xs, Math.max(3, Math.round((width - 80) / 46)));
    const low = Math.min(...xs), high = Math.max(...xs);
    const xRange = xs.length ? [Math.log10(low / 1.25), Math.log10(high * 1.25)] : [0, 1];
    const yRange = unit.percent ? PERCENT_RANGE :
      unit.fromZero             ? range(0, Math.max(1, ...values), 0.06) :
      values.length             ? range(Math.min(...values), Math.max(...values), 0.08) :
                                  [0, 1];
    const lines = referenceLines(quantity.references, theme, yRange, height - 74);
    if (trained.length && xs.length) {
      const edge = Math.max(...trained), next = xs.find((x) => x > edge);
      lines.shapes.unshift({
        type: "rect",
        xref: "x",
        x0: Math.max(Math.min(...trained) / 1.25, low / 1.25),
        x1: next ? Math.sqrt(edge * Math.min(next, 2 * edge)) : edge * 1.25,
        yref: "paper",
        y0: 0,
        y1: 1,
        layer: "below",
        fillcolor: ink.band,
        line: {width: 0}
      });
      lines.annotations.push({
        x: Math.log10(Math.max(Math.min(...trained) / 1.25, low / 1.25)),
        xanchor: "left",
        xshift: 4,
        yref: "paper",
        y: 1,
        yanchor: "bottom",
        text: "trained on",
        showarrow: false,
        font: {size: 12, color: ink.soft}
      });
    }
    return {
      data,
      height,
      layout: {
        margin: {l: 62, r: 14, t: 22, b: 52},
        xaxis: axis(
          theme, facts.pairs ? "source length (symbols)" : "sequence length (tokens)",
          {type: "log", range: xRange, tickvals: ticks, ticktext: ticks.map((x) => grouped(x)), showgrid: false}),
        yaxis: axis(
          theme, `${unit.title} (${quantity.better})`, {range: yRange, tickformat: unit.percent ? ".0%" : ""}),
        ...lines,
      },
    };
  };
  if (facts.pairs) {
    return figure({
      title: "Quality against source length",
      name: `${facts.task}-by-source-length`,
      caption: "How to read this: the shaded lengths were trained on; a line that stays level to their right also " +
        "copes with longer sources. Teacher-forced, a model predicts each target symbol after the true ones before " +
        "it; all else scores the targets that it says by itself, by greedy search. " +
        // Sentences come in all lengths, drawn symbols in those that are asked for.
        (facts.unit.percent ? "" : "A point gathers the sources longer than those of the point before. ") +
        "Medians over seeds, bands their range.",
      controls: (redraw) => {
        if (quantities.length < 2) return null;
        return choice("Show", quantities.map((q) => [q, q.label]), quantity, (value) => {
          quantity = value;
          redraw();
        });
      },
      build,
    });
  }
  return figure({
    title: `${facts.unit.title[0].toUpperCase() + facts.unit.title.slice(1)} by length`,
    name: `${facts.task}-by-length`,
    caption: "How to read this: the shaded lengths were trained on; a line that stays level to their right " +
      "has learnt a rule that also holds for longer sequences. Medians over seeds, bands their range.",
    build,
  });
}

// Where models look in the source as they say each target symbol: maps side by side, one sentence at a time.
"use strict";

const MAP = {
  largest: 30,  // px a square
  smallest: 12,
  scrolling: 18,  // where even one map is too wide: for fingers
  gap: 30,
  title: 24,
  bottom: 58,  // for the scale of weights
  longest: 14  // characters of a label
};

const usableSample = (s) => [s?.source, s?.target, s?.weights].every(Array.isArray) && s.source.length &&
  s.weights.length && s.weights.every(Array.isArray);

// One training of each model that kept attention: [{model, seed, samples: source as JSON → sample}]. All of the same
// seed where that can be.
function attentionTrainings(facts) {
  const kept = taskTrials(facts.task).filter((t) => finished(t) && t.attention?.some?.(usableSample));
  const models = facts.models.filter((model) => kept.some((t) => t.model === model));
  const seedOfAll = kept.map((t) => t.seed).find(
    (seed) => models.every((model) => kept.some((t) => t.model === model && t.seed === seed)));
  return models.map((model) => {
    const own = kept.filter((t) => t.model === model), trial = own.find((t) => t.seed === seedOfAll) || own[0];
    const samples = new Map(trial.attention.filter(usableSample).map((s) => [JSON.stringify(s.source), s]));
    return {model, seed: trial.seed, samples};
  });
}

// A symbol as it stands at the edge of a map. Tokens of text mark their spaces by "▁", which is as heavy as a letter.
const symbolText = (label) => String(label).replaceAll("▁", "·");
const symbolLabel = (label) => clipped(symbolText(label), MAP.longest);

// Symbols as one line of text.
function sentence(labels) {
  const words = labels.map(String).filter((label) => label !== "</s>");
  return words.some((w) => w.includes("▁")) ? words.join("").replaceAll("▁", " ").trim() : words.join(" ");
}

// Where the maps stand, in px: as many beside each other as fit with squares that can be told apart. A map that is
// wider than the page all the same makes the chart as wide as itself; on paper, its squares shrink.
function mapLayout(maps, width) {
  const longest = (name) => Math.max(
    1, ...maps.flatMap(({sample}) => sample[name].map((label) => symbolLabel(label).length)));
  const columns = Math.max(1, ...maps.map(({sample}) => sample.source.length));
  const left = 7.2 * longest("target") + 16, turned = longest("source") > 2;
  const top = turned ? 6.4 * longest("source") + 12 : 22, spill = turned ? 3.6 * longest("source") + 8 : 4;
  const titled = Math.max(...maps.map(({model}) => 8.4 * model.length + 6));
  let side, beside = maps.length;
  for (;; --beside) {
    const room = (width - MAP.gap * (beside - 1)) / beside;
    side = Math.floor((room - left - spill) / columns);
    if (beside === 1 || (side >= MAP.smallest && room >= titled)) break;
  }
  if (side < MAP.smallest) side = printing ? Math.max(4, side) : MAP.scrolling;
  side = Math.min(MAP.largest, side);
  const mapWidth = Math.max(titled, left + columns * side + spill);
  const places = [];
  let y = 0;
  for (let i = 0; i < maps.length; i += beside) {
    const row = maps.slice(i, i + beside);
    row.forEach((map, k) => places.push({
      x: k * (mapWidth + MAP.gap) + left,
      y: y + MAP.title + top,
      width: columns * side,
      height: map.sample.weights.length * side
    }));
    y += MAP.title + top + Math.max(...row.map((map) => map.sample.weights.length)) * side + 14;
  }
  const inRow = Math.min(beside, maps.length);
  return {side, turned, top, left, places, width: inRow * mapWidth + (inRow - 1) * MAP.gap, height: y + MAP.bottom};
}

// Weights on a scale from 0 to 1 that also lets small ones be told apart.
function weightScale(ink) {
  const parts = (color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  const from = parts(ink.band), to = parts(ink.text);
  return [0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1].map(
    (w) => [w, `rgb(${from.map((c, i) => Math.round(c + (to[i] - c) * w ** 0.7)).join(",")})`]);
}

// The traces and layout of maps: [{model, sample}].
function attentionMaps(maps, {theme, width}) {
  const ink = INKS[theme], plan = mapLayout(maps, width), data = [], annotations = [], axes = {};
  const whole = Math.max(plan.width, width), font = Math.min(12, plan.side - 2);
  maps.forEach(({model, sample}, i) => {
    const n = i ? String(i + 1) : "", place = plan.places[i];
    const x = [place.x / whole, (place.x + place.width) / whole];
    const y = [1 - (place.y + place.height) / plan.height, 1 - place.y / plan.height];
    const said = sample.weights.map((_, row) => (row < sample.target.length ? symbolText(sample.target[row]) : "…"));
    const source = sample.source.map(symbolText);
    const weights = said.map((_, row) => source.map((_, k) => {
      const weight = sample.weights[row][k];
      return isNumber(weight) ? weight : null;
    }));
    data.push({
      type: "heatmap",
      x: source.map((_, k) => k),
      y: said.map((_, row) => row),
      z: weights,
      xaxis: `x${n}`,
      yaxis: `y${n}`,
      xgap: plan.side > 8 ? 1 : 0,
      ygap: plan.side > 8 ? 1 : 0,
      coloraxis: "coloraxis",
      hoverongaps: false,
      hoverinfo: "text",
      hovertext: said.map((word, row) => source.map((from, k) => hoverLines(
        model, row < sample.target.length ? `as it says ${word}` : "where it was cut off", `looks at ${from}`,
        `with weight ${weights[row][k]?.toFixed(3)}`)))
    });
    const words = (labels, more) => axis(theme, "", {
      tickvals: labels.map((_, k) => k),
      ticktext: labels.map((label) => plotText(clipped(label, MAP.longest))),
      tickfont: {size: font, color: ink.text},
      tickcolor: "rgba(0,0,0,0)",  // a little room
      showline: false,
      showgrid: false,
      fixedrange: true,
      ...more
    });
    axes[`xaxis${n}`] = words(source, {
      domain: x,
      anchor: `y${n}`,
      side: "top",
      tickangle: plan.turned ? -60 : 0,
      range: [-0.5, source.length - 0.5]
    });
    axes[`yaxis${n}`] = words(said, {domain: y, anchor: `x${n}`, range: [said.length - 0.5, -0.5]});
    annotations.push({...panelTitle(model, {x, y}, theme), xshift: 6 - plan.left, yshift: plan.top});
  });
  const coloraxis = {
    cmin: 0,
    cmax: 1,
    colorscale: weightScale(ink),
    colorbar: {
      orientation: "h",
      lenmode: "pixels",
      len: 220,
      thickness: 10,
      x: 0,
      xanchor: "left",
      xpad: 12,
      y: 0,
      yanchor: "bottom",
      ypad: 4,
      outlinewidth: 0,
      tickvals: [0, 0.25, 0.5, 0.75, 1],
      tickfont: {size: 11, color: ink.soft},
      title: {text: "weight", side: "top", font: {size: 12, color: ink.soft}}
    }
  };
  return {
    data,
    width: whole,
    height: plan.height,
    layout: {...axes, annotations, coloraxis, margin: {l: 0, r: 0, t: 0, b: 0}}
  };
}

function attentionFigure(facts) {
  const trainings = attentionTrainings(facts);
  const sources = [...new Set(trainings.flatMap(({samples}) => [...samples.keys()]))];
  if (!sources.length) return null;
  let source = sources[0];
  const build = (options) => {
    const looking = trainings.filter(({model}) => shown(model));
    const maps = looking.filter(({samples}) => samples.has(source))
                   .map(({model, samples}) => ({model, sample: samples.get(source)}));
    const drawing = maps.length ? attentionMaps(maps, options) : null;
    const without = looking.filter(({samples}) => !samples.has(source)).map(({model}) => model);
    const notes = [
      maps.some(({sample}) => sample.weights.length > sample.target.length) ?
        "The row … is that of the symbol at which a model was cut off." :
        "",
      maps.some(({sample}) => [...sample.source, ...sample.target].some((label) => String(label).includes("▁"))) ?
        "A dot in a symbol is a space." :
        "",
      without.length ? `Not kept for this source by ${listing(without)}.` : "",
      looking.length ? "" : "No shown model kept its attention.",
      drawing?.width > options.width ? "Scroll the maps sideways to see them whole." : "",
    ].filter(Boolean);
    if (drawing) return {...drawing, notes};
    return {data: [], layout: {xaxis: {visible: false}, yaxis: {visible: false}}, height: 120, notes};
  };
  const seeds = [...new Set(trainings.map(({seed}) => seed).filter(isNumber))];
  return figure({
    title: "Attention",
    name: `${facts.task}-attention`,
    paperWidth: 1080,
    caption: "How to read this: each row is one symbol that the model says, in order from the top, and shows how it " +
      "spreads its attention over the source above; the more a square stands out, the greater the weight, and a row " +
      `adds up to 1.${seeds.length === 1 ? ` Of the training with seed ${seeds[0]}.` : ""}`,
    controls: (redraw) => {
      if (sources.length < 2) return null;
      const names = sources.map(
        (s, i) => [s, `${i + 1} of ${sources.length}: ${clipped(sentence(JSON.parse(s)), 48)}`]);
      return stepper("Source", names, source, (value) => { source = value; redraw(); });
    },
    build,
  });
}

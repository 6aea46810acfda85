// Small multiples: panels of one chart beside or below each other, each with its own scales, sharing the legend.
"use strict";

const PANEL = {
  height: 300,
  left: 78,
  right: 84,  // for the names at the ends of lines
  top: 30,
  gapX: 160,
  gapY: 92,
  bottom: 50
};

// Where panel i of n stands, as fractions of the plot area; the layout's sizes in px are worked out here too.
function panelGrid(n, width, panelHeight = PANEL.height) {
  const columns = width >= 860 ? Math.min(n, n === 4 ? 4 : 3) : width >= 620 ? Math.min(n, 2) : 1;
  const lines = Math.ceil(n / columns);
  const inner = {width: width - PANEL.left - PANEL.right, height: lines * panelHeight + (lines - 1) * PANEL.gapY};
  const panelWidth = (inner.width - (columns - 1) * PANEL.gapX) / columns;
  return {
    panelWidth,
    columns,
    height: inner.height + PANEL.top + PANEL.bottom,
    margin: {l: PANEL.left, r: PANEL.right, t: PANEL.top, b: PANEL.bottom},
    place(i) {
      const left = (i % columns) * (panelWidth + PANEL.gapX),
            top = Math.floor(i / columns) * (panelHeight + PANEL.gapY);
      return {
        x: [left / inner.width, (left + panelWidth) / inner.width],
        y: [1 - (top + panelHeight) / inner.height, 1 - top / inner.height],
        px: (y) => y / inner.height,
      };
    },
  };
}

function panelTitle(text, place, theme) {
  return {
    text: `<b>${plotText(text)}</b>`,
    xref: "paper",
    yref: "paper",
    x: place.x[0],
    y: place.y[1],
    xanchor: "left",
    yanchor: "bottom",
    yshift: 5,
    showarrow: false,
    font: {size: 14, color: INKS[theme].text}
  };
}

const MISS_SYMBOLS = {
  out_of_memory: "x",
  timeout: "hourglass",
  failed: "cross"
};

// Quantities on a log axis: how ticks are chosen and written, and the words of the axis.
const SCALES = {
  rate: {title: "tokens per second", tick: (v) => trimmed(count(v)).replace(NBSP, ""), binary: false},
  time: {title: "time", tick: (v) => trimmed(seconds(v)), binary: false},
  bytes: {title: "peak memory", tick: (v) => trimmed(bytes(v)), binary: true},
};

// The lines' names beside their last points, in their colours; those that would overlap stand in a stack around their middle.
// ends: [{model, y}]; `range` is the axis's, in powers of ten, and `height` the panel's in px.
function endLabels(ends, range, height, axes, theme) {
  const LINE = 13;
  const labels = ends.map(({model, y}) => ({model, at: (Math.log10(y) - range[0]) / (range[1] - range[0]) * height}));
  const stacks = [];  // from below
  const inside = (stack) => Math.min(Math.max(stack.middle, stack.models.length * LINE / 2), height - stack.models.length * LINE / 2);
  for (const {model, at} of labels.sort((a, b) => a.at - b.at)) {
    let stack = {models: [model], sum: at, middle: at};
    for (let below = stacks.at(-1); below; below = stacks.at(-1)) {
      if (inside(stack) - inside(below) >= (stack.models.length + below.models.length) * LINE / 2) break;
      stacks.pop();
      stack = {models: [...below.models, ...stack.models], sum: below.sum + stack.sum};
      stack.middle = stack.sum / stack.models.length;
    }
    stacks.push(stack);
  }
  return stacks.flatMap((stack) => stack.models.map((model, i) => ({
    text: plotText(clipped(model, 12)),
    xref: `${axes.xaxis} domain`,
    x: 1,
    xanchor: "left",
    xshift: 4,
    yref: `${axes.yaxis} domain`,
    y: (inside(stack) + (i - (stack.models.length - 1) / 2) * LINE) / height,
    yanchor: "middle",
    showarrow: false,
    font: {size: 12, color: modelStyle(model, theme).color}
  })));
}

// Log-log lines, one panel each. panels: [{title, scale: key of SCALES, yTitle, series: [{model, points: [{x, y, low,
// high, text}], misses: [{x, status, text}]}], rings: [{x, y, text}]}]. Points that could not be measured stand in a
// strip of their own under the panel, one row per model, so that they are neither lost nor mistaken for a value.
function logPanels(panels, {theme, width, paper}) {
  const ink = INKS[theme], grid = panelGrid(panels.length, width);
  const data = [], annotations = [], shapes = [], axes = {};
  const lengths = [
    ...new Set(panels.flatMap((p) => p.series.flatMap((s) => [...s.points, ...s.misses].map((q) => q.x))))
  ].sort((a, b) => a - b);
  const xTicks = thinned(lengths, Math.max(3, Math.floor(grid.panelWidth / 48)));
  const xRange = lengths.length ? [Math.log10(lengths[0] / 1.2), Math.log10(lengths.at(-1) * 1.2)] : [0, 1];
  const named = new Set();

  panels.forEach((panel, i) => {
    const place = grid.place(i), n = i + 1, strip = `y${panels.length + n}`;
    const main = {xaxis: `x${n}`, yaxis: `y${n}`};
    const missing = panel.series.filter((s) => s.misses.length);
    const stripHeight = missing.length ? grid.place(i).px(12 * missing.length + 8) : 0;
    const gap = missing.length ? grid.place(i).px(6) : 0;

    // An axis without any trace would not be drawn.
    data.push({x: [null], y: [null], mode: "markers", hoverinfo: "skip", showlegend: false, ...main});
    for (const {model, points} of panel.series) {
      if (!points.length) continue;
      const lines = lineWithBand(model, theme, points, {paper, axes: main});
      lines.at(-1).name += modelMark(model);
      lines.at(-1).showlegend = paper && !named.has(model);
      named.add(model);
      data.push(...lines);
    }
    if (panel.rings?.length) {
      data.push({
        x: panel.rings.map((r) => r.x),
        y: panel.rings.map((r) => r.y),
        mode: "markers",
        showlegend: false,
        ...main,
        marker: {symbol: "circle-open", size: 15, color: ink.text, line: {width: 1.6}},
        hoverinfo: "text",
        hovertext: panel.rings.map((r) => r.text)
      });
    }
    missing.forEach(({model, misses}, row) => {
      const style = modelStyle(model, theme);
      data.push({
        x: misses.map((m) => m.x),
        y: misses.map(() => row),
        mode: "markers",
        showlegend: false,
        xaxis: main.xaxis,
        yaxis: strip,
        cliponaxis: false,
        marker: {symbol: misses.map((m) => MISS_SYMBOLS[m.status] || "cross"), size: 9, color: style.color},
        hoverinfo: "text",
        hovertext: misses.map((m) => m.text)
      });
    });

    const ys = panel.series.flatMap((s) => s.points.flatMap((p) => [p.low, p.y, p.high])).filter((y) => y > 0);
    let [low, high] = ys.length ? [Math.min(...ys), Math.max(...ys)] : [1, 10];
    if (high / low < 3) [low, high] = [low / Math.sqrt(3 / (high / low)), high * Math.sqrt(3 / (high / low))];
    [low, high] = [low / (high / low) ** 0.06, high * (high / low) ** 0.06];
    const scale = SCALES[panel.scale], ticks = logTicks(low, high, 7, scale.binary);
    const suffix = (k) => (k === 1 ? "" : String(k));
    axes[`xaxis${suffix(n)}`] = axis(theme, "sequence length (tokens)", {
      type: "log",
      domain: place.x,
      anchor: missing.length ? strip : main.yaxis,
      range: xRange,
      tickvals: xTicks,
      ticktext: xTicks.map((x) => grouped(x)),
      tickangle: 0,
      showgrid: false,
      title: {text: panel.xTitle, standoff: 6, font: {size: 13}},
    });
    axes[`yaxis${suffix(n)}`] = axis(theme, panel.yTitle, {
      type: "log",
      domain: [place.y[0] + stripHeight + gap, place.y[1]],
      anchor: main.xaxis,
      range: [Math.log10(low), Math.log10(high)],
      tickvals: ys.length ? ticks : [],
      ticktext: ticks.map(scale.tick),
      title: {text: panel.yTitle, standoff: 4, font: {size: 13}},
    });
    if (missing.length) {
      axes[`yaxis${suffix(panels.length + n)}`] = axis(theme, "", {
        domain: [place.y[0], place.y[0] + stripHeight],
        anchor: main.xaxis,
        range: [missing.length - 0.4, -0.6],
        fixedrange: true,
        tickvals: [(missing.length - 1) / 2],
        ticktext: ["no result"],
        tickfont: {size: 11, color: ink.soft},
        ticks: "",
        showgrid: false,
      });
      shapes.push({
        type: "rect",
        xref: `${main.xaxis} domain`,
        yref: `${strip} domain`,
        x0: 0,
        x1: 1,
        y0: 0,
        y1: 1,
        layer: "below",
        fillcolor: ink.band,
        line: {width: 0}
      });
    }
    if (!ys.length)
      annotations.push({
        text: "no finished measurement",
        xref: `${main.xaxis} domain`,
        yref: `${main.yaxis} domain`,
        x: 0.5,
        y: 0.5,
        showarrow: false,
        font: {color: ink.soft}
      });
    const ends = panel.series.filter((s) => s.points.length).map((s) => ({model: s.model, y: s.points.at(-1).y}));
    const plotHeight = PANEL.height - (missing.length ? 12 * missing.length + 14 : 0);
    annotations.push(...endLabels(ends, [Math.log10(low), Math.log10(high)], plotHeight, main, theme));
    annotations.push(panelTitle(panel.title, place, theme));
  });
  if (!paper) return {data, height: grid.height, layout: {...axes, annotations, shapes, margin: grid.margin}};
  // A saved chart leaves its page, so it says itself what its marks mean.
  const room = 26;
  annotations.push({
    text: plotText(panelMarks(panels)),
    xref: "paper",
    x: 0,
    xanchor: "left",
    xshift: 6 - grid.margin.l,
    yref: "paper",
    y: 0,
    yanchor: "bottom",
    yshift: 4 - grid.margin.b - room,
    showarrow: false,
    font: {size: 12, color: ink.soft}
  });
  return {
    data,
    height: grid.height + room,
    layout: {...axes, annotations, shapes, margin: {...grid.margin, b: grid.margin.b + room}}
  };
}

// "○ crossover; † library kernel; no result: ✕ out of memory"
function panelMarks(panels) {
  const shownNow =
    panels.flatMap((p) => p.series).filter((s) => s.points.length).map((s) => modelMark(s.model)).join("");
  const lost = missMarks(panels);
  return [
    panels.some((p) => p.rings?.length) ? "○ crossover" : "",
    ...Object.entries(KERNEL_MARKS)
      .filter(([, mark]) => mark && shownNow.includes(mark))
      .map(([kernel, mark]) => `${mark} ${kernel} kernel`),
    lost ? `no result: ${lost}` : "",
  ].filter(Boolean)
    .join("; ");
}

const MISS_WORDS = {
  out_of_memory: "✕ out of memory",
  timeout: "hourglass over the time limit",
  failed: "✚ failed"
};
function missMarks(panels) {
  const statuses = new Set(panels.flatMap((p) => p.series.flatMap((s) => s.misses.map((m) => m.status))));
  return [...statuses].map((s) => MISS_WORDS[s] || "✚ not measured").join(", ");
}

// Stacked bars on a linear scale, one panel each. panels: [{title, bars: [{label, color, parts: [number], total, text,
// note}]}]; `parts` in the order of `names`; `note` stands in place of a bar that could not be measured.
function barPanels(panels, names, {theme, width, paper}) {
  const ink = INKS[theme];
  const most = Math.max(1, ...panels.map((p) => p.bars.length));
  const grid = panelGrid(panels.length, width, most * 34 + 30);
  const data = [], annotations = [], axes = {};
  panels.forEach((panel, i) => {
    const place = grid.place(i), n = i + 1, suffix = n === 1 ? "" : String(n);
    const measured = panel.bars.filter((b) => b.parts);
    const high = Math.max(1, ...measured.map((b) => b.parts.reduce((a, b) => a + b, 0)));
    names.forEach((part, k) => {
      data.push({
        type: "bar",
        orientation: "h",
        xaxis: `x${n}`,
        yaxis: `y${n}`,
        name: part,
        legendgroup: part,
        showlegend: paper && i === 0,
        x: panel.bars.map((b) => b.parts?.[k] ?? 0),
        y: panel.bars.map((_, j) => j),
        width: 0.66,
        // The last part, workspace, is hatched.
        marker: {
          color: ink.parts[k],
          line: {color: k < 5 ? ink.paper : ink.line, width: 0.5},
          pattern: {shape: k < 5 ? "" : "/", fgcolor: ink.soft, size: 5}
        },
        hoverinfo: "text",
        hovertext: panel.bars.map((b) => b.text),
        textposition: "none"
      });
    });
    panel.bars.forEach((b, j) => {
      const sum = b.parts ? b.parts.reduce((a, c) => a + c, 0) : 0;
      annotations.push({
        xref: `x${n}`,
        yref: `y${n}`,
        x: sum,
        y: j,
        xanchor: "left",
        xshift: 4,
        showarrow: false,
        text: plotText(b.parts ? bytes(b.total) : b.note),
        font: {size: 12, color: b.parts ? ink.text : ink.soft}
      });
    });
    const tickStep = binaryStep(high, Math.max(2, Math.floor(grid.panelWidth / 82)));
    const ticks = Array.from({length: Math.floor(high / tickStep) + 1}, (_, k) => k * tickStep);
    axes[`xaxis${suffix}`] = axis(theme, "", {
      domain: place.x,
      anchor: `y${n}`,
      range: [0, high * 1.32],
      tickvals: ticks,
      ticktext: ticks.map((t) => (t ? trimmed(bytes(t)) : "0")),
      title: {text: "memory", standoff: 6, font: {size: 13}}
    });
    axes[`yaxis${suffix}`] = axis(theme, "", {
      domain: place.y,
      anchor: `x${n}`,
      range: [most - 0.5, -0.5],
      tickvals: panel.bars.map((_, j) => j),
      ticktext: panel.bars.map((b) => plotText(wrapped(b.label, 12)).replaceAll("\n", "<br>")),
      tickfont: {size: 12, color: ink.text},
      ticks: "",
      showgrid: false
    });
    annotations.push(panelTitle(panel.title, place, theme));
  });
  const longest = Math.max(4, ...panels.flatMap((p) => p.bars.map((b) => Math.min(12, b.label.length))));
  return {
    data,
    height: grid.height,
    layout:
      {barmode: "stack", ...axes, annotations, margin: {...grid.margin, l: Math.max(PANEL.left, longest * 7 + 14)}}
  };
}

// A round step for at most `most` ticks up to `high` bytes: a power of two.
const binaryStep = (high, most) => 2 ** Math.max(0, Math.ceil(Math.log2(high / most)));

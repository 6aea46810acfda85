// A figure: title, controls, one Plotly chart, a caption that says how to read it, and buttons to save it for a paper.
"use strict";

const FONT = '"Helvetica Neue", Helvetica, Arial, "Liberation Sans", "DejaVu Sans", sans-serif';
// The colours of everything in a chart that is not a model.
const INKS = {
  light: {
    text: "#1d2329",
    soft: "#5b6570",
    grid: "#e6e9ed",
    line: "#9aa3ad",
    paper: "#ffffff",
    band: "#f1f4f7",
    parts: ["#37475a", "#5f7389", "#93a5b8", "#cbd5df", "#e0a100", "#ffffff"]
  },
  dark: {
    text: "#e6e9ec",
    soft: "#a3adb8",
    grid: "#2a3138",
    line: "#5d6873",
    paper: "#14181d",
    band: "#1c2228",
    parts: ["#dfe6ee", "#b4c0cd", "#8593a4", "#536172", "#f2bd2c", "#14181d"]
  },
};

let themeChoice = null;  // "light" or "dark" where the reader chose; null: as the system says
let printing = false;
function currentTheme() {
  if (printing) return "light";
  return themeChoice || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

// Plotly reads <b>, <a href> and entities in its texts; this shows them as they are.
function plotText(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
const hoverLines = (...lines) => lines.filter(Boolean).map(plotText).join("<br>");

function baseLayout(theme) {
  const ink = INKS[theme];
  return {
    font: {family: FONT, size: 13, color: ink.text},
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: {l: 62, r: 14, t: 12, b: 52},
    hovermode: "closest",
    showlegend: false,
    // On a touch screen a drag scrolls the page.
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    hoverlabel: {
      bgcolor: ink.paper,
      bordercolor: ink.line,
      font: {family: FONT, size: 13, color: ink.text},
      align: "left",
      namelength: -1
    },
  };
}

function axis(theme, title, more = {}) {
  const ink = INKS[theme];
  return {
    title: {text: title, standoff: 8, font: {size: 13, color: ink.text}},
    tickfont: {size: 12, color: ink.soft},
    ticks: "outside",
    ticklen: 4,
    tickcolor: ink.line,
    gridcolor: ink.grid,
    linecolor: ink.line,
    showline: true,
    zeroline: false,
    ...more,
  };
}

const figures = [];

// build({theme, width, paper}) returns {data, layout, height, notes: [sentence], width}; `paper` is true when the chart
// is drawn to be saved, `paperWidth` px wide: then it carries its own legend. A chart that needs another width than the
// given one says so by `width`; a wider one scrolls inside the figure. Controls call the given function to redraw.
// Returns the element.
function figure({title, caption, name, controls, build, paperWidth = 640}) {
  const chart = element("div", {class: "chart", role: "img", "aria-label": `${title}. ${caption}`});
  const notes = element("span", {class: "notes"});
  let drawnWidth = 0;

  const draw = () => {
    const width = printing ? printedWidth(chart) : chart.clientWidth;
    if (!width) return;
    drawnWidth = width;
    const theme = currentTheme();
    const {data, layout, height, notes: sentences = [], width: whole = width} = build({theme, width, paper: false});
    notes.replaceChildren(sentences.length ? " " + sentences.join(" ") : "");
    chart.classList.toggle("scrolls", whole > width);
    if (whole > width)
      chart.setAttribute("tabindex", "0");  // so that arrow keys scroll it
    else
      chart.removeAttribute("tabindex");
    Plotly.react(
      chart, data, {...baseLayout(theme), ...layout, width: whole, height}, {displayModeBar: false, responsive: false});
  };

  const saveAs = async (format) => {
    const {data, layout, height, width = paperWidth} = build({theme: "light", width: paperWidth, paper: true});
    const room = data.some((trace) => trace.showlegend) ? 40 : 0;  // for the legend, above
    const whole = {
      ...baseLayout("light"),
      ...layout,
      paper_bgcolor: "#ffffff",
      plot_bgcolor: "#ffffff",
      showlegend: room > 0,
      width,
      height: height + room
    };
    whole.legend = {
      orientation: "h",
      x: 0,
      xanchor: "left",
      xref: "container",
      y: 1,
      yref: "container",
      yanchor: "top",
      font: {size: 13},
      ...layout.legend
    };
    whole.margin = {...baseLayout("light").margin, ...layout.margin};
    whole.margin.t += room;
    const url = await Plotly.toImage(
      {data, layout: whole}, {format, width, height: height + room, scale: format === "png" ? 3 : 1});
    const link = element("a", {href: url, download: `${name}.${format}`});
    document.body.append(link);
    link.click();
    link.remove();
  };

  const node = element(
    "figure", {},
    element(
      "div", {class: "figure-head"}, element("h4", {}, title),
      element(
        "span", {class: "save"},
        element(
          "button", {type: "button", title: "Save this chart as a vector drawing", onclick: () => saveAs("svg")},
          "SVG"),
        element(
          "button", {type: "button", title: "Save this chart as an image", onclick: () => saveAs("png")}, "PNG"))),
    element("div", {class: "controls"}, controls ? controls(draw) : null), chart,
    element("figcaption", {}, caption, notes));
  new ResizeObserver(() => {
    if (!printing && Math.abs(chart.clientWidth - drawnWidth) >= 4) draw();
  }).observe(chart);
  figures.push(draw);
  return node;
}

// Paper is narrower than most windows: a wide figure takes the whole page, others share it by two.
const printedWidth = (chart) => (chart.closest(".figures") ? 330 : 680);

function drawPage() {
  drawLegends();
  for (const draw of figures) draw();
}

for (const [event, value] of [["beforeprint", true], ["afterprint", false]]) {
  addEventListener(event, () => {
    printing = value;
    document.documentElement.classList.toggle("printing", value);
    drawPage();
  });
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawPage());

// ---- traces that several charts share -------------------------------------------------------------------------------

// The median over seeds as a line with its range as a band. points: [{x, low, y, high, text}], in order of x.
function lineWithBand(model, theme, points, {markers = 0, paper = false, axes = {}} = {}) {
  const style = modelStyle(model, theme);
  const traces = [];
  if (points.length > 1 && points.some((p) => p.high > p.low)) {
    traces.push({
      x: [...points.map((p) => p.x), ...points.map((p) => p.x).reverse()],
      y: [...points.map((p) => p.high), ...points.map((p) => p.low).reverse()],
      fill: "toself",
      fillcolor: faded(style.color, 0.16),
      line: {width: 0},
      mode: "lines",
      hoverinfo: "skip",
      showlegend: false,
      ...axes,
    });
  }
  traces.push({
    x: points.map((p) => p.x),
    y: points.map((p) => p.y),
    mode: "lines+markers",
    name: plotText(model),
    legendgroup: model,
    showlegend: paper,
    line: {color: style.color, width: 2.2, dash: style.dash},
    marker: {color: style.color, symbol: style.symbol, size: 8, maxdisplayed: markers},
    hoverinfo: "text",
    hovertext: points.map((p) => p.text),
    ...axes,
  });
  return traces;
}

// Thin horizontal lines at the reference values of a task; chance and floor are named where the names do not collide,
// the plateaus stand named in the chart of the final result. `height`: of the plot, px.
function referenceLines(references, theme, [low, high], height) {
  const ink = INKS[theme];
  const shapes = [], annotations = [];
  let lastLabelled = Infinity;
  const visible = references.filter((r) => r.value >= low && r.value <= high).sort((a, b) => b.value - a.value);
  for (const r of visible) {
    shapes.push({
      type: "line",
      xref: "paper",
      x0: 0,
      x1: 1,
      y0: r.value,
      y1: r.value,
      layer: "below",
      line: {color: ink.line, width: 1, dash: REFERENCE_DASHES[r.kind]}
    });
    const px = ((r.value - low) / (high - low)) * height;
    if (r.kind === "plateau" || lastLabelled - px < 16) continue;
    lastLabelled = px;
    // Chance stands below its line: poor models end on it or just above.
    annotations.push({
      xref: "paper",
      x: 1,
      xanchor: "right",
      y: r.value,
      yanchor: r.kind === "chance" ? "top" : "bottom",
      text: plotText(r.name),
      showarrow: false,
      font: {size: 11, color: ink.soft},
      borderpad: 0
    });
  }
  return {shapes, annotations};
}
const REFERENCE_DASHES = {
  chance: "dot",
  plateau: "dash",
  floor: "longdashdot"
};

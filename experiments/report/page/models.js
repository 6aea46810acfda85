// One colour, marker and line style per model, the same in every chart; and which models are shown, on the whole page.
"use strict";

// Chosen by search so that any two differ by CIE76 ΔE ≥ 15 in normal, protan, deutan and tritan sight (Machado 2009),
// and each has a contrast of at least 3 : 1 with its background. From the ninth model on, colours repeat with another
// dash.
const PALETTES = {
  light: ["#1f62c4", "#e23d0e", "#069a74", "#5a2a85", "#b58f3c", "#109bf2", "#63310c", "#52656b"],
  dark: ["#7a9dff", "#f2551c", "#2bdc97", "#a878b4", "#f5e36a", "#bdeeff", "#b86f63", "#b7b1b8"],
};
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "star", "hexagram"];
const DASHES = ["solid", "dash", "dot", "dashdot"];

function modelStyle(model, theme) {
  const i = Math.max(0, results.models.indexOf(model));
  return {
    color: PALETTES[theme][i % 8],
    symbol: SYMBOLS[i % 8],
    dash: DASHES[Math.floor(i / 8) % DASHES.length],
  };
}

// "#rrggbb" with an opacity.
function faded(color, opacity) {
  const part = (at) => parseInt(color.slice(at, at + 2), 16);
  return `rgba(${part(1)},${part(3)},${part(5)},${opacity})`;
}

const hiddenModels = new Set();
const shown = (model) => !hiddenModels.has(model);
const shownModels = () => results.models.filter(shown);

// ---- kernel classes: a speed difference between classes measures the implementation as much as the architecture -----
const KERNEL_MARKS = {
  fused: "",
  library: "†",
  reference: "‡"
};
const KERNEL_DOCS = {
  fused: "a kernel of this project, fused over time",
  library: "kernels of LibTorch",
  reference: "plain loops, not optimised",
};
const kernelClasses = [...new Set(
  [...results.trials, ...results.scales].map((row) => row.kernel_class).filter(Boolean))];
const kernelsDiffer = kernelClasses.length > 1;

const kernelMark = (kernelClass) => (kernelsDiffer ? KERNEL_MARKS[kernelClass] ?? "" : "");
// The marks of all classes a model ran with, e.g. "†".
const modelClasses = (model) => [...new Set(
  [...results.trials, ...results.scales].filter((row) => row.model === model).map((row) => row.kernel_class))];
const modelMark = (model) => modelClasses(model).map(kernelMark).join("");
function kernelNote() {
  if (!kernelsDiffer) return null;
  const marked = kernelClasses.filter((c) => KERNEL_MARKS[c]).map((c) => `${KERNEL_MARKS[c]} ${c} (${KERNEL_DOCS[c]})`);
  const plain = kernelClasses.filter((c) => !KERNEL_MARKS[c]);
  return `Kernel class: ${marked.join(", ")}${
           plain.length ? ", unmarked: " + plain.map((c) => `${c} (${KERNEL_DOCS[c] || "of this name"})`).join(", ") :
                          ""}. ` +
    "Between classes, a difference in speed or memory measures the implementation as much as the " +
    "architecture.";
}

// ---- the legend: one in each section, all of them acting on all charts ----------------------------------------------
const legends = [];

// The marker shapes of SYMBOLS as SVG paths within a 26 × 12 line sample.
function symbolPath(symbol) {
  const polygon = (n, outer, inner, turn) => {
    const points = [];
    for (let i = 0; i < n; i++) {
      const angle = turn + (2 * Math.PI * i) / n, r = i % 2 && inner ? inner : outer;
      points.push(`${(13 + r * Math.sin(angle)).toFixed(2)},${(7 - r * Math.cos(angle)).toFixed(2)}`);
    }
    return "M" + points.join("L") + "Z";
  };
  switch (symbol) {
    case "square":
      return "M9.2,3.2h7.6v7.6h-7.6Z";
    case "diamond":
      return polygon(4, 5.2, 0, 0);
    case "triangle-up":
      return polygon(3, 5.4, 0, 0);
    case "triangle-down":
      return polygon(3, 5.4, 0, Math.PI);
    case "pentagon":
      return polygon(5, 5, 0, 0);
    case "star":
      return polygon(10, 5.8, 2.4, 0);
    case "hexagram":
      return polygon(12, 5.6, 3.2, 0);
    default:
      return "M13,7m-4.2,0a4.2,4.2 0 1,0 8.4,0a4.2,4.2 0 1,0 -8.4,0Z";
  }
}

function lineSample(model) {
  const style = modelStyle(model, currentTheme());
  const dashes = {solid: "", dash: "6 3", dot: "2 3", dashdot: "6 3 2 3"};
  return svgElement(
    "svg", {width: 26, height: 14, viewBox: "0 0 26 14", "aria-hidden": "true"},
    svgElement("path", {d: "M0,7H26", stroke: style.color, "stroke-width": 2, "stroke-dasharray": dashes[style.dash]}),
    svgElement("path", {d: symbolPath(style.symbol), fill: style.color}));
}

// A legend with the marks of kernel classes or without.
function legend(models, marks) {
  const toggle = (model) => {
    if (!hiddenModels.delete(model)) hiddenModels.add(model);
    drawPage();
  };
  const showAlone = (model) => {
    for (const other of results.models) hiddenModels.add(other);
    hiddenModels.delete(model);
    drawPage();
  };
  const chips = models.map((model) => {
    const actions = {onclick: () => toggle(model), ondblclick: () => showAlone(model)};
    return element("button", {type: "button", class: "chip", ...actions});
  });
  const all = element(
    "button", {
      type: "button",
      class: "chip all",
      onclick: () => {
        hiddenModels.clear();
        drawPage();
      }
    },
    "show all");
  legends.push(() => {
    chips.forEach((chip, i) => {
      const model = models[i];
      chip.setAttribute("aria-pressed", String(shown(model)));
      chip.title = `Click to ${shown(model) ? "hide" : "show"} ${model} in every chart; double-click to show it alone`;
      chip.replaceChildren(lineSample(model), model, marks ? modelMark(model) : "");
    });
    all.hidden = hiddenModels.size === 0;
  });
  return element("div", {class: "legend", role: "group", "aria-label": "Models shown"}, chips, all);
}

function drawLegends() {
  for (const draw of legends) draw();
}

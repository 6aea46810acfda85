// Puts the page together, top to bottom.
"use strict";

const PAIR_TERMS = [
  ["source and target", "what a model reads, and what it is to say of it: a sentence and its translation, for example"],
  [
    "teacher-forced, greedy search",
    "each target symbol predicted after the true ones before it; or a model left alone, after what it said itself, " +
      "always taking its likeliest symbol"
  ],
  [
    "exact match, BLEU, chrF",
    "how well the targets that a model says itself agree with the true ones: the share that is right from beginning " +
      "to end, and two scores from 0 to 100 that count the runs of words (BLEU) or of characters (chrF) in common"
  ],
];

const TERMS = [
  [
    "prefill",
    `reading a given text (the prompt${readsSources ? ", or the source with an encoder–decoder" : ""}) in one go, ` +
      "before the first new token is produced"
  ],
  [
    "decoding",
    "producing new tokens one at a time; the context length is how many tokens " +
      (readsSources ? "there are to look back at: those before, or the source's with an encoder–decoder" :
                      "came before")
  ],
  [
    "state",
    "what a model keeps of the sequence so far: for attention, keys and values of every token, " +
      "which grow with the length; for a recurrence, a fixed number of values"
  ],
  [
    "seed",
    "the number that starts all random choices of a training; the spread over seeds shows how much " +
      "of a difference is luck"
  ],
  [
    "chance, plateau, floor",
    "what guessing scores; where a model stays that has only found a shortcut; what a simple method " +
      "scores on the same data"
  ],
  [
    "bits per byte",
    "how many bits a model needs to write down each byte of unseen text: lower is better, 8 is no " +
      "knowledge at all"
  ],
  [
    "FLOPs per token",
    "additions and multiplications of one forward pass, divided by the tokens; a multiply-add " +
      "counts as two"
  ],
  ["peak memory", "the most bytes that were allocated at once, counted at the allocator after warm-up"],
  ...(readsSources ? PAIR_TERMS : []),
];

function taskSection(task) {
  const facts = taskFacts(task);
  const charts = [
    facts.curves ? learningFigure(facts) : null, finalFigure(facts), facts.byLength ? byLengthFigure(facts) : null
  ].filter(Boolean);
  return element(
    "section", {id: sectionId(task)}, element("h2", {}, `Task: ${taskTitle(task)}`),
    facts.doc ? element("p", {}, facts.doc) : null, legend(facts.models, false),
    element("div", {class: `figures figures-${charts.length}`}, charts),
    facts.attention ? attentionFigure(facts) : null);
}
// Tasks are numbered in links, as their names may hold anything.
const sectionId = (task) => `task-${results.tasks.indexOf(task) + 1}`;

function scalingSections() {
  if (!results.scales.length) return [];
  const models = results.models.filter((m) => results.scales.some((r) => r.model === m));
  const sections = [
    element(
      "section", {id: "speed"}, element("h2", {}, "Speed as the sequence grows"), legend(models, true), speedFigure(),
      kernelsDiffer ? element("p", {class: "note"}, kernelNote()) : null),
    element(
      "section", {id: "memory"}, element("h2", {}, "Memory as the sequence grows"), legend(models, true),
      memoryFigure(), results.scales.some((r) => r.memory) ? memorySplitFigure() : null),
  ];
  return sections;
}

function crossoverSection() {
  if (!results.crossovers.length && !results.slopes.length) return null;
  return element(
    "section", {id: "crossovers"}, element("h2", {}, "Where the curves cross, and how steep they are"),
    element(
      "div", {class: "pair"},
      results.crossovers.length ? element("div", {}, element("h3", {}, "Crossover lengths"), crossoverTable()) : null,
      results.slopes.length ? element("div", {}, element("h3", {}, "Fitted growth"), slopeTable()) : null));
}

function themeButton() {
  return element(
    "button", {
      type: "button",
      class: "theme",
      title: "Switch between light and dark",
      onclick: () => {
        themeChoice = currentTheme() === "dark" ? "light" : "dark";
        document.documentElement.dataset.theme = themeChoice;
        drawPage();
      }
    },
    "light / dark");
}

function buildPage() {
  const name = results.run.name || "Hippodrome report";
  const started = results.run.provenance?.started ||
    results.rows.find((r) => r.provenance?.started)?.provenance.started;
  document.getElementById("head").append(
    element("p", {class: "kicker"}, "Hippodrome report", started ? ` · ${started.slice(0, 10)}` : ""),
    element("h1", {}, name), ...results.warnings.map((warning) => element("p", {class: "notice"}, warning)));

  const sections = [
    ["Summary", summarySection()],
    ...results.tasks.map((task) => [taskTitle(task), taskSection(task)]),
    ...scalingSections().map((section) => [section.id === "speed" ? "Speed" : "Memory", section]),
    results.tasks.length ? ["Results table", resultsSection()] : null,
    ["Crossovers", crossoverSection()],
    [
      "Terms",
      element(
        "section", {id: "terms"}, element("h2", {}, "Terms"),
        element(
          "dl", {class: "terms"},
          TERMS.map(([term, meaning]) => [element("dt", {}, term), element("dd", {}, meaning)])))
    ],
    ["Provenance", provenanceSection()],
  ].filter((entry) => entry && entry[1]);
  document.getElementById("main").append(...sections.map(([, section]) => section));
  document.getElementById("contents")
    .append(...sections.map(([title, section]) => element("a", {href: `#${section.id}`}, title)), themeButton());
  const version = results.rows.map((r) => r.provenance?.versions?.hippodrome).find(Boolean);
  document.getElementById("foot").append(
    `Made by Hippodrome ${version || ""}. This file is complete in itself and loads nothing from any network. ` +
    "Charts are drawn by Plotly.js (MIT licence).");
  drawPage();
}

buildPage();

// The rows of the run, read once and put in order; what every chart and table asks of them.
"use strict";

const results = (() => {
  const embedded = (id) => JSON.parse(document.getElementById(id).textContent);
  const rows = embedded("rows");

  // The rows of a kind; of several for the same cell the last one, at the place of the first.
  const cells = (kind, ...key) => {
    const byKey = new Map();
    for (const row of rows)
      if (row.kind === kind) byKey.set(JSON.stringify(key.map((k) => row[k] ?? null)), row);
    return [...byKey.values()];
  };
  const trials = cells("trial", "model", "task", "seed", "width");
  const scales = cells("scale", "model", "phase", "length");
  const distinct = (values) => [...new Set(values)];
  const PHASES = ["train", "prefill", "decode"];
  return {
    rows,
    warnings: embedded("warnings"),
    run: cells("run").at(-1) || {},
    trials,
    scales,
    slopes: cells("slope", "model", "phase", "quantity"),
    crossovers: cells("crossover", "phase", "quantity", "faster", "slower"),
    models: distinct([...trials, ...scales].map((row) => row.model)),
    tasks: distinct(trials.map((row) => row.task)),
    phases: PHASES.filter((phase) => scales.some((row) => row.phase === phase)),
    lengths: distinct(scales.map((row) => row.length)).sort((a, b) => a - b),
    seeds: distinct(trials.map((row) => row.seed)),
  };
})();

// Whether an element of by_length tells how well a model said targets by itself, as only tasks of pairs do.
const saysItself = (p) => [p.exact_match, p.bleu, p.chrf].some(isNumber);
// Whether the run has models that read a source apart from what they say, or tasks of pairs, and so may have some.
const readsSources = results.scales.some((row) => row.reads_source) ||
  results.trials.some((t) => t.by_length?.some(saysItself));

const PHASE_TITLES = {
  train: "training",
  prefill: "prefill",
  decode: "decoding"
};
const STATUS_WORDS = {
  ok: "finished",
  failed: "failed",
  out_of_memory: "out of memory",
  timeout: "time limit"
};
const MEMORY_PARTS = ["weights", "gradients", "optimizer", "activations", "state", "workspace"];

function median(values) {
  const sorted = values.filter(isNumber).sort((a, b) => a - b);
  if (!sorted.length) return null;
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

// {median, low, high, count} of the numbers among `values`; null where there are none.
function spread(values) {
  const numbers = values.filter(isNumber);
  if (!numbers.length) return null;
  return {median: median(numbers), low: Math.min(...numbers), high: Math.max(...numbers), count: numbers.length};
}

// "0.99 (0.98 to 1.00, 3 seeds)"
function spreadText(s, text) {
  if (!s) return MISSING;
  if (s.count === 1) return text(s.median);
  return `${text(s.median)} (${text(s.low)} to ${text(s.high)}, ${s.count} seeds)`;
}

function taskTrials(task, model) {
  return results.trials.filter((t) => t.task === task && (model === undefined || t.model === model));
}
const finished = (row) => row.status === "ok";
const finalMetric = (task, model) => spread(taskTrials(task, model).filter(finished).map((t) => t.metric?.value));

// The metric, its unit, and the named reference values of a task, from the first trial that tells them.
function taskFacts(task) {
  const trials = taskTrials(task);
  const told = (field) => trials.map((t) => t[field]).find((x) => x !== null && x !== undefined);
  const metric = told("metric") || {name: "metric", higher_is_better: true};
  const references = [];
  if (isNumber(told("chance"))) references.push({name: "chance", value: told("chance"), kind: "chance"});
  for (const p of told("plateaus") || [])
    if (isNumber(p.value)) references.push({name: p.name, value: p.value, kind: "plateau"});
  const floor = told("floor");
  if (floor && isNumber(floor.value)) references.push({name: floor.name, value: floor.value, kind: "floor"});
  return {
    task,
    unit: metricUnit(metric.name || "metric"),
    higherIsBetter: metric.higher_is_better !== false,
    better: metric.higher_is_better !== false ? "higher is better" : "lower is better",
    references,
    doc: results.run.tasks?.[task],
    models: results.models.filter((model) => trials.some((t) => t.model === model)),
    byLength: trials.some((t) => finished(t) && t.by_length?.length),
    // Whether the task is one of (source, target) pairs: its lengths are then those of sources, in symbols.
    pairs: trials.some((t) => finished(t) && t.by_length?.some(saysItself)),
    attention: trials.some((t) => finished(t) && t.attention?.length),
    curves: trials.some((t) => t.curve?.length),
  };
}

const taskTitle = (task) => task.replaceAll("_", " ");

// Whether a crossover row speaks of memory; its verb phrase in a sentence.
const crossoverVerb = (row) => (row.quantity === "peak_bytes" ? "needs less memory than" : "is faster than");

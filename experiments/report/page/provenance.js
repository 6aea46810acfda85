// Where every number comes from, and the rows themselves to take away.
"use strict";

// The distinct environments of all rows: [{provenance, count}], most frequent first. Seed, shape and start time differ
// from row to row and are listed there.
function environments() {
  const found = new Map();
  for (const row of [...results.trials, ...results.scales, ...(results.trials.length || results.scales.length ? [] : [
                       results.run
                     ])]) {
    if (!row.provenance) continue;
    const {seed, shape, started, ...rest} = row.provenance;
    const key = JSON.stringify(rest);
    if (!found.has(key)) found.set(key, {key, provenance: rest, count: 0});
    found.get(key).count++;
  }
  return [...found.values()].sort((a, b) => b.count - a.count);
}

// {"a": {"b": 1}} → [["a.b", 1]]; arrays stay whole.
function flattened(value, prefix = "") {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return [[prefix, value]];
  return Object.entries(value).flatMap(([key, inner]) => flattened(inner, prefix ? `${prefix}.${key}` : key));
}

const PROVENANCE_NAMES = {
  commit: "commit",
  dirty: "uncommitted changes",
  "hardware.cpu": "processor",
  "hardware.cores": "cores",
  "hardware.memory_bytes": "memory",
  "hardware.gpu": "GPU",
  "hardware.gpu_memory_bytes": "memory of the GPU",
  tf32: "products in TF32",
  dtype: "number type",
  threads: "threads",
  matmul: "matrix library",
};

function environmentTable({provenance, count: rows}, i) {
  const shownValue = (key, value) => {
    if (key.endsWith("memory_bytes")) return value ? bytes(value) : "none";
    if (value === null || value === "") return "none";
    if (typeof value === "boolean") return value ? "yes" : "no";
    return typeof value === "object" ? JSON.stringify(value) : String(value);
  };
  return element(
    "div", {class: "environment"}, element("h4", {}, `Environment ${i + 1}: ${plural(rows, "row")}`),
    element(
      "dl", {},
      flattened(provenance)
        .map(
          ([key, value]) =>
            [element("dt", {}, PROVENANCE_NAMES[key] || key.replace(/^versions\./, "version of ").replaceAll("_", " ")),
             element("dd", {}, shownValue(key, value))])));
}

function provenanceTable(found) {
  const number = new Map(found.map((e, i) => [e.key, i + 1]));
  const rows = [...results.trials, ...results.scales].map((row) => {
    const {seed, shape, started, ...rest} = row.provenance || {};
    return {row, shape, started, environment: number.get(JSON.stringify(rest)), seed: row.seed ?? seed};
  });
  const shapeText = (shape) =>
    Object.entries(shape || {}).map(([k, v]) => `${k} ${typeof v === "object" ? JSON.stringify(v) : v}`).join(", ") ||
    MISSING;
  return sortableTable(
    [
      {title: "model", left: true, text: (r) => r.row.model, value: (r) => r.row.model},
      {
        title: "what",
        left: true,
        text: (r) => (
          r.row.kind === "trial" ? taskTitle(r.row.task) :
                                   `${PHASE_TITLES[r.row.phase] || r.row.phase} at ${grouped(r.row.length)}`),
        value: (r) => (r.row.kind === "trial" ? r.row.task : r.row.phase + String(r.row.length).padStart(12))
      },
      {title: "seed", text: (r) => String(r.seed ?? MISSING), value: (r) => r.seed},
      {
        title: "status",
        left: true,
        text: (r) => (
          finished(r.row) ? "finished" : `${STATUS_WORDS[r.row.status] || r.row.status}: ${r.row.message || ""}`),
        value: (r) => r.row.status
      },
      {title: "kernel", left: true, text: (r) => r.row.kernel_class || MISSING, value: (r) => r.row.kernel_class},
      {title: "shape", left: true, text: (r) => shapeText(r.shape), value: (r) => shapeText(r.shape)},
      {
        title: "started",
        left: true,
        text: (r) => (r.started || MISSING).replace("T", " ").replace("Z", " UTC"),
        value: (r) => r.started
      },
      {title: "environment", text: (r) => String(r.environment ?? MISSING), value: (r) => r.environment},
    ],
    [{rows}], "Every row");
}

// ---- downloads ------------------------------------------------------------------------------------------------------

const asJsonLines = () => results.rows.map((row) => JSON.stringify(row) + "\n").join("");

// One line per row, nested fields as dotted columns, lists as JSON; quoted as RFC 4180 says.
function asCsv() {
  const flat = results.rows.map((row) => new Map(flattened(row)));
  const columns = [...new Set(flat.flatMap((row) => [...row.keys()]))];
  const cell = (value) => {
    const text = value === null || value === undefined ? "" :
      typeof value === "object"                        ? JSON.stringify(value) :
                                                         String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [columns, ...flat.map((row) => columns.map((c) => row.get(c)))]
    .map((line) => line.map(cell).join(",") + "\r\n")
    .join("");
}

function provenanceSection() {
  const found = environments();
  const recipe = results.run.recipe;
  return element(
    "section", {id: "provenance"}, element("h2", {}, "Provenance and data"),
    element(
      "p", {},
      "Which code, machine and settings each number comes from, and the rows behind this page to work " +
        "with."),
    element(
      "p", {class: "downloads"},
      element(
        "button", {type: "button", onclick: () => save("rows.jsonl", asJsonLines(), "application/jsonl")},
        `Save ${results.rows.length} rows as JSONL`),
      element("button", {type: "button", onclick: () => save("rows.csv", asCsv(), "text/csv")}, "Save as CSV")),
    found.length ? element("div", {class: "environments"}, found.slice(0, 6).map(environmentTable)) : null,
    results.trials.length || results.scales.length ?
      element(
        "details", {},
        element("summary", {}, `Provenance of every row (${results.trials.length + results.scales.length})`),
        provenanceTable(found)) :
      null,
    recipe ? element(
               "details", {}, element("summary", {}, "The recipe, as resolved"),
               element("pre", {tabindex: "0"}, JSON.stringify(recipe, null, 2))) :
             null);
}

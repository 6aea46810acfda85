// The findings in plain words, worked out from the rows.
"use strict";

const SOLVED = 0.95;  // median accuracy from which a task counts as solved
const HELD = 0.9;     // median accuracy from which a longer length counts as held

const strong = (text) => element("b", {}, text);
// Elements and texts as a listing: a, b and c.
function listingOf(items) {
  return items.flatMap((item, i) => [i === 0 ? "" : i === items.length - 1 ? " and " : ", ", item]);
}

function rangeText(values, text) {
  const s = spread(values);
  if (!s) return null;
  return text(s.low) === text(s.high) ? text(s.low) : `${text(s.low)} to ${text(s.high)}`;
}

// Sizes that were matched as one number, others as a range.
function sizeText({low, high, median: middle}) {
  return high <= 1.15 * low ? `about ${scaledTo(middle, 2)}` : `${count(low)} to ${count(high)}`;
}
const scaledTo = (x, digits) => (
  x >= 1e6 ? `${significant(x / 1e6, digits)} million` :
    x >= 1e3 ? `${significant(x / 1e3, digits)} thousand` :
               grouped(x));

function leadParagraph() {
  const {models, tasks, trials, scales, lengths, seeds} = results;
  const sizes = spread([...trials, ...scales].map((r) => r.parameters));
  const steps = rangeText(trials.map((t) => t.steps), grouped);
  const parts = [
    `This page compares ${models.length === 1 ? "one model" : plural(models.length, "model")} (`,
    ...listingOf(models.map(strong)), ")"
  ];
  if (sizes) parts.push(` of ${sizeText(sizes)} parameters${models.length > 1 ? " each" : ""}`);
  parts.push(". ");
  const each = models.length > 1 ? "Each" : "It";
  if (tasks.length) {
    parts.push(
      `${each} was trained on ${tasks.length === 1 ? "the task " : plural(tasks.length, "task") + ": "}`,
      ...listingOf(tasks.map((t) => taskTitle(t))), ", ");
    parts.push(
      seeds.length > 1 ? `with ${plural(seeds.length, "random seed")}` : "with one random seed",
      steps ? `, for ${steps} steps` : "", ". ");
  }
  if (scales.length) {
    parts.push(`${each} was ${tasks.length ? "then " : ""}timed in ${
      listing(results.phases.map((p) => PHASE_TITLES[p]))} on sequences of ${
      lengths.length > 1 ? `${grouped(lengths[0])} to ${grouped(lengths.at(-1))}` : grouped(lengths[0])} tokens. `);
  }
  parts.push(machineSentence());
  return element("p", {class: "lead"}, parts);
}

function machineSentence() {
  const found = environments();
  if (!found.length) return "";
  const p = found[0].provenance, hardware = p.hardware || {};
  const size =
    [
      hardware.cores ? plural(hardware.cores, "core") : "",
      hardware.memory_bytes ? `${bytes(hardware.memory_bytes)} of memory` : ""
    ].filter(Boolean)
      .join(", ");
  const processor = hardware.cpu && size ? `${hardware.cpu} (${size})` : hardware.cpu;
  const facts = [hardware.gpu, processor, p.dtype, p.tf32 ? "TF32 products" : "", p.threads ? plural(p.threads, "thread") : ""].filter(Boolean);
  const commit = p.commit ? `, commit ${p.commit.slice(0, 12)}${p.dirty ? " with uncommitted changes" : ""}` : "";
  const others = found.length > 1 ?
    ` Rows come from ${plural(found.length, "different environment")}; see the provenance.` :
    "";
  return `Measured on ${facts.join(", ")}${commit}.${others}`;
}

// ---- learning -------------------------------------------------------------------------------------------------------

// Findings are [title, text or element, …].
function taskFinding(task) {
  const facts = taskFacts(task);
  const done = facts.models.map((model) => ({model, final: finalMetric(task, model)})).filter((m) => m.final);
  if (!done.length) return [taskTitle(task), "No training gave a final result."];
  done.sort((a, b) => (b.final.median - a.final.median) * (facts.higherIsBetter ? 1 : -1));
  return [taskTitle(task), ...(facts.unit.percent ? accuracyFinding(facts, done) : scoreFinding(facts, done))];
}

const named = (facts, m) => [strong(m.model), ` (${metricValue(facts.unit, m.final.median)})`];

function accuracyFinding(facts, done) {
  const solved = done.filter((m) => m.final.median >= SOLVED), others = done.filter((m) => m.final.median < SOLVED);
  const parts = [];
  if (solved.length)
    parts.push(...listingOf(solved.map((m) => named(facts, m))), solved.length === 1 ? " solves it" : " solve it");
  else
    parts.push(done.length === 1 ? "not solved by " : "no model solves it");
  if (others.length) {
    const link = solved.length ? "; " : done.length === 1 ? "" : ": ";
    const verb = !solved.length ? "" : others.length === 1 ? " does not" : " do not";
    parts.push(link, ...listingOf(others.map((m) => named(facts, m))), verb);
  }
  const chance = facts.references.find((r) => r.kind === "chance");
  const accuracy = done.some((m) => m.final.count > 1) ? "median accuracy" : "accuracy";
  parts.push(chance ? ` (${accuracy}; guessing gives ${facts.unit.text(chance.value)}). ` : ` (${accuracy}). `);
  if (facts.byLength && solved.length) parts.push(...lengthFinding(facts, solved));
  return parts;
}

// Up to which length beyond the trained ones a model keeps at least HELD, and where it does not any more.
function heldLength(task, model) {
  const all = taskTrials(task, model).filter(finished).flatMap((t) => t.by_length || []);
  const lengths = [...new Set(all.map((p) => p.length))].sort((a, b) => a - b);
  const trained = Math.max(...all.filter((p) => p.trained).map((p) => p.length));
  const beyond = lengths.filter((l) => l > trained);
  const at = (length) => median(all.filter((p) => p.length === length).map((p) => p.value));
  const fall = beyond.findIndex((l) => !(at(l) >= HELD));
  const held = fall === -1 ? beyond.at(-1) : fall === 0 ? null : beyond[fall - 1];
  const lost = fall === -1 ? null : beyond[fall];
  return {model, trained, longest: beyond.at(-1), held, lost, value: lost && at(lost)};
}

function lengthFinding(facts, solved) {
  const points =
    solved.map((m) => heldLength(facts.task, m.model)).filter((p) => Number.isFinite(p.trained) && p.longest);
  if (!points.length) return [];
  const symbols = facts.pairs ? "source symbols" : "tokens";
  const sentence = [`Beyond the ${grouped(points[0].trained)} ${symbols} it was trained on, `];
  if (points.length > 1) sentence[0] = sentence[0].replace("it was", "they were");
  const clauses = points.map((p) => {
    const times = (l) => `${significant(l / p.trained, 2)}×`;
    if (p.lost === null)
      return [
        strong(p.model),
        ` keeps at least ${HELD * 100} % up to ${grouped(p.held)} (${times(p.held)}), the longest tested`
      ];
    const falls = `${facts.unit.text(p.value)} at ${grouped(p.lost)}`;
    return [
      strong(p.model),
      p.held ? ` holds to ${grouped(p.held)} (${times(p.held)}) and falls to ${falls}` : ` falls to ${falls}`
    ];
  });
  return [...sentence, ...clauses.flatMap((c, i) => [i ? "; " : "", ...c]), "."];
}

function scoreFinding(facts, done) {
  const best = done[0], rest = done.slice(1);
  const parts = [
    strong(best.model),
    ` ${rest.length ? "does best with" : "reaches"} ${facts.unit.text(best.final.median)} (${
      best.final.count > 1 ? "median, " : ""}${facts.better})`
  ];
  if (rest.length) parts.push(", followed by ", ...listingOf(rest.map((m) => named(facts, m))));
  parts.push(". ");
  const level = rest.find(
    (m) => m.final.count > 1 && best.final.count > 1 && m.final.low <= best.final.high &&
      m.final.high >= best.final.low);
  if (level)
    parts.push(
      "The seeds of ", strong(best.model), " and ", strong(level.model),
      " overlap: these two are not distinguishable here. ");
  const floor = facts.references.find((r) => r.kind === "floor");
  if (floor) {
    const beats = (m) => (facts.higherIsBetter ? m.final.median > floor.value : m.final.median < floor.value);
    const winners = done.filter(beats), losers = done.filter((m) => !beats(m));
    const than = ` the ${floor.name} (${facts.unit.text(floor.value)}). `;
    if (!losers.length)
      parts.push(done.length === 1 ? "It beats" : "All beat", than);
    else if (!winners.length)
      parts.push(done.length === 1 ? "It does not beat" : "None beats", than);
    else
      parts.push(
        ...listingOf(losers.map((m) => strong(m.model))), losers.length === 1 ? " does not beat" : " do not beat",
        than);
  }
  return parts;
}

// ---- scaling --------------------------------------------------------------------------------------------------------

// How a quantity per model changes from its first to its last finished length: [{model, factor, from, to}].
function growth(phase, value) {
  return results.models.flatMap((model) => {
    const rows = scaleRows(phase, model).filter((r) => finished(r) && isNumber(value(r)));
    if (rows.length < 2) return [];
    return [{model, factor: value(rows.at(-1)) / value(rows[0]), from: rows[0].length, to: rows.at(-1).length}];
  });
}

function phaseFinding(phase) {
  const parts = [
    ...growthSentence("The time per token", growth(phase, (r) => 1 / r.tokens_per_second)),
    ...overtaken(phase, "tokens_per_second", "slower"),
    ...growthSentence("Peak memory", growth(phase, (r) => r.peak_bytes)),
    ...overtaken(phase, "peak_bytes", "larger in memory"),
  ];
  return parts.length ? [PHASE_TITLES[phase], ...parts] : null;
}

// "Peak memory grows 12× from 256 to 16,384 tokens with transformer; it stays about the same with the others."
function growthSentence(what, changes) {
  if (!changes.length) return [];
  const measured = new Set(results.scales.map((r) => r.model)).size;
  const flat = changes.filter((g) => g.factor <= 1.25),
        steep = changes.filter((g) => g.factor > 1.25).sort((a, b) => b.factor - a.factor);
  const over = (g) => ` from ${grouped(g.from)} to ${grouped(g.to)} tokens`;
  if (!steep.length)
    return [`${what} stays about the same${over(changes[0])}${flat.length > 1 ? " with every model" : ""}. `];
  // Three and more share one clause, with the range of their factors.
  const few = steep.length < 3;
  const clauses = few ? steep.map((g) => [`${significant(g.factor, 2)}×${over(g)} with `, strong(g.model)]) : [[
    `${significant(steep.at(-1).factor, 2)} to ${significant(steep[0].factor, 2)}×${
      over({from: Math.min(...steep.map((g) => g.from)), to: Math.max(...steep.map((g) => g.to))})} with `,
    ...listingOf(steep.length === measured ? ["every model"] : steep.map((g) => strong(g.model)))
  ]];
  const rest = flat.length > 2 && changes.length === measured ? ["the others"] : flat.map((g) => strong(g.model));
  return [
    `${what} grows `, ...listingOf(clauses), flat.length ? "; it stays about the same with " : "", ...listingOf(rest),
    ". "
  ];
}

// "transformer becomes slower than rwkv from about 779 tokens on, mamba (1,160) and s4d (1,760)."
function overtaken(phase, quantity, word) {
  const crossings = results.crossovers.filter((c) => c.phase === phase && c.quantity === quantity && isNumber(c.length))
                      .sort((a, b) => a.length - b.length);
  return [...new Set(crossings.map((c) => c.slower))].slice(0, 3).flatMap((slower) => {
    const own = crossings.filter((c) => c.slower === slower);
    return [
      strong(slower), ` becomes ${word} than `,
      ...listingOf(own.map(
        (c, i) =>
          [strong(c.faster), i ? ` (${aboutTokens(c.length)})` : ` from about ${aboutTokens(c.length)} tokens on`])),
      ". "
    ];
  });
}

function unfinishedFinding() {
  const lost = (rows) => rows.filter((r) => !finished(r));
  const part = (rows, one) => {
    const missing = lost(rows);
    if (!missing.length) return null;
    const statuses = [...new Set(missing.map((r) => r.status))];
    return `${grouped(missing.length)} of ${grouped(rows.length)} ${one}s did not finish (${
      statuses.map((s) => `${STATUS_WORDS[s] || s}: ${missing.filter((r) => r.status === s).length}`).join(", ")})`;
  };
  const parts = [part(results.trials, "training"), part(results.scales, "measurement")].filter(Boolean);
  return parts.length ? ["unfinished", `${parts.join("; ")}. They are marked in the charts, and left out of medians.`] :
                        null;
}

function summarySection() {
  const findings = [
    ...results.tasks.map(taskFinding),
    ...results.phases.map(phaseFinding),
    unfinishedFinding(),
    kernelsDiffer ?
      [
        "kernels",
        `Not all models ran with kernels of the same class: ${
          kernelClasses
            .map(
              (c) => `${c} ${KERNEL_MARKS[c] || "(unmarked)"} for ${
                listing(results.models.filter((m) => modelClasses(m).includes(c)))}`)
            .join("; ")}. Speeds of different classes compare implementations as much as architectures.`
      ] :
      null,
  ].filter(Boolean);
  return element(
    "section", {id: "summary"}, element("h2", {}, "Summary"),
    results.run.description ? element("p", {class: "lead"}, results.run.description) : null, leadParagraph(),
    findings.length ? element(
                        "ul", {class: "findings"},
                        findings.map(
                          ([title, ...parts]) => element(
                            "li", {}, element("h3", {}, title[0].toUpperCase() + title.slice(1)), parts))) :
                      null);
}

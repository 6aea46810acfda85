// The findings in plain words, worked out from the rows.
"use strict";

const SOLVED = 0.95; // median accuracy from which a task counts as solved
const HELD = 0.9;    // median accuracy from which a longer length counts as held

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

function leadParagraph() {
  const { models, tasks, trials, scales, lengths, seeds } = results;
  const parameters = rangeText([...trials, ...scales].map((r) => r.parameters), count);
  const steps = rangeText(trials.map((t) => t.steps), grouped);
  const parts = [`This page compares ${models.length === 1 ? "one model" : plural(models.length, "model")} (`, ...listingOf(models.map(strong)), ")"];
  if (parameters) parts.push(models.length > 1 ? ` of ${parameters} parameters each` : ` of ${parameters} parameters`);
  parts.push(". ");
  const each = models.length > 1 ? "Each" : "It";
  if (tasks.length) {
    parts.push(`${each} was trained on ${tasks.length === 1 ? "the task " : plural(tasks.length, "task") + ": "}`, ...listingOf(tasks.map((t) => taskTitle(t))), ", ");
    parts.push(seeds.length > 1 ? `with ${plural(seeds.length, "random seed")}` : "with one random seed", steps ? `, for ${steps} steps` : "", ". ");
  }
  if (scales.length) {
    parts.push(`${each} was ${tasks.length ? "then " : ""}timed in ${listing(results.phases.map((p) => PHASE_TITLES[p]))} on sequences of ${lengths.length > 1 ? `${grouped(lengths[0])} to ${grouped(lengths.at(-1))}` : grouped(lengths[0])} tokens. `);
  }
  parts.push(machineSentence());
  return element("p", { class: "lead" }, parts);
}

function machineSentence() {
  const found = environments();
  if (!found.length) return "";
  const p = found[0].provenance, hardware = p.hardware || {};
  const facts = [
    hardware.gpu || null,
    hardware.cpu ? `${hardware.cpu}${hardware.cores ? ` (${plural(hardware.cores, "core")}` + (hardware.memory_bytes ? `, ${bytes(hardware.memory_bytes)} of memory)` : ")") : ""}` : null,
    p.dtype, p.threads ? plural(p.threads, "thread") : null,
  ].filter(Boolean);
  const commit = p.commit ? `, commit ${p.commit.slice(0, 12)}${p.dirty ? " with uncommitted changes" : ""}` : "";
  return `Measured on ${facts.join(", ")}${commit}.${found.length > 1 ? ` Rows come from ${plural(found.length, "different environment")}; see the provenance.` : ""}`;
}

// ---- learning ------------------------------------------------------------------------------------------------------------

function taskFinding(task) {
  const facts = taskFacts(task);
  const done = facts.models.map((model) => ({ model, final: finalMetric(task, model) })).filter((m) => m.final);
  if (!done.length) return [strong(taskTitle(task)), ": no training finished."];
  done.sort((a, b) => (b.final.median - a.final.median) * (facts.higherIsBetter ? 1 : -1));
  return [strong(taskTitle(task)), ": ", ...(facts.unit.percent ? accuracyFinding(facts, done) : scoreFinding(facts, done))];
}

const named = (facts, m) => [strong(m.model), ` (${metricValue(facts.unit, m.final.median)})`];

function accuracyFinding(facts, done) {
  const solved = done.filter((m) => m.final.median >= SOLVED), others = done.filter((m) => m.final.median < SOLVED);
  const parts = [];
  if (solved.length) parts.push(...listingOf(solved.map((m) => named(facts, m))), solved.length === 1 ? " solves it" : " solve it");
  else parts.push(done.length === 1 ? "not solved by " : "no model solves it");
  if (others.length) parts.push(solved.length ? "; " : done.length === 1 ? "" : ": ", ...listingOf(others.map((m) => named(facts, m))), solved.length ? (others.length === 1 ? " does not" : " do not") : "");
  const chance = facts.references.find((r) => r.kind === "chance");
  parts.push(chance ? ` (median accuracy; guessing gives ${facts.unit.text(chance.value)}). ` : " (median accuracy). ");
  if (facts.byLength && solved.length) parts.push(...lengthFinding(facts, solved));
  return parts;
}

// How far beyond the trained lengths the solvers keep at least HELD.
function lengthFinding(facts, solved) {
  const points = solved.map(({ model }) => {
    const all = taskTrials(facts.task, model).filter(finished).flatMap((t) => t.by_length || []);
    const lengths = [...new Set(all.map((p) => p.length))].sort((a, b) => a - b);
    const trained = Math.max(...all.filter((p) => p.trained).map((p) => p.length));
    const beyond = lengths.filter((l) => l > trained);
    const at = (length) => median(all.filter((p) => p.length === length).map((p) => p.value));
    const fall = beyond.findIndex((l) => !(at(l) >= HELD));
    const held = fall === -1 ? beyond.at(-1) : fall === 0 ? null : beyond[fall - 1];
    return { model, trained, longest: beyond.at(-1), held, lost: fall === -1 ? null : beyond[fall], value: fall === -1 ? null : at(beyond[fall]) };
  }).filter((p) => Number.isFinite(p.trained) && p.longest);
  if (!points.length) return [];
  const sentence = [`Beyond the ${grouped(points[0].trained)} tokens it was trained on, `];
  if (points.length > 1) sentence[0] = sentence[0].replace("it was", "they were");
  const clauses = points.map((p) => {
    const times = (l) => `${significant(l / p.trained, 2)}×`;
    if (p.lost === null) return [strong(p.model), ` keeps at least ${HELD * 100} % up to ${grouped(p.held)} (${times(p.held)}), the longest tested`];
    const falls = `${facts.unit.text(p.value)} at ${grouped(p.lost)}`;
    return [strong(p.model), p.held ? ` holds to ${grouped(p.held)} (${times(p.held)}) and falls to ${falls}` : ` falls to ${falls}`];
  });
  return [...sentence, ...clauses.flatMap((c, i) => [i ? "; " : "", ...c]), "."];
}

function scoreFinding(facts, done) {
  const best = done[0], rest = done.slice(1);
  const parts = [strong(best.model), ` does best with ${facts.unit.text(best.final.median)} (${best.final.count > 1 ? "median, " : ""}${facts.better})`];
  if (rest.length) parts.push(", followed by ", ...listingOf(rest.map((m) => named(facts, m))));
  parts.push(". ");
  const level = rest.find((m) => m.final.count > 1 && best.final.count > 1 && m.final.low <= best.final.high && m.final.high >= best.final.low);
  if (level) parts.push("The seeds of ", strong(best.model), " and ", strong(level.model), " overlap: these two are not distinguishable here. ");
  const floor = facts.references.find((r) => r.kind === "floor");
  if (floor) {
    const beats = (m) => (facts.higherIsBetter ? m.final.median > floor.value : m.final.median < floor.value);
    const winners = done.filter(beats), losers = done.filter((m) => !beats(m));
    const than = ` the ${floor.name} (${facts.unit.text(floor.value)}). `;
    if (!losers.length) parts.push(done.length === 1 ? "It beats" : "All beat", than);
    else if (!winners.length) parts.push(done.length === 1 ? "It does not beat" : "None beats", than);
    else parts.push(...listingOf(losers.map((m) => strong(m.model))), losers.length === 1 ? " does not beat" : " do not beat", than);
  }
  return parts;
}

// ---- scaling -------------------------------------------------------------------------------------------------------------

// How a quantity per model changes from its first to its last finished length: [{model, factor, from, to}].
function growth(phase, value) {
  return results.models.flatMap((model) => {
    const rows = scaleRows(phase, model).filter((r) => finished(r) && isNumber(value(r)));
    if (rows.length < 2) return [];
    return [{ model, factor: value(rows.at(-1)) / value(rows[0]), from: rows[0].length, to: rows.at(-1).length }];
  });
}

function phaseFinding(phase) {
  const slower = growth(phase, (r) => 1 / r.tokens_per_second);
  const parts = [strong(PHASE_TITLES[phase]), ": "];
  const flat = slower.filter((g) => g.factor <= 1.25), steep = slower.filter((g) => g.factor > 1.25).sort((a, b) => b.factor - a.factor);
  if (steep.length) {
    parts.push("a token costs ", ...listingOf(steep.map((g) => [`${significant(g.factor, 2)}× as much at ${grouped(g.to)} tokens as at ${grouped(g.from)} with `, strong(g.model)])));
    parts.push(flat.length ? ", about the same at any length with " : "", ...listingOf(flat.map((g) => strong(g.model))), ". ");
  } else if (flat.length) {
    parts.push(`a token costs about the same at ${grouped(flat[0].from)} and at ${grouped(flat[0].to)} tokens${flat.length > 1 ? " with every model" : ""}. `);
  }
  const crossings = results.crossovers.filter((c) => c.phase === phase && isNumber(c.length)).sort((a, b) => a.length - b.length);
  const phrase = (rows, quantity, verb) => {
    const some = rows.filter((c) => c.quantity === quantity);
    if (!some.length) return [];
    const most = some.slice(0, 4);
    return [...listingOf(most.map((c) => [strong(c.faster), ` ${verb} `, strong(c.slower), ` from about ${grouped(c.length)} tokens on`])), some.length > 4 ? ` (${some.length - 4} more crossings in the table)` : "", ". "];
  };
  parts.push(...phrase(crossings, "tokens_per_second", "is faster than"), ...phrase(crossings, "peak_bytes", "needs less memory than"));
  return slower.length || crossings.length ? parts : null;
}

function unfinishedFinding() {
  const lost = (rows) => rows.filter((r) => !finished(r));
  const part = (rows, one) => {
    const missing = lost(rows);
    if (!missing.length) return null;
    const by = Object.entries(Object.groupBy ? Object.groupBy(missing, (r) => r.status) : missing.reduce((g, r) => ({ ...g, [r.status]: [...(g[r.status] || []), r] }), {}));
    return `${missing.length} of ${plural(rows.length, one)} did not finish (${by.map(([status, some]) => `${STATUS_WORDS[status] || status}: ${some.length}`).join(", ")})`;
  };
  const parts = [part(results.trials, "training"), part(results.scales, "measurement")].filter(Boolean);
  return parts.length ? [strong("unfinished"), `: ${parts.join("; ")}. They are shown as crosses, and left out of medians.`] : null;
}

function summarySection() {
  const findings = [
    ...results.tasks.map(taskFinding),
    ...results.phases.map(phaseFinding),
    unfinishedFinding(),
    kernelsDiffer && results.scales.length ? [strong("kernels"), ": models ran with kernels of different classes; see the marks † and ‡ below before comparing speeds."] : null,
  ].filter(Boolean);
  return element("section", { id: "summary" },
    element("h2", {}, "Summary"),
    results.run.description ? element("p", { class: "lead" }, results.run.description) : null,
    leadParagraph(),
    findings.length ? element("ul", { class: "findings" }, findings.map((parts) => element("li", {}, parts))) : null);
}

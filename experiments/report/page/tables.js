// The results table, the crossovers and the fitted slopes; every table sorts by a click on a heading.
"use strict";

// columns: [{title, unit, text: row → shown, value: row → sorted by, left: bool}]; groups: [{title, rows}]. Rows are
// sorted within their group; a missing value always goes last. `model` of a row ties it to the legend.
function sortableTable(columns, groups, caption) {
  let sorted = null, descending = false;
  const bodies = groups.map(() => element("tbody", {}));
  const headings = columns.map((column, i) => {
    const button = element(
      "button", {
        type: "button",
        onclick: () => {
          descending = sorted === i ? !descending : column.descending || false;
          sorted = i;
          draw();
        }
      },
      column.title, column.unit ? element("small", {}, column.unit) : null);
    return element("th", {scope: "col", class: column.left ? "left" : null}, button);
  });
  const draw = () => {
    headings.forEach(
      (th, i) => th.setAttribute("aria-sort", i === sorted ? (descending ? "descending" : "ascending") : "none"));
    groups.forEach((group, g) => {
      const rows = [...group.rows];
      if (sorted !== null) {
        const value = columns[sorted].value;
        rows.sort((a, b) => {
          const [x, y] = [value(a), value(b)];
          if (x == null || y == null) return (x == null) - (y == null);
          return (x < y ? -1 : x > y ? 1 : 0) * (descending ? -1 : 1);
        });
      }
      bodies[g].replaceChildren(
        group.title ?
          element(
            "tr", {class: "group"},
            element(
              "th", {scope: "rowgroup", class: "left", colspan: columns.length}, element("span", {}, group.title))) :
          "",
        ...rows.map(
          (row) => element(
            "tr", {},
            columns.map(
              (column, i) => element(
                i === 0 ? "th" : "td",
                {scope: i === 0 ? "row" : null, class: column.left ? "left" : null, title: column.hint?.(row)},
                column.text(row))))));
    });
  };
  draw();
  return element(
    "div", {class: "table", tabindex: "0", role: "region", "aria-label": caption},
    element("table", {}, element("caption", {}, caption), element("thead", {}, element("tr", {}, headings)), bodies));
}

// A figure of all trials of a row: their median, and their range where it is wider than what is shown.
const middle = (row, field) => median(row.trials.map((t) => t[field]));

function resultsSection() {
  const groups = results.tasks.map((task) => {
    const facts = taskFacts(task);
    return {
      title: `${taskTitle(task)}: ${facts.unit.title}, ${facts.better}`,
      rows: facts.models.map((model) => {
        const trials = taskTrials(task, model), done = trials.filter(finished);
        return {model, facts, all: trials, trials: done.length ? done : trials, final: finalMetric(task, model)};
      }),
    };
  });
  const number = (title, unit, field, text) => (
    {title, unit, text: (r) => text(middle(r, field)), value: (r) => middle(r, field)});
  const columns = [
    {
      title: "model",
      left: true,
      text: (r) => r.model,
      value: (r) => r.model,
      hint: (r) => results.run.models?.[r.model]
    },
    {
      title: "metric",
      unit: "median",
      text: (r) => (r.final ? element("b", {}, metricValue(r.facts.unit, r.final.median)) : MISSING),
      value: (r) => r.final?.median
    },
    {
      title: "range",
      unit: "over seeds",
      text: (r) => (
        r.final?.count > 1 ? `${metricValue(r.facts.unit, r.final.low)} – ${metricValue(r.facts.unit, r.final.high)}` :
                             MISSING),
      value: (r) => (r.final ? r.final.high - r.final.low : null)
    },
    {
      title: "seeds",
      unit: "finished",
      text: (r) => `${r.all.filter(finished).length} of ${r.all.length}`,
      value: (r) => r.all.filter(finished).length,
      hint: (r) => r.all.filter((t) => !finished(t))
                     .map((t) => `seed ${t.seed}: ${STATUS_WORDS[t.status] || t.status}. ${t.message || ""}`)
                     .join("\n") ||
        null
    },
    number("parameters", "", "parameters", grouped),
    number("FLOPs", "per token, forward", "flops_per_token", (x) => flops(x)),
    {
      title: "state",
      unit: "per sequence",
      text: (r) => bytes(middle(r, "state_bytes")),
      value: (r) => middle(r, "state_bytes"),
      hint: (r) => (
        isNumber(middle(r, "state_length")) ? `measured after ${grouped(middle(r, "state_length"))} tokens` : null)
    },
    {
      title: "training speed",
      unit: "tokens/s",
      text: (r) => count(middle(r, "tokens_per_second")) +
        (isNumber(middle(r, "tokens_per_second")) ?
           [...new Set(r.trials.map((t) => kernelMark(t.kernel_class)))].join("") :
           ""),
      value: (r) => middle(r, "tokens_per_second")
    },
    number("peak memory", "in training", "peak_memory_bytes", bytes),
    number("training time", "per seed", "train_seconds", seconds),
  ];
  const stateLength = spread(results.trials.map((t) => t.state_length));
  return element(
    "section", {id: "results"}, element("h2", {}, "Results in numbers"),
    element(
      "p", {}, "One line per model and task. Figures are medians over the finished seeds; ",
      stateLength ? `the state is what a model carries from token to token for one sequence, measured after ${
                      stateLength.low === stateLength.high ?
                        grouped(stateLength.low) :
                        `${grouped(stateLength.low)} to ${grouped(stateLength.high)}`} tokens. ` :
                    "",
      "Click a heading to sort."),
    sortableTable(columns, groups, "Results by task and model"),
    kernelsDiffer ? element("p", {class: "note"}, kernelNote()) : null);
}

// ---- crossovers and slopes ------------------------------------------------------------------------------------------

function crossoverTable() {
  const quantity = (c) => (c.quantity === "peak_bytes" ? "memory" : "speed");
  const mark = (c) => {
    const classOf = (model) => scaleRows(c.phase, model).find((r) => r.kernel_class)?.kernel_class;
    return kernelsDiffer && classOf(c.faster) !== classOf(c.slower) ? " *" : "";
  };
  const rows = [...results.crossovers].sort((a, b) => (a.length ?? Infinity) - (b.length ?? Infinity));
  const columns = [
    {
      title: "from length",
      unit: "tokens",
      text: (c) => (isNumber(c.length) ? `≈ ${aboutTokens(c.length)}` : "no crossing"),
      value: (c) => c.length
    },
    {
      title: "phase",
      left: true,
      text: (c) => PHASE_TITLES[c.phase] || c.phase,
      value: (c) => results.phases.indexOf(c.phase)
    },
    {title: "what", left: true, text: quantity, value: quantity},
    {
      title: "finding",
      left: true,
      text: (c) => (
        isNumber(c.length) ?
          [element("b", {}, c.faster), ` ${crossoverVerb(c)} `, element("b", {}, c.slower), mark(c)] :
          [element("b", {}, c.faster), " and ", element("b", {}, c.slower), `: ${c.note || "no crossing"}`, mark(c)]),
      value: (c) => c.faster
    },
  ];
  const crossing = rows.filter((c) => isNumber(c.length)), apart = rows.filter((c) => !isNumber(c.length));
  return [
    element(
      "p", {},
      "From which sequence length on one model is faster, or needs less memory, than another; " +
        "interpolated between the measured lengths."),
    crossing.length ? sortableTable(columns, [{rows: crossing}], "Crossover lengths") :
                      element("p", {}, "No pair crosses within the measured lengths."),
    apart.length ?
      element(
        "details", {},
        element(
          "summary", {},
          `${apart.length} ${apart.length === 1 ? "pair does" : "pairs do"} not cross within the measured lengths`),
        sortableTable(columns.slice(1), [{rows: apart}], "Pairs that do not cross")) :
      null,
    rows.some(mark) ?
      element("p", {class: "note"}, "* The two ran with kernels of different classes. " + kernelNote()) :
      null,
  ];
}

// With a true minus sign, and none before a zero.
const signed = (x) => (Math.abs(x) < 0.005 ? "0.00" : x.toFixed(2).replace("-", "−"));

function slopeTable() {
  const models = results.models.filter((m) => results.slopes.some((s) => s.model === m));
  const keys = [...new Set(results.slopes.map((s) => JSON.stringify([s.phase, s.quantity || "seconds"])))].map(
    (k) => JSON.parse(k));
  const cost = ([phase, quantity]) => (
    quantity === "peak_bytes" ? "memory of a sequence" :
      phase === "decode"      ? "time of a token" :
                                "time of a sequence");
  const find = (model, [phase, quantity]) => results.slopes.find(
    (s) => s.model === model && s.phase === phase && (s.quantity || "seconds") === quantity);
  const exponentColumn = (key) => ({
    title: PHASE_TITLES[key[0]] || key[0],
    unit: cost(key),
    text: (r) => (isNumber(find(r.model, key)?.exponent) ? signed(find(r.model, key).exponent) : MISSING),
    value: (r) => find(r.model, key)?.exponent,
    hint: (r) => {
      const s = find(r.model, key);
      return s && isNumber(s.from) ? `fitted from ${grouped(s.from)} to ${grouped(s.to)} tokens` : null;
    },
  });
  const columns = [
    {title: "model", left: true, text: (r) => r.model, value: (r) => r.model},
    ...keys.map(exponentColumn),
  ];
  return [
    element(
      "p", {}, "The exponent p in cost ∝ length", element("sup", {}, "p"),
      ", fitted to the measurements. For a whole sequence, 1 is linear and 2 quadratic; for one " +
        "decoded token, 0 means that it costs the same at any depth and 1 that it grows with the " +
        "context."),
    sortableTable(columns, [{rows: models.map((model) => ({model}))}], "Fitted exponents"),
  ];
}

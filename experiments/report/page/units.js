// Numbers for people: every figure on the page goes through one of these, so a unit is never missing or mixed.
"use strict";

const NBSP = "\u00a0";  // keeps a number and its unit on one line
const MISSING = "–";

const isNumber = (x) => typeof x === "number" && Number.isFinite(x);

// 3 significant digits, no exponent, no trailing noise: 0.0123, 1.23, 12.3, 123, 1230.
function significant(x, digits = 3) {
  if (x === 0) return "0";
  const decimals = Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(x))));
  return x.toFixed(Math.min(decimals, 8));
}

// 1,003,232
function grouped(x) { return isNumber(x) ? Math.round(x).toLocaleString("en-US") : MISSING; }

// An interpolated length: three digits, as more would not be true.
const aboutTokens = (x) => grouped(Number(x.toPrecision(3)));

// `x` in the largest unit of `steps` ([[size, name], …], largest first) that it reaches.
function scaled(x, steps) {
  if (!isNumber(x)) return MISSING;
  if (x === 0) return "0" + NBSP + steps[steps.length - 1][1];
  let [size, name] = steps.find(([s]) => Math.abs(x) >= s * 0.9995) || steps[steps.length - 1];
  const text = size === 1 && Number.isInteger(x) ? grouped(x) : significant(x / size);
  return name ? text + NBSP + name : text;
}

// For ticks: "60 k" rather than "60.0 k".
const trimmed = (text) => text.replace(/(\.\d*?)0+(?!\d)/, "$1").replace(/\.(?!\d)/, "");

const bytes = (x) => scaled(x, [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"], [1, "B"]]);
const count = (x) => scaled(x, [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]]);
const tokensPerSecond = (x) => (isNumber(x) ? count(x) + NBSP + "tokens/s" : MISSING);
const flops = (x) => scaled(
  x, [[1e15, "PFLOP"], [1e12, "TFLOP"], [1e9, "GFLOP"], [1e6, "MFLOP"], [1e3, "kFLOP"], [1, "FLOP"]]);

function seconds(x) {
  if (!isNumber(x)) return MISSING;
  if (x >= 3600) return Math.floor(x / 3600) + NBSP + "h " + Math.round((x % 3600) / 60) + NBSP + "min";
  if (x >= 120) return Math.floor(x / 60) + NBSP + "min " + Math.round(x % 60) + NBSP + "s";
  return scaled(x, [[1, "s"], [1e-3, "ms"], [1e-6, "µs"]]);
}

// How a metric is named on an axis and how one value of it is written.
function metricUnit(name) {
  if (name === "accuracy") {
    return {title: "accuracy", percent: true, text: (x) => (isNumber(x) ? (100 * x).toFixed(1) + NBSP + "%" : MISSING)};
  }
  const title = name.replaceAll("_", " ");
  return {
    title,
    percent: false,
    text: (x) => (isNumber(x) ? x.toFixed(3) + NBSP + title : MISSING),
    bare: (x) => (isNumber(x) ? x.toFixed(3) : MISSING)
  };
}

// A score from 0 to 100, 0 always in sight.
function scoreUnit(title) {
  return {title, percent: false, fromZero: true, text: (x) => (isNumber(x) ? x.toFixed(1) + NBSP + title : MISSING)};
}

// The value alone, where the unit stands in the heading already.
const metricValue = (unit, x) => (unit.bare || unit.text)(x);

const WORDS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];
const inWords = (n) => WORDS[n] || grouped(n);
const plural = (n, one, many = one + "s") => inWords(n) + " " + (n === 1 ? one : many);

// "a", "a and b", "a, b and c"
function listing(items) {
  if (items.length < 2) return items.join("");
  return items.slice(0, -1).join(", ") + " and " + items[items.length - 1];
}

// Ticks for a log axis over [low, high], at most `most` of them, as values. `binary`: powers of two, else 1-2-5 steps.
function logTicks(low, high, most, binary) {
  const all = (values) => values.filter((v) => v >= low * 0.999 && v <= high * 1.001);
  const powers = (base, mantissas) => {
    const found = [];
    for (let e = Math.floor(Math.log(low) / Math.log(base)) - 1; base ** e <= high; e++) {
      for (const m of mantissas) found.push(m * base ** e);
    }
    return all(found);
  };
  const ladders = binary ? [1, 2, 3, 4, 5, 10].map((step) => powers(2 ** step, [1])) : [
    powers(10, [1, 1.5, 2, 3, 4, 5, 6, 8]), powers(10, [1, 2, 5]), powers(10, [1, 3]), powers(10, [1]),
    powers(100, [1]), powers(1000, [1])
  ];
  return ladders.find((ticks) => ticks.length <= most) || ladders[ladders.length - 1];
}

// The given lengths, thinned to at most `most` by keeping every second, third, … from the last on.
function thinned(values, most) {
  const step = Math.max(1, Math.ceil(values.length / Math.max(1, most)));
  return values.filter((_, i) => (values.length - 1 - i) % step === 0);
}

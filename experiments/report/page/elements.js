// HTML elements without HTML text: whatever a row says is put in as text, so it cannot become markup.
"use strict";

// element("p", {class: "x", onclick: f}, "text", child, [more children]); null children are left out.
function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on"))
      node.addEventListener(name.slice(2), value);
    else
      node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

function svgElement(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// A row of buttons of which one is pressed. options: [[value, label], …]
function choice(label, options, value, change) {
  const buttons = options.map(
    ([option, text]) => element(
      "button", {
        type: "button",
        "aria-pressed": String(option === value),
        onclick: (event) => {
          for (const button of buttons) button.setAttribute("aria-pressed", String(button === event.currentTarget));
          change(option);
        },
      },
      text));
  return element(
    "span", {class: "choice", role: "group", "aria-label": label}, element("span", {class: "label"}, label), buttons);
}

function dropdown(label, options, value, change) {
  const select = element(
    "select", {onchange: (event) => change(options[event.target.selectedIndex][0])},
    options.map(([option, text]) => element("option", {selected: option === value}, text)));
  return element("label", {class: "choice"}, element("span", {class: "label"}, label), select);
}

// A dropdown between buttons for the option before and after; beyond the last one comes the first.
function stepper(label, options, value, change) {
  const list = dropdown(label, options, value, change), select = list.querySelector("select");
  const step = (by, text, name) => element(
    "button", {
      type: "button",
      "aria-label": name,
      title: name,
      onclick: () => {
        select.selectedIndex = (select.selectedIndex + by + options.length) % options.length;
        change(options[select.selectedIndex][0]);
      }
    },
    text);
  const name = label.toLowerCase();
  return element(
    "span", {class: "stepper"}, list,
    element(
      "span", {class: "choice", role: "group", "aria-label": `${label}: previous and next`},
      step(-1, "‹", `Previous ${name}`), step(1, "›", `Next ${name}`)));
}

// Offers `content` to be saved under a file name.
function save(name, content, type) {
  const url = URL.createObjectURL(new Blob([content], {type}));
  const link = element("a", {href: url, download: name});
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

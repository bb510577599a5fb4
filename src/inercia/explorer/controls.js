// The column of choices: losses, methods, sliders, stories. `change` is called with the settings that a choice changes.

import { LOSSES } from "./arithmetic/losses.js";
import { METHODS } from "./arithmetic/methods.js";
import { DEFAULTS, SLIDERS, convertedRate, positionOf, refinement, shown, usualRate, valueAt } from "./settings.js";
import { STORIES } from "./stories.js";

const SYMBOLS = {
  l1: "λ₁", l2: "λ₂", angle: "∠", a: "a", b: "b", b2: "b₂", eps: "ε", dt: "dt", noise: "σ", time: "T",
};
const EQUATIONS = {
  gd: "θ⁺ = θ − a g\nθ' = −a g",
  momentum: "m⁺ = b m + (1−b) g,  θ⁺ = θ − a m⁺\nm' = (1−b)(g − m),  θ' = −a m",
  lecture: "θ⁺ = θ − a m,  m⁺ = b m + (1−b) g\nm' = (1−b)(g − m),  θ' = −a m",
  nesterov: "v⁺ = b v + g,  θ⁺ = θ − a (b v⁺ + g)\nv' = g − (1−b) v,  θ' = −a v",
  "nesterov-k": "x⁺ = y − a g(y),  y⁺ = x⁺ + (k−1)/(k+2) (x⁺ − x)\nθ'' + (3/t) θ' + a g = 0",
  rmsprop: "v⁺ = b₂ v + (1−b₂) g²,  θ⁺ = θ − a g/√(v⁺ + ε)\nv' = (1−b₂)(g² − v),  θ' = −a g/√(v + ε)",
  adam: "θ⁺ = θ − a m̂/(√v̂ + ε)\nm̂ = m⁺/(1−bᵏ),  v̂ = v⁺/(1−b₂ᵏ)\nθ' = −a m̂/(√v̂ + ε)\nm̂ = m/(1−e⁻⁽¹⁻ᵇ⁾ᵗ),  v̂ = v/(1−e⁻⁽¹⁻ᵇ₂⁾ᵗ)",
};

// Equations that break between each other, not inside.
const unbroken = (text) => text.split(",  ").map((equation) => equation.replaceAll(" ", "\u00a0")).join(", ");

// Whether a setting matters with this loss and method.
function matters(key, { loss, method }) {
  if (["l1", "l2", "angle"].includes(key)) return loss === "quadratic";
  return !["b", "b2", "eps"].includes(key) || METHODS[method].reads.includes(key);
}

function pills(box, group, options, chosen) {
  for (const option of options) {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "radio", name: group, value: option });
    const name = document.createElement("span");
    name.dataset.text = option;
    input.addEventListener("change", () => chosen(option));
    label.append(input, name);
    box.append(label);
  }
}

function slider(key, change) {
  const row = Object.assign(document.createElement("label"), { className: "slider" });
  row.innerHTML = '<span class="name"><b></b><span></span></span><output aria-live="off"></output><input type="range" min="0" max="1000">';
  row.querySelector("b").textContent = SYMBOLS[key];
  row.querySelector(".name span").dataset.text = `slider_${key}`;
  const input = row.querySelector("input");
  input.id = `slider-${key}`;
  input.addEventListener("input", () => change({ [key]: valueAt(key, input.value / 1000) }));
  return row;
}

// Build the column once; returns a function that shows given settings on it.
export function controls(current, change) {
  const find = (selector) => document.querySelector(selector);
  pills(find("#losses"), "loss", Object.keys(LOSSES), (loss) => {
    const [x, y] = LOSSES[loss].start;
    change({ loss, x, y, a: usualRate(current(), loss) });
  });
  pills(find("#methods"), "method", Object.keys(METHODS), (method) => {
    change({ method, a: convertedRate(current(), method) });
  });
  const rows = Object.fromEntries(Object.keys(SLIDERS).map((key) => [key, slider(key, change)]));
  find("#sliders").append(...Object.values(rows));
  for (const [name, story] of Object.entries(STORIES)) {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    button.dataset.text = `story_${name}`;
    button.addEventListener("click", () => change({ ...DEFAULTS, ...story }));
    find("#stories").append(button);
  }
  find("#both").addEventListener("change", (event) => change({ both: event.target.checked }));
  return (settings) => {
    for (const input of document.querySelectorAll(".pills input")) input.checked = settings[input.name] === input.value;
    for (const [key, row] of Object.entries(rows)) {
      row.hidden = !matters(key, settings);
      const input = row.querySelector("input");
      if (document.activeElement !== input || Math.abs(valueAt(key, input.value / 1000) - settings[key]) > 1e-12) {
        input.value = Math.round(1000 * positionOf(key, settings[key]));
      }
      row.querySelector("output").textContent = shown(key, settings[key]);
      input.setAttribute("aria-valuetext", shown(key, settings[key]));
    }
    find("#both").checked = settings.both;
    find("#both-row").hidden = settings.method !== "momentum" && settings.method !== "lecture";
    find("#redraw").hidden = settings.noise === 0;
    find("#equations").textContent = unbroken(EQUATIONS[settings.method] + refinement(settings));
  };
}

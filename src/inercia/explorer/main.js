// The page: settings change, the experiment is computed, every view is drawn; at most once a frame.

import { experiment } from "./arithmetic/experiment.js";
import { LOSSES } from "./arithmetic/losses.js";
import { METHODS } from "./arithmetic/methods.js";
import { isAdaptive, modesAt } from "./arithmetic/modes.js";
import { controls } from "./controls.js";
import { handle, place, timePicker } from "./handles.js";
import { DEFAULTS, adopt, fromHash, primed, toHash, within } from "./settings.js";
import { STRINGS } from "./strings.js";
import { cleared, inkOf, surfaces } from "./surface.js";
import { diagramPoint, drawDiagram, settingsAt } from "./views/diagram.js";
import { drawEnergy, energyAxes, energyFormula } from "./views/energy.js";
import { drawGap, gapAxes, orderReading } from "./views/gap.js";
import { drawMultipliers } from "./views/multipliers.js";
import { drawPaths, pathsAxes } from "./views/paths.js";
import { drawPhase } from "./views/phase.js";

const find = (selector) => document.querySelector(selector);
const root = document.documentElement;
const DRAWERS = {
  paths: drawPaths, phase: drawPhase, multipliers: drawMultipliers, gap: drawGap, energy: drawEnergy, diagram: drawDiagram,
};

const given = find("#own");
if (given) adopt(JSON.parse(given.textContent));
let { settings, extra } = fromHash(location.hash);
const ui = { at: 1, axis: 0, lang: "en", theme: "light", playing: null, refining: null };
let model = null;
let modes = null;
let ink = null;
let waiting = false;
let stale = true; // the settings changed since the model was computed
let frozen = 1; // largest curvature when the diagram's handle was taken up

// ---- what changes

function change(changes) {
  settings = { ...settings, ...changes };
  stale = true;
  request();
  remember();
}

function request() {
  if (!waiting) requestAnimationFrame(show);
  waiting = true;
}

let remembering = 0;
function remember() {
  clearTimeout(remembering);
  remembering = setTimeout(() => {
    try {
      history.replaceState(null, "", toHash(settings, extra));
    } catch {
      // a page inside another one may not: the link is lost, nothing else
    }
    if (window.parent !== window) window.parent.postMessage({ inercia: settings }, "*");
  }, 300);
}

function speak() {
  const words = STRINGS[ui.lang];
  root.lang = ui.lang;
  document.title = words.title;
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = words[element.dataset.text];
  for (const element of document.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", words[element.dataset.label]);
    if (element.matches("button, input")) element.title = words[element.dataset.label];
  }
  request();
}

function dress() {
  root.dataset.theme = ui.theme;
  ink = inkOf(root);
  request();
}

// ---- what is shown

function show(now) {
  waiting = false;
  animate(now);
  if (stale) {
    model = experiment(settings);
    present(settings);
    stale = false;
  }
  const k = Math.round(ui.at * model.count);
  modes = modesAt(model, k);
  const view = { k, modes, axis: ui.axis, words: STRINGS[ui.lang] };
  for (const [name, draw] of Object.entries(DRAWERS)) {
    if (all[name].width > 0) draw(cleared(all[name], ink), model, view);
  }
  const ax = pathsAxes(all.paths, model);
  place(find("#paths .handle"), [ax.X(settings.x), ax.Y(settings.y)]);
  place(find("#diagram .handle"), diagramPoint(all.diagram, modes));
  report(view);
}

const tell = (selector, string) => {
  const element = find(selector);
  if (element.textContent !== string) element.textContent = string;
};

function report({ k, words }) {
  const gap = model.levels[0].distance[k];
  const three = (value) => (Math.abs(value) < 1e-3 ? value.toExponential(1) : String(Number(value.toPrecision(3))));
  tell("#paths output", gap === undefined || Number.isNaN(gap) ? "" : words.gap_reading.replace("{d}", three(gap)));
  tell("#gap output", orderReading(model, modes, words));
  tell("#multipliers output", words[`${modes.verdict}_reading`].replace("{mu}", modes.factor.toFixed(3)));
  const product = words.product_reading.replace("{name}", primed("aλ", settings));
  tell("#diagram output", product.replace("{x}", three(modes.product)).replace("{bound}", three(modes.bound)));
  tell("#energy output", energyFormula(settings.method));
  tell("#energy h2", energyFormula(settings.method).startsWith("E") ? words.energy : words.energy_loss);
  tell("#energy .caption", settings.method === "adam" ? words.energy_caption_adam : words.energy_caption);
  tell("#clock", `t = ${three(k * model.spacing)}`);
  find("#cursor").value = Math.round(1000 * ui.at);
  tell("#play", ui.playing === null ? "▶" : "❚❚");
  find("#play").setAttribute("aria-label", ui.playing === null ? words.play : words.pause);
  const two = settings.method === "momentum" || settings.method === "lecture";
  find("#paths .key .other").hidden = !model.other;
  tell("#multipliers [data-name]", words[settings.method]);
  find("#multipliers [data-other]").hidden = !two;
  tell("#multipliers [data-other]", words.other_order);
  for (const button of document.querySelectorAll("#phase .switch button")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.axis) === ui.axis));
  }
}

// ---- what moves by itself

const SECONDS = { play: 8, refine: 4 };

function animate(now) {
  if (ui.playing !== null) {
    ui.at = Math.min(1, ui.playing.from + (now - ui.playing.since) / (1000 * SECONDS.play));
    if (ui.at === 1) ui.playing = null;
    else request();
  }
  if (ui.refining !== null) {
    const part = Math.min(1, (now - ui.refining) / (1000 * SECONDS.refine));
    change({ dt: within("dt", 2 ** (-5 * part)) });
    if (part === 1) ui.refining = null;
  }
}

function play() {
  ui.playing = ui.playing === null ? { from: ui.at === 1 ? 0 : ui.at, since: performance.now() } : null;
  request();
}

// ---- what is listened to

const all = surfaces(Object.keys(DRAWERS), request);
const present = controls(() => settings, (changes) => {
  ui.refining = null;
  change(changes);
});

handle(find("#paths .handle"), all.paths.canvas, {
  moved([px, py]) {
    const ax = pathsAxes(all.paths, model);
    const [[x0, x1], [y0, y1]] = LOSSES[settings.loss].view;
    change({ x: Math.min(x1, Math.max(x0, ax.ofX(px))), y: Math.min(y1, Math.max(y0, ax.ofY(py))) });
  },
});
handle(find("#diagram .handle"), all.diagram.canvas, {
  taken() { frozen = Math.max(modes.curvatures[1], 1e-3); },
  moved(at) {
    const { a, b } = settingsAt(all.diagram, at, settings, isAdaptive(settings.method) ? frozen : Math.max(modes.curvatures[1], 1e-3));
    change({ a: within("a", a), b });
  },
});
for (const [name, axesOf] of [["gap", (...args) => gapAxes(...args).over], ["energy", energyAxes]]) {
  timePicker(all[name].canvas, (px) => {
    ui.playing = null;
    ui.at = Math.min(1, Math.max(0, axesOf(all[name], model).ofX(px) / (model.count * model.spacing)));
    request();
  });
}

find("#cursor").addEventListener("input", (event) => {
  ui.playing = null;
  ui.at = event.target.value / 1000;
  request();
});
find("#play").addEventListener("click", play);
find("#refine").addEventListener("click", () => { ui.refining = performance.now(); request(); });
find("#redraw").addEventListener("click", () => change({ seed: settings.seed + 1 }));
find("#reset").addEventListener("click", () => change(DEFAULTS));
for (const button of document.querySelectorAll("#phase .switch button")) {
  button.addEventListener("click", () => { ui.axis = Number(button.dataset.axis); request(); });
}
find("#language").addEventListener("click", () => {
  ui.lang = extra.lang = ui.lang === "en" ? "es" : "en";
  speak();
  remember();
});
find("#theme").addEventListener("click", () => {
  ui.theme = extra.theme = ui.theme === "light" ? "dark" : "light";
  dress();
  remember();
});
find("#share").addEventListener("click", async () => {
  const words = STRINGS[ui.lang];
  const address = location.href.split("#")[0] + toHash(settings, extra);
  const done = await navigator.clipboard?.writeText(address).then(() => true, () => false);
  find("#status").textContent = done ? words.copied : words.copy_failed;
  setTimeout(() => { find("#status").textContent = ""; }, 3000);
});
addEventListener("hashchange", () => {
  ({ settings, extra } = fromHash(location.hash));
  begin();
});
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input[type=range]") && event.key === " ") return;
  const after = (names, name) => names[(names.indexOf(name) + 1) % names.length];
  const pressed = {
    " ": play,
    d: () => change({ dt: within("dt", 2 * settings.dt) }),
    h: () => change({ dt: within("dt", settings.dt / 2) }),
    m: () => find(`#methods input[value="${after(Object.keys(METHODS), settings.method)}"]`).click(),
    l: () => find(`#losses input[value="${after(Object.keys(LOSSES), settings.loss)}"]`).click(),
    r: () => change(DEFAULTS),
  }[event.key.toLowerCase()];
  if (!pressed || (event.key === " " && event.target.matches("button, input"))) return;
  event.preventDefault();
  pressed();
});

function begin() {
  ui.lang = extra.lang ?? (navigator.language.startsWith("es") ? "es" : "en");
  ui.theme = extra.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  if (!(ui.lang in STRINGS)) ui.lang = "en";
  if (ui.theme !== "dark") ui.theme = "light";
  find("#share").hidden = window.parent !== window; // inside another page there is no address to share
  stale = true;
  speak();
  dress();
  remember();
}

begin();

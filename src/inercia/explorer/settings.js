// What the reader chooses, how a slider reads it, and how it is written into the address of the page.
//
// A slider's position is a number in [0, 1]; `scale` says how it becomes a value:
//
//   linear   low + (high - low) s          log      low (high/low)^s
//   decay    1 - (1 - high)^s, from 0 to high: as much room from .9 to .99 as from 0 to .9
//   square   high s^2

import { LOSSES } from "./arithmetic/losses.js";
import { METHODS } from "./arithmetic/methods.js";
import { isAdaptive } from "./arithmetic/modes.js";
import { sampledLoss } from "./arithmetic/sampled_loss.js";

export const SLIDERS = {
  l1: { scale: "log", low: 0.1, high: 10 },
  l2: { scale: "log", low: 1, high: 50 },
  angle: { scale: "linear", low: 0, high: 90 },
  a: { scale: "log", low: 1e-3, high: 20 },
  b: { scale: "decay", high: 0.99 },
  b2: { scale: "decay", high: 0.999 },
  eps: { scale: "log", low: 1e-10, high: 0.1 },
  dt: { scale: "log", low: 1 / 32, high: 1 },
  noise: { scale: "square", high: 4 },
  time: { scale: "log", low: 10, high: 120 },
};

export const DEFAULTS = {
  loss: "wells", l1: 1, l2: 20, angle: 30,
  method: "momentum", a: 0.5, b: 0.9, b2: 0.99, eps: 1e-8,
  dt: 1, noise: 0, seed: 1, time: 60, x: -0.2, y: 1.5, both: false,
};

const ADAPTIVE_RATE = 0.05;
const CHOICES = { loss: LOSSES, method: METHODS };

export function valueAt(key, position) {
  const { scale, low, high } = SLIDERS[key];
  if (scale === "log") return low * (high / low) ** position;
  if (scale === "decay") return 1 - (1 - high) ** position;
  return scale === "square" ? high * position ** 2 : low + (high - low) * position;
}

export function positionOf(key, value) {
  const { scale, low, high } = SLIDERS[key];
  if (scale === "log") return Math.log(value / low) / Math.log(high / low);
  if (scale === "decay") return Math.log(1 - value) / Math.log(1 - high);
  return scale === "square" ? Math.sqrt(value / high) : (value - low) / (high - low);
}

export function within(key, value) {
  const { low = 0, high } = SLIDERS[key];
  return Math.min(high, Math.max(low, value));
}

// Three significant digits, as shown and as written into the address; eps with its exponent.
export function shown(key, value) {
  if (key === "eps") return value.toExponential(0);
  if (key === "angle") return `${Math.round(value)}°`;
  const digits = key === "b" || key === "b2" ? Math.min(4, Math.max(2, 1 - Math.floor(Math.log10(1 - value)))) : null;
  return digits === null ? `${Number(value.toPrecision(3))}` : `${Number(value.toFixed(digits))}`;
}

// A formula in a and b as it reads for one update of a refined method: a' and b' in place of a and b.
export const primed = (formula, { dt }) => (dt === 1 ? formula : formula.replace(/[ab]/g, "$&′"));

// What a' and b' are.
export function refinement({ method, dt }) {
  if (dt === 1) return "";
  const rate = method.startsWith("nesterov") ? "a′ = a dt²" : "a′ = a dt";
  const decays = { momentum: ["b"], lecture: ["b"], nesterov: ["b"], rmsprop: ["b₂"], adam: ["b", "b₂"] }[method] ?? [];
  return `\n${[rate, ...decays.map((b) => `${b}′ = 1−(1−${b}) dt`)].join(",  ")}`;
}

// A loss that the page was given: shown first.
export function adopt(own) {
  const [x, y] = own.start;
  const loss = sampledLoss(own);
  LOSSES.own = { make: () => loss, start: own.start, rate: within("a", own.rate), view: own.view };
  Object.assign(DEFAULTS, { loss: "own", x, y, a: LOSSES.own.rate });
}

// The rate that gives the same long-run speed with another method; that of adaptive ones is a length of its own.
export function convertedRate({ a, b, loss, method }, next) {
  if (isAdaptive(next)) return isAdaptive(method) ? a : ADAPTIVE_RATE;
  return within("a", (isAdaptive(method) ? LOSSES[loss].rate : a / inSum(method, b)) * inSum(next, b));
}

// The rate that suits a loss.
export const usualRate = ({ b, method }, loss) => (
  isAdaptive(method) ? ADAPTIVE_RATE : within("a", LOSSES[loss].rate * inSum(method, b))
);

// Nesterov's rates are those of a sum of gradients, the others' those of an average.
const inSum = (method, b) => (method.startsWith("nesterov") ? 1 - b : 1);

export function toHash(settings, extra) {
  const parts = Object.entries({ ...settings, ...extra })
    .filter(([key, value]) => value !== DEFAULTS[key])
    .map(([key, value]) => `${key}=${typeof value === "number" ? Number(value.toPrecision(6)) : value}`);
  return `#${parts.join("&")}`;
}

// Settings read from an address; what it does not name, or names out of range, is the default's.
export function fromHash(hash) {
  const read = { ...DEFAULTS };
  const extra = {};
  for (const part of hash.replace(/^#/, "").split("&")) {
    const [key, text = ""] = part.split("=");
    const number = Number(text);
    if (key in CHOICES && Object.hasOwn(CHOICES[key], text)) read[key] = text;
    else if (key in SLIDERS && text && Number.isFinite(number)) read[key] = within(key, number);
    else if ((key === "x" || key === "y") && text && Math.abs(number) < 1e6) read[key] = number;
    else if (key === "seed" && Number.isInteger(number) && number > 0) read.seed = number;
    else if (key === "both") read.both = text === "true";
    else if (key === "lang" || key === "theme") extra[key] = text;
  }
  return { settings: read, extra };
}

// Stability on a mode of curvature l: the two multipliers of an update, the roots of mu^2 - t mu + d.
//
//   kind            t                     d                    stable iff
//   GD              1 - a l               0                    a l < 2
//   semi-implicit   1 + b - (1-b) a l     b                    a l < (2+2b)/(1-b)
//   explicit        1 + b                 b + (1-b) a l        a l < 1, for every b
//   nesterov        (1+b)(1 - a l)        b (1 - a l)          a l < (2+2b)/(1+2b)
//
// a and b are those of one update, refined by dt. Methods that divide by the root of a second moment are GD and
// semi-implicit momentum on the preconditioned curvature. Sources: Polyak 1964; Goh 2017.

import { refined } from "./methods.js";

const QUADRATICS = {
  GD: (x) => [1 - x, 0],
  "semi-implicit": (x, b) => [1 + b - (1 - b) * x, b],
  explicit: (x, b) => [1 + b, b + (1 - b) * x],
  nesterov: (x, b) => [(1 + b) * (1 - x), b * (1 - x)],
};

const THRESHOLDS = {
  GD: () => 2,
  "semi-implicit": (b) => (2 + 2 * b) / (1 - b),
  explicit: () => 1,
  nesterov: (b) => (2 + 2 * b) / (1 + 2 * b),
};

// The largest stable a l.
export const bound = (kind, b) => THRESHOLDS[kind](b);

// The roots of mu^2 - t mu + d, the larger modulus first; each is [real, imaginary].
function roots(t, d) {
  const discriminant = t * t - 4 * d;
  if (discriminant < 0) {
    const half = Math.sqrt(-discriminant) / 2;
    return [[t / 2, half], [t / 2, -half]];
  }
  const root = Math.sqrt(discriminant);
  const pair = [[(t + root) / 2, 0], [(t - root) / 2, 0]];
  return Math.abs(pair[1][0]) > Math.abs(pair[0][0]) ? pair.reverse() : pair;
}

export const multipliers = (kind, x, b) => roots(...QUADRATICS[kind](x, b));

// The larger modulus: the factor per update; stable where it is below 1.
export function growth(kind, x, b) {
  const [[re, im]] = multipliers(kind, x, b);
  return Math.hypot(re, im);
}

// What one update of a method is: its kind, its rate and its b. Nesterov's own b is that of update k.
export function linearForm(method, { a, b, dt }, k = 0) {
  switch (method) {
    case "gd": case "rmsprop": return { kind: "GD", rate: a * dt, b: 0 };
    case "lecture": return { kind: "explicit", rate: a * dt, b: refined(b, dt) };
    case "nesterov": return { kind: "nesterov", rate: a * dt * dt, b: refined(b, dt) };
    case "nesterov-k": return { kind: "nesterov", rate: a * dt * dt, b: k / (k + 3) };
    default: return { kind: "semi-implicit", rate: a * dt, b: refined(b, dt) };
  }
}

// What the flow does to the same mode over the time dt of one update: e^{s dt}, s^2 + friction s + pull = 0.
export function flowMultipliers(method, { a, b, dt }, curvature, t) {
  if (method === "gd" || method === "rmsprop") return [[Math.exp(-a * curvature * dt), 0]];
  const friction = method === "nesterov-k" ? 3 / t : 1 - b;
  const pull = method.startsWith("nesterov") ? a * curvature : a * (1 - b) * curvature;
  return roots(-friction, pull).map(([re, im]) => {
    const size = Math.exp(re * dt);
    return [size * Math.cos(im * dt), size * Math.sin(im * dt)];
  });
}

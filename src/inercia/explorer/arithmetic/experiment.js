// One setting, computed: iterates at dt and its halvings, the flow at the same times, their gap and its order, energy.
//
//   gap(t) = |th_iterates(t) - th_flow(t)|,     gap = C dt^p: p is the slope of log(largest gap) against log(dt)
//
//   E = |th'|^2/2 + a (1-b) f    momentum, th' = -a m;          E' = -(1-b) |th'|^2
//   E = |th'|^2/2 + a f          Nesterov, th' = -a v, or w;    E' = -(1-b) |th'|^2, or -(3/t) |th'|^2
//   E = f                        the others

import { solve } from "./flow.js";
import { LOSSES } from "./losses.js";
import { METHODS, perUpdate } from "./methods.js";
import { normals } from "./noise.js";

const LEVELS = 4; // dt, dt/2, dt/4, dt/8; one less where that would be many updates
const MANY = 2000;
const KEPT = 700; // most iterates that are kept of a run
const FAR = 1e12; // where iterates count as diverged
const SMOOTH = 600; // least number of points that the flow is drawn with

export const lossOf = (settings) => LOSSES[settings.loss].make(settings);

// z at times 0, every dt, 2 every dt, ...: `points` of them, one after the other; NaN from where it diverges, and when.
export function iterate(settings, loss, updates, every = 1, noise = null) {
  const { size, step } = METHODS[settings.method];
  const h = perUpdate(settings);
  const points = new Float64Array(size * (Math.floor(updates / every) + 1)).fill(NaN);
  const z = new Float64Array(size);
  const g = new Float64Array(2);
  z.set([settings.x, settings.y]);
  points.set(z);
  for (let k = 0; k < updates; k++) {
    loss.gradient(z[0], z[1], g);
    if (noise) {
      g[0] += settings.noise * noise[2 * k];
      g[1] += settings.noise * noise[2 * k + 1];
    }
    step(z, g, k, h);
    if (!(Math.abs(z[0]) + Math.abs(z[1]) < FAR)) return { points, diverged: (k + 1) * settings.dt };
    if ((k + 1) % every === 0) points.set(z, (size * (k + 1)) / every);
  }
  return { points, diverged: null };
}

export function flow(settings, loss, times, tolerances) {
  const { size, rate } = METHODS[settings.method];
  const g = new Float64Array(2);
  const z0 = new Float64Array(size);
  z0.set([settings.x, settings.y]);
  const field = (t, z, out) => {
    loss.gradient(z[0], z[1], g);
    rate(z, g, t, settings, out);
  };
  return solve(field, z0, times, tolerances);
}

// The distances of two rows of points, of which the second has `stride` points to one of the first.
export function gaps(points, others, size, stride, count) {
  const distance = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    const one = size * i;
    const other = size * i * stride;
    distance[i] = Math.hypot(points[one] - others[other], points[one + 1] - others[other + 1]);
  }
  return distance;
}

// The least-squares slope of log(largest gap) against log(dt); NaN where a gap is none.
export function slope(dts, largest) {
  const u = dts.map(Math.log);
  const v = largest.map(Math.log);
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const [mu, mv] = [mean(u), mean(v)];
  const cross = u.reduce((sum, value, i) => sum + (value - mu) * (v[i] - mv), 0);
  return cross / u.reduce((sum, value) => sum + (value - mu) ** 2, 0);
}

export function energy(settings, loss, z, at) {
  const { method, a, b } = settings;
  const f = loss.value(z[at], z[at + 1]);
  const memory = Math.hypot(z[at + 2], z[at + 3]);
  if (method === "momentum" || method === "lecture") return 0.5 * (a * memory) ** 2 + a * (1 - b) * f;
  if (method === "nesterov") return 0.5 * (a * memory) ** 2 + a * f;
  if (method === "nesterov-k") return 0.5 * memory ** 2 + a * f;
  return f;
}

function energies(settings, loss, points, size, count) {
  return Float64Array.from({ length: count }, (_, i) => energy(settings, loss, points, size * i));
}

// Everything that the views draw. Iterates are kept at `count` times after the start, `spacing` apart, which is every
// update unless there are very many; between two of them the flow has `stride` points.
export function experiment(settings) {
  const loss = lossOf(settings);
  const { size } = METHODS[settings.method];
  const made = Math.max(1, Math.floor(settings.time / settings.dt + 1e-9));
  const every = Math.ceil(made / KEPT);
  const count = Math.floor(made / every);
  const spacing = every * settings.dt;
  const stride = Math.max(1, Math.ceil(SMOOTH / count));
  const times = Float64Array.from({ length: count * stride + 1 }, (_, i) => (i * spacing) / stride);
  const path = flow(settings, loss, times, loss.tolerances);
  const common = Math.floor((path.reached - 1) / stride) + 1;
  const halvings = made > MANY ? LEVELS - 1 : LEVELS;
  const noise = settings.noise > 0 ? normals(settings.seed, 2 * made * 2 ** (halvings - 1)) : null;
  const levels = Array.from({ length: halvings }, (_, level) => {
    const finer = { ...settings, dt: settings.dt / 2 ** level };
    const steps = every * 2 ** level;
    const { points, diverged } = iterate(finer, loss, count * steps, steps, noise);
    const distance = gaps(points, path.points, size, stride, common);
    return { dt: finer.dt, points, diverged, distance, largest: distance.reduce((x, y) => Math.max(x, y), 0) };
  });
  const other = settings.both ? { momentum: "lecture", lecture: "momentum" }[settings.method] : undefined;
  return {
    settings, loss, size, every, count, spacing, stride, times, levels,
    iterates: levels[0].points,
    diverged: levels[0].diverged,
    other: other ? iterate({ ...settings, method: other }, loss, count * every, every, noise).points : null,
    flow: path.points,
    reached: path.reached,
    order: slope(levels.map((level) => level.dt), levels.map((level) => level.largest)),
    energy: {
      iterates: energies(settings, loss, levels[0].points, size, count + 1),
      flow: energies(settings, loss, path.points, size, path.reached),
    },
  };
}

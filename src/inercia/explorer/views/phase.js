// The phase plane: one parameter against its memory, which is m, v or w; the gradient where a method has none.

import { axes, frame, inside, line, dots, mark, ticks } from "./plot.js";

const MEMORY = { gd: "g", momentum: "m", lecture: "m", nesterov: "v", "nesterov-k": "w", rmsprop: "v", adam: "m" };
const ROOM = 2.5; // the iterates may take so many times the flow's extent

// Two functions of a point's number: the parameter and the memory.
function coordinates({ size, loss, settings }, points, axis) {
  const g = new Float64Array(2);
  const theta = (i) => points[size * i + axis];
  if (settings.method !== "gd") return [theta, (i) => points[size * i + 2 + axis]];
  return [theta, (i) => {
    loss.gradient(points[size * i], points[size * i + 1], g);
    return g[axis];
  }];
}

function extent(of, count, limits) {
  let [low, high] = [Infinity, -Infinity];
  for (let i = 0; i < count; i++) {
    const value = of(i);
    if (Number.isFinite(value)) [low, high] = [Math.min(low, value), Math.max(high, value)];
  }
  if (!limits) return [low, high];
  const room = ROOM * Math.max(limits[1] - limits[0], 1e-3);
  return [Math.min(limits[0], Math.max(low, limits[0] - room)), Math.max(limits[1], Math.min(high, limits[1] + room))];
}

function padded([low, high]) {
  const room = Math.max(0.08 * (high - low), 1e-3);
  return [low - room, high + room];
}

export function drawPhase(surface, model, { k, axis }) {
  const { ink } = surface;
  const { iterates, flow, every, count, reached, stride, settings } = model;
  const [fx, fy] = coordinates(model, flow, axis);
  const [px, py] = coordinates(model, iterates, axis);
  const x = padded(extent(px, count + 1, extent(fx, reached)));
  const y = padded(extent(py, count + 1, extent(fy, reached)));
  const ax = axes(surface, { x, y, inset: [10, 12, 26, 46] });
  const index = "₁₂"[axis];
  frame(surface, ax, {
    xTicks: ticks(x, 5), yTicks: ticks(y, 5), xName: `θ${index}`, yName: `${MEMORY[settings.method]}${index}`,
  });
  inside(surface, ax, () => {
    line(surface, ax, reached, fx, fy, { colour: ink.flow, width: 4, alpha: 0.6 });
    line(surface, ax, count + 1, px, py, { colour: ink.iterates, width: 0.9, alpha: every > 1 ? 1 : 0.7 });
    if (every === 1) dots(surface, ax, count + 1, px, py, { colour: ink.iterates, radius: 1.9 });
    const i = Math.min(k * stride, reached - 1);
    mark(surface, ax.X(fx(i)), ax.Y(fy(i)), { colour: ink.flow });
    mark(surface, ax.X(px(k)), ax.Y(py(k)), { colour: ink.iterates });
  });
}

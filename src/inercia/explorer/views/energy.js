// The energy, or the loss where a method has none, over time: along the flow it only falls.

import { axes, decades, frame, inside, line, mark, ticks } from "./plot.js";

const MOST = 12; // decades

export function energyAxes(surface, { energy, times }) {
  const start = energy.flow[0];
  let low = Infinity;
  for (const value of energy.flow) if (value > 0) low = Math.min(low, value);
  let high = start;
  for (const value of energy.iterates) if (Number.isFinite(value)) high = Math.max(high, Math.min(value, 1e3 * start));
  const bottom = Math.max(Math.min(low, start / 10), high / 10 ** MOST) / 1.6;
  return axes(surface, { x: [0, times[times.length - 1]], y: [bottom, 2 * high], logY: true, inset: [10, 12, 26, 44] });
}

export function drawEnergy(surface, model, { k, words }) {
  const { ctx, ink } = surface;
  const { energy, spacing, count, stride, times, reached } = model;
  const ax = energyAxes(surface, model);
  frame(surface, ax, { xTicks: ticks(ax.x, 5), yTicks: decades(ax.y, 5), xName: words.time });
  inside(surface, ax, () => {
    line(surface, ax, reached, (i) => times[i], (i) => energy.flow[i], { colour: ink.flow, width: 4, alpha: 0.6 });
    line(surface, ax, count + 1, (i) => i * spacing, (i) => energy.iterates[i], { colour: ink.iterates, width: 1.4 });
    const px = ax.X(k * spacing);
    ctx.strokeStyle = ink.text;
    ctx.lineWidth = 1;
    ctx.beginPath();
    ctx.moveTo(px, ax.top);
    ctx.lineTo(px, ax.bottom);
    ctx.stroke();
    const i = Math.min(k * stride, reached - 1);
    if (energy.flow[i] > 0) mark(surface, ax.X(times[i]), ax.Y(energy.flow[i]), { colour: ink.flow, radius: 4.5 });
    if (energy.iterates[k] > 0) mark(surface, px, ax.Y(energy.iterates[k]), { colour: ink.iterates, radius: 4.5 });
  });
}

const FORMULAS = {
  momentum: "E = |θ'|²/2 + a(1−b) f",
  lecture: "E = |θ'|²/2 + a(1−b) f",
  nesterov: "E = |θ'|²/2 + a f",
  "nesterov-k": "E = |θ'|²/2 + a f",
};

export const energyFormula = (method) => FORMULAS[method] ?? "f(θ)";

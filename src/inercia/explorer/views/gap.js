// The gap between iterates and flow: over time for dt and its halvings, and its largest value against dt, whose slope
// is the order.

import { axes, decades, frame, inside, label, line, mark, text, ticks } from "./plot.js";

const LEAST = 1e-12;

function range(levels) {
  const largest = levels.map((level) => level.largest).filter((value) => value > LEAST && value < 1e6);
  if (!largest.length) return [1e-3, 1];
  const low = Math.log10(Math.min(...largest)) - 0.9;
  const high = Math.log10(Math.max(...largest)) + 0.15;
  return [10 ** low, 10 ** Math.max(high, low + 1.4)];
}

export function gapAxes(surface, model) {
  const y = range(model.levels);
  const split = Math.round(surface.width * 0.62);
  const last = model.times[model.times.length - 1];
  const over = axes(surface, { x: [0, last], y, logY: true, inset: [20, surface.width - split, 26, 44] });
  const dts = model.levels.map((level) => level.dt);
  const [low, high] = [dts[dts.length - 1] / 1.5, dts[0] * 1.5];
  const against = axes(surface, { x: [low, high], y, logX: true, logY: true, inset: [20, 12, 26, split + 14] });
  return { over, against };
}

export function drawGap(surface, model, { k, words }) {
  const { ctx, ink } = surface;
  const { levels, settings, spacing, order } = model;
  const { over, against } = gapAxes(surface, model);
  const yTicks = decades(over.y, 6);
  frame(surface, over, { xTicks: ticks(over.x, 4), yTicks, xName: words.time });
  inside(surface, over, () => {
    levels.forEach(({ distance }, level) => {
      const style = { colour: ink.iterates, width: level ? 1.1 : 2, alpha: 1 - 0.22 * level };
      line(surface, over, distance.length, (i) => i * spacing, (i) => distance[i], style);
    });
    const px = over.X(k * spacing);
    ctx.strokeStyle = ink.text;
    ctx.lineWidth = 1;
    ctx.beginPath();
    ctx.moveTo(px, over.top);
    ctx.lineTo(px, over.bottom);
    ctx.stroke();
    const now = levels[0].distance[k];
    if (now > 0) mark(surface, px, over.Y(now), { colour: ink.iterates, radius: 4.5 });
  });
  text(surface, words.distance, over.left, 8, { colour: ink.muted });
  const names = (value) => (value === settings.dt ? "dt" : `dt/${Math.round(settings.dt / value)}`);
  frame(surface, against, {
    xTicks: levels.map((level) => level.dt), yTicks, xLabel: names, yLabel: () => "",
  });
  text(surface, words.largest, against.left, 8, { colour: ink.muted });
  inside(surface, against, () => {
    if (Number.isFinite(order)) {
      const middle = levels.map(({ largest }) => Math.log(largest)).reduce((sum, v) => sum + v, 0) / levels.length;
      const centre = levels.map(({ dt }) => Math.log(dt)).reduce((sum, v) => sum + v, 0) / levels.length;
      const fit = (dt) => Math.exp(middle + order * (Math.log(dt) - centre));
      line(surface, against, 2, (i) => against.x[i], (i) => fit(against.x[i]), { colour: ink.muted, width: 1, dash: [4, 3] });
    }
    levels.forEach(({ dt, largest }, level) => {
      if (largest > 0) mark(surface, against.X(dt), against.Y(largest), { colour: ink.iterates, radius: level ? 3.6 : 5 });
    });
  });
}

// What stands in the panel's heading.
export function orderReading({ order, levels }, { product, bound }, words) {
  if (levels.some((level) => level.diverged !== null)) return words.noOrder;
  if (product > bound) return words.unstableOrder;
  if (levels[levels.length - 1].largest < 1e-9) return words.rounding;
  return Number.isFinite(order) ? words.order.replace("{p}", label(Number(order.toFixed(2)))) : words.noOrder;
}

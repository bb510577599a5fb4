// The multipliers of one update in the complex plane, with the unit circle that they must not leave, and below them the
// curvatures of the loss on one axis with the bounds of the two orders of momentum.

import { flowMultipliers, bound, multipliers } from "../arithmetic/stability.js";
import { primed } from "../settings.js";
import { axes, decades, font, label, mark, text } from "./plot.js";

const STRIP = 72;
const EXTENT = 1.35; // of the real axis that is shown on each side of 0
const OTHER = { "semi-implicit": "explicit", explicit: "semi-implicit" };

// Pull a point back onto the edge of what is shown.
function pulledBack([re, im], wide, high) {
  const factor = Math.max(1, Math.abs(re) / wide, Math.abs(im) / high);
  return [re / factor, im / factor];
}

export function drawMultipliers(surface, model, { modes, words }) {
  const { ctx, ink, width, height } = surface;
  const tall = height - STRIP;
  const unit = Math.min(width / (2 * EXTENT), tall / 2.3);
  const [cx, cy] = [width / 2, tall / 2 + 2];
  const place = (mu) => {
    const [re, im] = pulledBack(mu, (width / 2 - 8) / unit, (tall / 2 - 6) / unit);
    return [cx + re * unit, cy - im * unit];
  };
  plane(surface, cx, cy, unit, tall);
  const { form, curvatures, time } = modes;
  const other = model.settings.method === "adam" ? undefined : OTHER[form.kind];
  trace(ctx, place, form.kind, form, curvatures[1], ink.iterates);
  if (other) trace(ctx, place, other, form, curvatures[1], ink.other);
  curvatures.forEach((curvature, i) => { // the flow's lie below, larger, so that both are seen where they agree
    if (other) {
      for (const mu of multipliers(other, form.rate * curvature, form.b)) {
        mark(surface, ...place(mu), { colour: ink.other, radius: 3 + i, hollow: true });
      }
    }
    for (const mu of flowMultipliers(model.settings.method, model.settings, curvature, time || model.settings.dt)) {
      mark(surface, ...place(mu), { colour: ink.flow, radius: 6 + i });
    }
    const pair = multipliers(form.kind, form.rate * curvature, form.b);
    for (const mu of form.kind === "GD" ? pair.slice(0, 1) : pair) { // GD has no memory, and its second one is 0
      mark(surface, ...place(mu), { colour: ink.iterates, radius: 4 + i });
    }
  });
  strip(surface, modes, other, (kind) => primed(words[`bound_${kind}`], model.settings));
}

function plane({ ctx, ink }, cx, cy, unit, tall) {
  ctx.beginPath();
  ctx.arc(cx, cy, unit, 0, 2 * Math.PI);
  ctx.fillStyle = ink.stable;
  ctx.fill();
  ctx.strokeStyle = ink.muted;
  ctx.lineWidth = 1.2;
  ctx.stroke();
  ctx.strokeStyle = ink.grid;
  ctx.lineWidth = 1;
  ctx.beginPath();
  ctx.moveTo(cx - EXTENT * unit, Math.round(cy) + 0.5);
  ctx.lineTo(cx + EXTENT * unit, Math.round(cy) + 0.5);
  ctx.moveTo(Math.round(cx) + 0.5, 4);
  ctx.lineTo(Math.round(cx) + 0.5, tall);
  ctx.stroke();
  for (const [value, align, dx] of [[-1, "right", -6], [1, "left", 6]]) {
    text({ ctx, ink }, label(value), cx + value * unit + dx, cy + 10, { colour: ink.muted, align });
  }
}

// Where the multipliers went as the curvature grew from 0.
function trace(ctx, place, kind, { rate, b }, largest, colour) {
  ctx.strokeStyle = colour;
  ctx.globalAlpha = 0.3;
  ctx.lineWidth = 1.5;
  for (const branch of kind === "GD" ? [0] : [0, 1]) {
    ctx.beginPath();
    for (let i = 0; i <= 240; i++) {
      const pair = multipliers(kind, Math.max(0, rate * largest) * (i / 240) ** 2, b);
      const real = pair[0][1] === 0;
      const [high, low] = real && pair[1][0] > pair[0][0] ? [pair[1], pair[0]] : pair;
      ctx.lineTo(...place(branch ? low : high));
    }
    ctx.stroke();
  }
  ctx.globalAlpha = 1;
}

// The curvatures beside the bounds.
function strip(surface, { form, curvatures, bound: own }, other, formula) {
  const { ctx, ink, width, height } = surface;
  const bounds = [{ kind: form.kind, at: own / form.rate, colour: ink.iterates }];
  if (other) bounds.push({ kind: other, at: bound(other, form.b) / form.rate, colour: ink.other });
  const seen = [...curvatures, ...bounds.map(({ at }) => at)].filter((value) => value > 0 && Number.isFinite(value));
  const x = [Math.min(0.3, Math.min(...seen) / 3), Math.max(100, Math.max(...seen) * 4)];
  const ax = axes(surface, { x, y: [0, 1], logX: true, inset: [height - STRIP, 16, 20, 16] });
  const y = height - 21;
  ctx.strokeStyle = ink.muted;
  ctx.lineWidth = 1;
  ctx.beginPath();
  ctx.moveTo(ax.left, y);
  ctx.lineTo(ax.right, y);
  ctx.stroke();
  for (const value of decades(x, 6).filter((decade) => ax.X(decade) < ax.right - 16)) {
    text(surface, label(value, true), ax.X(value), height - 8, { colour: ink.muted, align: "center", size: 10 });
  }
  text(surface, "λ", ax.right + 4, height - 8, { colour: ink.muted, align: "center" });
  bounds.sort((p, q) => p.at - q.at);
  bounds.forEach(({ kind, at, colour }, i) => {
    const px = ax.X(at);
    ctx.strokeStyle = colour;
    ctx.lineWidth = 2;
    ctx.beginPath();
    ctx.moveTo(px, y - 12 - 15 * (bounds.length - 1 - i));
    ctx.lineTo(px, y + 5);
    ctx.stroke();
    const name = `${formula(kind)} = ${label(Number(at.toPrecision(3)))}`;
    ctx.font = font(11);
    const half = ctx.measureText(name).width / 2 + 2;
    const middle = Math.min(width - half, Math.max(half, px));
    text(surface, name, middle, y - 20 - 15 * (bounds.length - 1 - i), { colour: ink.text, align: "center" });
  });
  curvatures.forEach((value, i) => {
    if (value > 0) mark(surface, ax.X(value), y, { colour: ink.text, radius: 3.5 + i });
  });
}

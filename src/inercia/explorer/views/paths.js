// Both paths over the contours of the loss: the iterates as dots, the flow as a broad line.

import { LOSSES } from "../arithmetic/losses.js";
import { drawContours } from "./contours.js";
import { axes, dots, frame, inside, line, mark, text, ticks } from "./plot.js";

let ground = { key: "", picture: null };

export function pathsAxes(surface, { settings }) {
  const [x, y] = LOSSES[settings.loss].view;
  return axes(surface, { x, y, inset: [8, 12, 26, 38] });
}

// The contours change with the loss and the size alone, and are kept.
function background(surface, ax, { settings, loss }) {
  const { width, height, ratio, ink } = surface;
  const { loss: name, l1, l2, angle } = settings;
  const key = [name, name === "quadratic" ? [l1, l2, angle] : "", width, height, ratio, ink.panel].join();
  if (ground.key !== key) {
    const picture = new OffscreenCanvas(Math.max(1, width * ratio), Math.max(1, height * ratio));
    const ctx = picture.getContext("2d");
    ctx.scale(ratio, ratio);
    drawContours({ ctx, ink }, ax, loss, LOSSES[name].view);
    ground = { key, picture };
  }
  return ground.picture;
}

export function drawPaths(surface, model, { k, words }) {
  const { ctx, ink, width, height } = surface;
  const { size, stride, every, count, iterates, flow, reached, diverged, other } = model;
  const ax = pathsAxes(surface, model);
  frame(surface, ax, { xTicks: ticks(ax.x, 6), yTicks: ticks(ax.y, 5), xName: "θ₁", yName: "θ₂" });
  ctx.drawImage(background(surface, ax, model), 0, 0, width, height);
  const of = (points, entry) => (i) => points[size * i + entry];
  inside(surface, ax, () => {
    line(surface, ax, reached, of(flow, 0), of(flow, 1), { colour: ink.flow, width: 5, alpha: 0.6 });
    if (other) {
      line(surface, ax, count + 1, of(other, 0), of(other, 1), { colour: ink.other, width: 1, alpha: 0.8 });
      if (every === 1) dots(surface, ax, count + 1, of(other, 0), of(other, 1), { colour: ink.other, radius: 1.8 });
    }
    line(surface, ax, count + 1, of(iterates, 0), of(iterates, 1), { colour: ink.iterates, width: 1 });
    if (every === 1) dots(surface, ax, count + 1, of(iterates, 0), of(iterates, 1), { colour: ink.iterates, radius: 2.3 });
    const i = Math.min(k * stride, reached - 1);
    const [fx, fy] = [ax.X(flow[size * i]), ax.Y(flow[size * i + 1])];
    const [px, py] = [ax.X(iterates[size * k]), ax.Y(iterates[size * k + 1])];
    if (Number.isFinite(px)) {
      ctx.beginPath();
      ctx.moveTo(fx, fy);
      ctx.lineTo(px, py);
      ctx.strokeStyle = ink.text;
      ctx.setLineDash([2, 3]);
      ctx.lineWidth = 1.2;
      ctx.stroke();
      ctx.setLineDash([]);
    }
    mark(surface, fx, fy, { colour: ink.flow, radius: 5.5 });
    mark(surface, px, py, { colour: ink.iterates, radius: 5.5 });
  });
  if (diverged !== null) {
    const note = words.diverged.replace("{t}", String(Number(diverged.toPrecision(3))));
    text(surface, note, ax.right - 8, ax.top + 14, { colour: ink.text, align: "right", size: 12, weight: 600 });
  }
  if (reached < model.times.length) {
    const note = words.stiff.replace("{t}", String(Number(model.times[reached - 1].toPrecision(3))));
    text(surface, note, ax.right - 8, ax.top + 32, { colour: ink.text, align: "right", size: 12, weight: 600 });
  }
  return ax;
}

// The stability diagram of a method: rate times curvature against b, both of one update, coloured by what the
// multipliers do, with the bounds, and the curve on which the flow is critically damped.

import { bound, multipliers } from "../arithmetic/stability.js";
import { SLIDERS, primed } from "../settings.js";
import { axes, decades, frame, inside, line, mark, text } from "./plot.js";

const PRODUCT = [0.003, 300];
const TOP = 3.2; // -log10(1-b)
const RASTER = [150, 90];
const up = (b) => -Math.log10(1 - b);

let map = { key: "", picture: null };

export function diagramAxes(surface) {
  return axes(surface, { x: PRODUCT, y: [-0.12, TOP], logX: true, inset: [10, 12, 26, 46] });
}

// 0 unstable, 1 falls without turning, 2 turns, 3 changes sign at every update.
function regime(kind, product, b) {
  const [[re, im], [other]] = multipliers(kind, product, b);
  if (Math.hypot(re, im) > 1) return 0;
  if (im !== 0) return 2;
  return re < 0 || other < 0 ? 3 : 1;
}

function regimeMap(surface, kind) {
  const key = `${kind},${surface.ink.panel}`;
  if (map.key !== key) {
    const [columns, rows] = RASTER;
    const picture = new OffscreenCanvas(columns, rows);
    const image = new ImageData(columns, rows);
    for (let j = 0; j < rows; j++) {
      const b = Math.max(0, 1 - 10 ** -(TOP - ((TOP + 0.12) * (j + 0.5)) / rows));
      for (let i = 0; i < columns; i++) {
        const product = PRODUCT[0] * (PRODUCT[1] / PRODUCT[0]) ** ((i + 0.5) / columns);
        image.data.set(surface.ink.regimes[regime(kind, product, b)], 4 * (j * columns + i));
      }
    }
    picture.getContext("2d").putImageData(image, 0, 0);
    map = { key, picture };
  }
  return map.picture;
}

export function drawDiagram(surface, model, { modes, words }) {
  const { ctx, ink } = surface;
  const { method, a, b } = model.settings;
  const { form, curvatures, product } = modes;
  const ax = diagramAxes(surface);
  inside(surface, ax, () => {
    ctx.imageSmoothingEnabled = true;
    ctx.drawImage(regimeMap(surface, form.kind), ax.left, ax.top, ax.right - ax.left, ax.bottom - ax.top);
  });
  frame(surface, ax, {
    xTicks: decades(PRODUCT, 6), yTicks: [0, 0.5, 0.9, 0.99, 0.999].map(up),
    xName: primed("aλ", model.settings), yName: primed("b", model.settings), yLabel: (value) => String(Number((1 - 10 ** -value).toFixed(3))),
  });
  inside(surface, ax, () => {
    const heights = (i) => (TOP * i) / 60;
    const decay = (i) => 1 - 10 ** -heights(i);
    const curve = (of, style) => line(surface, ax, 61, (i) => of(decay(i)), heights, style);
    const both = method === "momentum" || method === "lecture";
    if (both || form.kind !== "explicit") {
      const kind = both ? "semi-implicit" : form.kind;
      curve((beta) => bound(kind, beta), { colour: method === "lecture" ? ink.other : ink.iterates, width: 2 });
    }
    if (both) curve(() => 1, { colour: method === "lecture" ? ink.iterates : ink.other, width: 2 });
    if (method !== "gd" && method !== "rmsprop") {
      const critical = (beta) => (method.startsWith("nesterov") ? (1 - beta) ** 2 / 4 : (1 - beta) / 4);
      curve(critical, { colour: ink.flow, width: 1.5, dash: [3, 3] });
    }
    shrinking(surface, ax, model.settings, curvatures[1], form);
    const y = ax.Y(up(Math.min(form.b, 0.9995)));
    const low = Math.max(PRODUCT[0], form.rate * curvatures[0]);
    ctx.strokeStyle = ink.text;
    ctx.lineWidth = 1;
    ctx.beginPath();
    ctx.moveTo(ax.X(low), y);
    ctx.lineTo(ax.X(Math.max(product, PRODUCT[0])), y);
    ctx.stroke();
    mark(surface, ax.X(low), y, { colour: ink.text, radius: 3.5 });
  });
  text(surface, words.unstable, ax.right - 6, ax.bottom - 12, { colour: ink.muted, align: "right" });
}

// Where the point goes as dt shrinks from 1.
function shrinking(surface, ax, { method, a, b }, curvature, form) {
  if (form.kind === "GD" || method === "nesterov-k") return;
  const { low } = SLIDERS.dt;
  const dt = (i) => low ** (i / 20);
  const product = (i) => a * curvature * dt(i) ** (method === "nesterov" ? 2 : 1);
  line(surface, ax, 21, product, (i) => up(1 - (1 - b) * dt(i)), { colour: surface.ink.text, width: 1, alpha: 0.5, dash: [1, 3] });
}

// Where the handle stands.
export function diagramPoint(surface, { form, product }) {
  const ax = diagramAxes(surface);
  const x = Math.min(PRODUCT[1], Math.max(PRODUCT[0], product));
  return [ax.X(x), ax.Y(Math.min(TOP, up(Math.min(form.b, 0.9999))))];
}

// The a and b at which the handle would stand at a pixel, for a given largest curvature.
export function settingsAt(surface, [px, py], { method, b, dt }, curvature) {
  const ax = diagramAxes(surface);
  const height = Math.max(0, Math.min(TOP, ax.ofY(py)));
  const fixed = method === "gd" || method === "rmsprop" || method === "nesterov-k";
  const decay = fixed ? b : Math.min(SLIDERS.b.high, Math.max(0, 1 - 10 ** -height / dt));
  const rate = Math.min(PRODUCT[1], Math.max(PRODUCT[0], ax.ofX(px))) / curvature;
  return { a: rate / (method.startsWith("nesterov") ? dt * dt : dt), b: decay };
}

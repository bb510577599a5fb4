// Axes on a canvas: scales, ticks, lines. A `surface` is a canvas with its size in CSS pixels and the theme's colours.

const EDGE = 1e5; // pixels; canvases lose what is farther

export const font = (size, weight = 400) => `${weight} ${size}px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif`;

// Scales of a rectangle: X, Y take values to pixels, ofX, ofY back.
export function axes({ width, height }, { x, y, logX = false, logY = false, inset = [8, 10, 24, 44] }) {
  const [top, right, bottom, left] = inset;
  const horizontal = scale(x, left, width - right, logX);
  const vertical = scale(y, height - bottom, top, logY);
  return {
    left, top, right: width - right, bottom: height - bottom, x, y, logX, logY,
    X: horizontal.to, ofX: horizontal.from, Y: vertical.to, ofY: vertical.from,
  };
}

function scale([low, high], from, to, log) {
  const [a, b] = log ? [Math.log10(low), Math.log10(high)] : [low, high];
  const unit = (to - from) / (b - a);
  const near = (pixel) => Math.max(-EDGE, Math.min(EDGE, pixel));
  return {
    to: log ? (v) => near(from + (Math.log10(v) - a) * unit) : (v) => near(from + (v - a) * unit),
    from: log ? (p) => 10 ** (a + (p - from) / unit) : (p) => a + (p - from) / unit,
  };
}

// About n round numbers in [low, high].
export function ticks([low, high], n) {
  const rough = (high - low) / n;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((m) => m * power >= rough) * power;
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
}

// Powers of ten in [low, high], at most n.
export function decades([low, high], n) {
  const first = Math.ceil(Math.log10(low) - 1e-9);
  const last = Math.floor(Math.log10(high) + 1e-9);
  const every = Math.max(1, Math.ceil((last - first + 1) / n));
  return Array.from({ length: Math.floor((last - first) / every) + 1 }, (_, i) => 10 ** (first + i * every));
}

const SUPERSCRIPTS = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

export function label(value, log = false) {
  if (log && (value < 0.00099 || value >= 1e4)) {
    return `10${[...String(Math.round(Math.log10(value)))].map((sign) => SUPERSCRIPTS[sign]).join("")}`;
  }
  return String(Number(value.toPrecision(6))).replace("-", "−");
}

// Grid, tick labels and the names of the axes.
export function frame({ ctx, ink }, ax, { xTicks, yTicks, xName = "", yName = "", xLabel, yLabel }) {
  ctx.font = font(11);
  ctx.lineWidth = 1;
  ctx.strokeStyle = ink.grid;
  ctx.fillStyle = ink.muted;
  ctx.beginPath();
  for (const value of xTicks) {
    const px = Math.round(ax.X(value)) + 0.5;
    ctx.moveTo(px, ax.top);
    ctx.lineTo(px, ax.bottom);
  }
  for (const value of yTicks) {
    const py = Math.round(ax.Y(value)) + 0.5;
    ctx.moveTo(ax.left, py);
    ctx.lineTo(ax.right, py);
  }
  ctx.stroke();
  ctx.textAlign = "center";
  ctx.textBaseline = "top";
  const nameWidth = ctx.measureText(xName).width + 8;
  for (const value of xTicks) {
    const [px, name] = [ax.X(value), (xLabel ?? label)(value, ax.logX)];
    if (!xName || px + ctx.measureText(name).width / 2 < ax.right - nameWidth) ctx.fillText(name, px, ax.bottom + 6);
  }
  ctx.textAlign = "right";
  ctx.fillText(xName, ax.right, ax.bottom + 6);
  ctx.textBaseline = "middle";
  for (const value of yTicks) {
    const py = ax.Y(value);
    if (!yName || py > ax.top + 16) ctx.fillText((yLabel ?? label)(value, ax.logY), ax.left - 6, py);
  }
  if (yName) {
    ctx.textBaseline = "top";
    ctx.fillText(yName, ax.left - 6, ax.top);
  }
}

// Draw inside the axes only.
export function inside({ ctx }, ax, draw) {
  ctx.save();
  ctx.beginPath();
  ctx.rect(ax.left, ax.top, ax.right - ax.left, ax.bottom - ax.top);
  ctx.clip();
  draw();
  ctx.restore();
}

// A line through `count` points (xOf(i), yOf(i)); points that are not finite, or not above 0 on a log axis, part it.
export function line({ ctx }, ax, count, xOf, yOf, { colour, width = 1.5, alpha = 1, dash = [] }) {
  ctx.beginPath();
  let drawing = false;
  for (let i = 0; i < count; i++) {
    const [vx, vy] = [xOf(i), yOf(i)];
    const seen = Number.isFinite(vx + vy) && (!ax.logX || vx > 0) && (!ax.logY || vy > 0);
    if (seen && drawing) ctx.lineTo(ax.X(vx), ax.Y(vy));
    else if (seen) ctx.moveTo(ax.X(vx), ax.Y(vy));
    drawing = seen;
  }
  ctx.globalAlpha = alpha;
  ctx.strokeStyle = colour;
  ctx.lineWidth = width;
  ctx.lineJoin = "round";
  ctx.setLineDash(dash);
  ctx.stroke();
  ctx.setLineDash([]);
  ctx.globalAlpha = 1;
}

// Dots at all points, in one path.
export function dots({ ctx }, ax, count, xOf, yOf, { colour, radius = 2.2 }) {
  ctx.beginPath();
  for (let i = 0; i < count; i++) {
    const [px, py] = [ax.X(xOf(i)), ax.Y(yOf(i))];
    if (Number.isFinite(px + py)) {
      ctx.moveTo(px + radius, py);
      ctx.arc(px, py, radius, 0, 2 * Math.PI);
    }
  }
  ctx.fillStyle = colour;
  ctx.fill();
}

// One marked point: filled, or hollow on the panel's colour.
export function mark({ ctx, ink }, px, py, { colour, radius = 5, hollow = false }) {
  if (!Number.isFinite(px + py)) return;
  ctx.beginPath();
  ctx.arc(px, py, radius, 0, 2 * Math.PI);
  ctx.fillStyle = hollow ? ink.panel : colour;
  ctx.strokeStyle = hollow ? colour : ink.panel;
  ctx.lineWidth = hollow ? 2 : 1.5;
  ctx.fill();
  ctx.stroke();
}

// Text with a halo of the panel's colour, so that lines below do not disturb it.
export function text({ ctx, ink }, string, px, py, { colour, align = "left", base = "middle", size = 11, weight = 400 }) {
  ctx.font = font(size, weight);
  ctx.textAlign = align;
  ctx.textBaseline = base;
  ctx.lineJoin = "round";
  ctx.lineWidth = 3;
  ctx.strokeStyle = ink.panel;
  ctx.strokeText(string, px, py);
  ctx.fillStyle = colour;
  ctx.fillText(string, px, py);
}

// Contours of a loss: level lines by marching squares over a grid of values, above a shade that deepens towards minima.
//
// The levels are quantiles of the values, closer together where the loss is small: the floor of a valley and its walls
// both get lines.

const SQUARES = 120;
const LINES = 14;

// Values of the loss on a grid of (SQUARES + 1)^2 points, row by row from below.
export function gridOf(loss, [[x0, x1], [y0, y1]]) {
  const values = new Float64Array((SQUARES + 1) ** 2);
  for (let j = 0, n = 0; j <= SQUARES; j++) {
    const y = y0 + ((y1 - y0) * j) / SQUARES;
    for (let i = 0; i <= SQUARES; i++, n++) values[n] = loss.value(x0 + ((x1 - x0) * i) / SQUARES, y);
  }
  return values;
}

export function levelsOf(values) {
  const sorted = values.filter((_, i) => i % 7 === 0).sort();
  return Array.from({ length: LINES }, (_, i) => {
    const share = (0.02 + (0.96 * i) / (LINES - 1)) ** 1.5;
    return sorted[Math.floor(share * (sorted.length - 1))];
  });
}

// The segments of one level, as x1, y1, x2, y2, ... in cells.
function segments(values, level) {
  const found = [];
  const cross = (a, b) => (level - a) / (b - a);
  for (let j = 0; j < SQUARES; j++) {
    for (let i = 0; i < SQUARES; i++) {
      const n = j * (SQUARES + 1) + i;
      const [a, b, c, d] = [values[n], values[n + 1], values[n + SQUARES + 2], values[n + SQUARES + 1]];
      const above = (a > level) + (b > level) + (c > level) + (d > level);
      if (above === 0 || above === 4) continue;
      const ends = [];
      if (a > level !== b > level) ends.push(i + cross(a, b), j);
      if (b > level !== c > level) ends.push(i + 1, j + cross(b, c));
      if (c > level !== d > level) ends.push(i + cross(d, c), j + 1);
      if (d > level !== a > level) ends.push(i, j + cross(a, d));
      found.push(...ends);
    }
  }
  return found;
}

// Draw shade and lines over the rectangle of the axes.
export function drawContours({ ctx, ink }, ax, loss, view) {
  const values = gridOf(loss, view);
  const levels = levelsOf(values);
  shade(ctx, ax, values, levels, ink);
  const X = (cell) => ax.left + ((ax.right - ax.left) * cell) / SQUARES;
  const Y = (cell) => ax.bottom - ((ax.bottom - ax.top) * cell) / SQUARES;
  ctx.beginPath();
  for (const level of levels) {
    const ends = segments(values, level);
    for (let i = 0; i < ends.length; i += 4) {
      ctx.moveTo(X(ends[i]), Y(ends[i + 1]));
      ctx.lineTo(X(ends[i + 2]), Y(ends[i + 3]));
    }
  }
  ctx.strokeStyle = ink.contour;
  ctx.lineWidth = 0.8;
  ctx.stroke();
}

function shade(ctx, ax, values, levels, ink) {
  const small = new OffscreenCanvas(SQUARES + 1, SQUARES + 1);
  const image = new ImageData(SQUARES + 1, SQUARES + 1);
  const [red, green, blue] = ink.shade;
  for (let j = 0; j <= SQUARES; j++) {
    for (let i = 0; i <= SQUARES; i++) {
      const value = values[(SQUARES - j) * (SQUARES + 1) + i];
      let below = 0;
      while (below < levels.length && value > levels[below]) below++;
      const part = below === 0 || below === levels.length ? 0
        : (value - levels[below - 1]) / (levels[below] - levels[below - 1] || 1);
      const depth = 1 - Math.max(0, below - 1 + part) / levels.length;
      image.data.set([red, green, blue, 130 * depth * depth], 4 * (j * (SQUARES + 1) + i));
    }
  }
  small.getContext("2d").putImageData(image, 0, 0);
  ctx.imageSmoothingEnabled = true;
  ctx.drawImage(small, ax.left, ax.top, ax.right - ax.left, ax.bottom - ax.top);
}

// A loss given by its values and derivatives on a grid: the biquintic Hermite polynomial on each cell.
//
//   f(x, y) = sum_{corner, i, j} B_i(u) B_j(v) h^i k^j d_x^i d_y^j f,     u, v in [0, 1] across a cell of h by k
//
// B_0, B_1, B_2 of the left end are 1 - 10 u^3 + 15 u^4 - 6 u^5, u - 6 u^3 + 8 u^4 - 3 u^5 and u^2 (1 - u)^3 / 2; those of
// the right end are their mirror images. Outside of the grid the loss goes on by its Taylor polynomial of second degree
// at the border, as far as the grid is wide, and is no number beyond. It is shown above its least value on the grid.

// The basis functions at u in a cell of size h, in one array: end, number i, derivative d, so that 9 end + 3 i + d.
function basis(u, h, out) {
  for (let end = 0; end < 2; end++) {
    const t = end ? 1 - u : u;
    const [t2, t3, t4, t5] = [t * t, t * t * t, t * t * t * t, t * t * t * t * t];
    const sign = end ? -1 : 1; // of what is odd in i + d
    const at = 9 * end;
    out[at] = 1 - 10 * t3 + 15 * t4 - 6 * t5;
    out[at + 1] = (sign * (-30 * t2 + 60 * t3 - 30 * t4)) / h;
    out[at + 2] = (-60 * t + 180 * t2 - 120 * t3) / (h * h);
    out[at + 3] = sign * h * (t - 6 * t3 + 8 * t4 - 3 * t5);
    out[at + 4] = 1 - 18 * t2 + 32 * t3 - 15 * t4;
    out[at + 5] = (sign * (-36 * t + 96 * t2 - 60 * t3)) / h;
    out[at + 6] = 0.5 * h * h * (t2 - 3 * t3 + 3 * t4 - t5);
    out[at + 7] = sign * h * (t - 4.5 * t2 + 6 * t3 - 2.5 * t4);
    out[at + 8] = 1 - 9 * t + 18 * t2 - 10 * t3;
  }
}

function numbersOf(packed) {
  const bytes = Uint8Array.from(atob(packed), (sign) => sign.charCodeAt(0));
  return new Float64Array(bytes.buffer);
}

export function sampledLoss({ view: [[x0, x1], [y0, y1]], count, nodes: packed }) {
  const nodes = numbersOf(packed);
  const [h, k] = [(x1 - x0) / (count - 1), (y1 - y0) / (count - 1)];
  const jet = new Float64Array(6); // f, f_x, f_y, f_xx, f_xy, f_yy
  const [across, upward] = [new Float64Array(18), new Float64Array(18)];

  // The jet at a point of the grid; sums across first, then upward.
  function fill(x, y) {
    const i = Math.min(count - 2, Math.floor((x - x0) / h));
    const j = Math.min(count - 2, Math.floor((y - y0) / k));
    basis((x - x0) / h - i, h, across);
    basis((y - y0) / k - j, k, upward);
    jet.fill(0);
    for (let v = 0; v < 18; v += 3) {
      const row = 9 * ((j + (v < 9 ? 0 : 1)) * count + i) + (v % 9);
      let [f, fx, fxx] = [0, 0, 0];
      for (let u = 0; u < 18; u += 3) {
        const value = nodes[u < 9 ? row + u / 3 : row + 6 + u / 3];
        f += value * across[u];
        fx += value * across[u + 1];
        fxx += value * across[u + 2];
      }
      jet[0] += f * upward[v];
      jet[1] += fx * upward[v];
      jet[2] += f * upward[v + 1];
      jet[3] += fxx * upward[v];
      jet[4] += fx * upward[v + 1];
      jet[5] += f * upward[v + 2];
    }
  }

  // Fill the jet at the nearest point of the grid, x and y of which are returned.
  function nearest(x, y) {
    const [cx, cy] = [Math.min(x1, Math.max(x0, x)), Math.min(y1, Math.max(y0, y))];
    const lost = Math.abs(x - cx) > x1 - x0 || Math.abs(y - cy) > y1 - y0 || Number.isNaN(x + y);
    if (lost) jet.fill(NaN);
    else fill(cx, cy);
    return [cx, cy];
  }

  const least = leastValue(nodes, count, [x0, y0], [h, k], nearest, jet);
  return {
    value(x, y) {
      const [cx, cy] = nearest(x, y);
      const [dx, dy] = [x - cx, y - cy];
      const beyond = jet[1] * dx + jet[2] * dy + 0.5 * (jet[3] * dx * dx + 2 * jet[4] * dx * dy + jet[5] * dy * dy);
      return jet[0] - least + beyond;
    },
    gradient(x, y, g) {
      const [cx, cy] = nearest(x, y);
      g[0] = jet[1] + jet[3] * (x - cx) + jet[4] * (y - cy);
      g[1] = jet[2] + jet[4] * (x - cx) + jet[5] * (y - cy);
    },
    hessian(x, y) {
      nearest(x, y);
      return [jet[3], jet[4], jet[5]];
    },
    tolerances: { rtol: 1e-9, atol: 1e-11 }, // the polynomial is no closer to the loss
  };
}

// The smallest value on the grid, by Newton's method from the lowest node.
function leastValue(nodes, count, [x0, y0], [h, k], nearest, jet) {
  let lowest = 0;
  for (let n = 0; n < count * count; n++) if (nodes[9 * n] < nodes[9 * lowest]) lowest = n;
  let [x, y] = [x0 + h * (lowest % count), y0 + k * Math.floor(lowest / count)];
  let least = nodes[9 * lowest];
  for (let i = 0; i < 20; i++) {
    [x, y] = nearest(x, y);
    least = Math.min(least, jet[0]);
    const [, fx, fy, fxx, fxy, fyy] = jet;
    const determinant = fxx * fyy - fxy * fxy;
    if (!(determinant > 0) || Math.abs(fx) + Math.abs(fy) < 1e-14) break;
    x -= (fyy * fx - fxy * fy) / determinant;
    y -= (fxx * fy - fxy * fx) / determinant;
  }
  return least;
}

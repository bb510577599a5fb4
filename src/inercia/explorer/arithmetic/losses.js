// Losses of two parameters, with gradient and Hessian by hand; their smallest value is 0.
//
//   ravine     (x^2 + 20 y^2) / 2
//   wells      (x^2 - 1)^2 / 4 + (y - x/2)^2 / 2         two minima, a saddle between them
//   valley     (1 - x)^2 / 2 + 5 (y - x^2)^2             Rosenbrock's curved valley, softened
//   quadratic  (l1 p^2 + l2 q^2) / 2                     p, q: the axes turned by `angle` degrees
//   neuron     mean_i (y tanh(x u_i) - 3/2 tanh(u_i))^2 / 2,   u = 1/2, 1, 2
//              a network with one hidden neuron, of input weight x and output weight y
//
// A Hessian is [f_xx, f_xy, f_yy]. `view` is the stretch of x and y that is drawn, `rate` suits momentum with b = 0.9.

const INPUTS = [0.5, 1, 2];
const TEACHER = INPUTS.map((u) => 1.5 * Math.tanh(u));

function quadraticForm({ l1, l2, angle }) {
  const c = Math.cos((angle * Math.PI) / 180);
  const s = Math.sin((angle * Math.PI) / 180);
  return [l1 * c * c + l2 * s * s, (l1 - l2) * c * s, l1 * s * s + l2 * c * c];
}

function quadratic(shape) {
  const [a, b, d] = quadraticForm(shape);
  return {
    value: (x, y) => 0.5 * (a * x * x + 2 * b * x * y + d * y * y),
    gradient: (x, y, g) => { g[0] = a * x + b * y; g[1] = b * x + d * y; },
    hessian: () => [a, b, d],
  };
}

const wells = {
  value: (x, y) => 0.25 * (x * x - 1) ** 2 + 0.5 * (y - 0.5 * x) ** 2,
  gradient: (x, y, g) => { const r = y - 0.5 * x; g[0] = x * (x * x - 1) - 0.5 * r; g[1] = r; },
  hessian: (x) => [3 * x * x - 1 + 0.25, -0.5, 1],
};

const valley = {
  value: (x, y) => 0.5 * (1 - x) ** 2 + 5 * (y - x * x) ** 2,
  gradient: (x, y, g) => { const r = y - x * x; g[0] = x - 1 - 20 * x * r; g[1] = 10 * r; },
  hessian: (x, y) => [1 - 20 * y + 60 * x * x, -20 * x, 10],
};

// With h = tanh(x u), e = y h - target and h' = u (1 - h^2): f_x = e y h', f_y = e h, h'' = -2 u h h'.
const neuron = {
  value(x, y) {
    let sum = 0;
    for (let i = 0; i < INPUTS.length; i++) sum += (y * Math.tanh(x * INPUTS[i]) - TEACHER[i]) ** 2;
    return sum / (2 * INPUTS.length);
  },
  gradient(x, y, g) {
    g[0] = 0;
    g[1] = 0;
    for (let i = 0; i < INPUTS.length; i++) {
      const h = Math.tanh(x * INPUTS[i]);
      const e = (y * h - TEACHER[i]) / INPUTS.length;
      g[0] += e * y * INPUTS[i] * (1 - h * h);
      g[1] += e * h;
    }
  },
  hessian(x, y) {
    const sum = [0, 0, 0];
    for (let i = 0; i < INPUTS.length; i++) {
      const h = Math.tanh(x * INPUTS[i]);
      const slope = INPUTS[i] * (1 - h * h);
      const e = y * h - TEACHER[i];
      sum[0] += (y * slope) ** 2 - 2 * e * y * INPUTS[i] * h * slope;
      sum[1] += (y * h + e) * slope;
      sum[2] += h * h;
    }
    return sum.map((entry) => entry / INPUTS.length);
  },
};

export const LOSSES = {
  ravine: { make: () => quadratic({ l1: 1, l2: 20, angle: 0 }), start: [-2, 0.5], rate: 0.3, view: [[-2.9, 2.9], [-1.7, 1.7]] },
  wells: { make: () => wells, start: [-0.2, 1.5], rate: 0.5, view: [[-2.1, 2.1], [-1.6, 2.1]] },
  valley: { make: () => valley, start: [-0.6, 0.9], rate: 0.05, view: [[-1.9, 2.1], [-1.1, 2.9]] },
  quadratic: { make: quadratic, start: [-2, 1], rate: 0.3, view: [[-3, 3], [-2.2, 2.2]] },
  neuron: { make: () => neuron, start: [2.5, -1.5], rate: 0.5, view: [[-3.2, 3.6], [-3, 3]] },
};

// The eigenvalues of a Hessian, the smaller first.
export function eigenvalues([a, b, d]) {
  const middle = (a + d) / 2;
  const half = Math.hypot((a - d) / 2, b);
  return [middle - half, middle + half];
}

// Seven methods: one update, and the flow that it follows, in inercia's clock (one update advances time by dt).
//
//   gd          th+ = th - a g                                              th' = -a g
//   momentum    m+ = b m + (1-b) g,  th+ = th - a m+                        m' = (1-b)(g - m),  th' = -a m
//   lecture     th+ = th - a m (the old m),  m+ = b m + (1-b) g             the same
//   nesterov    v+ = b v + g,  th+ = th - a (b v+ + g)                      v' = g - (1-b) v,  th' = -a v
//   nesterov-k  w+ = c_{k-1} w - a g,  th+ = th + c_k w+ - a g              w' = -(3/t) w - a g,  th' = w
//               with c_k = k/(k+3): Nesterov's own (k-1)/(k+2)
//   rmsprop     v+ = b2 v + (1-b2) g^2,  th+ = th - a g / sqrt(v+ + eps)    v' = (1-b2)(g^2 - v),  th' = -a g / sqrt(v + eps)
//   adam        m+, v+ as above,  th+ = th - a mh / (sqrt(vh) + eps)        mh = m / (1 - e^{-(1-b)t}),  vh likewise
//               with mh = m+ / (1 - b^k), vh = v+ / (1 - b2^k), k from 1
//
// Refined by dt: b -> 1 - (1-b) dt, a -> a dt. A point z is [th, th, memory...]. `step` moves z in place, on a gradient
// and settings h that are refined already; `rate` writes z' of the flow, on settings that are not.

export const refined = (decay, dt) => 1 - (1 - decay) * dt;

// The settings of one update: what `step` reads.
export function perUpdate({ a, b, b2, eps, dt }) {
  return { a: a * dt, b: refined(b, dt), b2: refined(b2, dt), eps, dt };
}

function momentumRate(z, g, t, { a, b }, out) {
  for (let i = 0; i < 2; i++) {
    out[i] = -a * z[2 + i];
    out[2 + i] = (1 - b) * (g[i] - z[2 + i]);
  }
}

const gd = {
  size: 2,
  step(z, g, k, { a }) { for (let i = 0; i < 2; i++) z[i] -= a * g[i]; },
  rate(z, g, t, { a }, out) { for (let i = 0; i < 2; i++) out[i] = -a * g[i]; },
};

const momentum = {
  size: 4,
  step(z, g, k, { a, b }) {
    for (let i = 0; i < 2; i++) {
      z[2 + i] = b * z[2 + i] + (1 - b) * g[i];
      z[i] -= a * z[2 + i];
    }
  },
  rate: momentumRate,
};

const lecture = {
  size: 4,
  step(z, g, k, { a, b }) {
    for (let i = 0; i < 2; i++) {
      z[i] -= a * z[2 + i];
      z[2 + i] = b * z[2 + i] + (1 - b) * g[i];
    }
  },
  rate: momentumRate,
};

const nesterov = {
  size: 4,
  step(z, g, k, { a, b, dt }) {
    for (let i = 0; i < 2; i++) {
      z[2 + i] = dt * g[i] + b * z[2 + i];
      z[i] -= a * (dt * g[i] + b * z[2 + i]);
    }
  },
  rate(z, g, t, { a, b }, out) {
    for (let i = 0; i < 2; i++) {
      out[i] = -a * z[2 + i];
      out[2 + i] = g[i] - (1 - b) * z[2 + i];
    }
  },
};

const nesterovK = {
  size: 4,
  step(z, g, k, { a, dt }) { // a is a dt, so that a dt is the published step a, refined to a dt^2
    for (let i = 0; i < 2; i++) {
      z[2 + i] = (Math.max(k - 1, 0) / (k + 2)) * z[2 + i] - a * g[i];
      z[i] += (k / (k + 3)) * dt * z[2 + i] - a * dt * g[i];
    }
  },
  rate(z, g, t, { a }, out) { // at t = 0 the friction's limit leaves a quarter of the force
    for (let i = 0; i < 2; i++) {
      out[i] = z[2 + i];
      out[2 + i] = t > 0 ? (-3 / t) * z[2 + i] - a * g[i] : -0.25 * a * g[i];
    }
  },
};

const rmsprop = {
  size: 4,
  step(z, g, k, { a, b2, eps }) {
    for (let i = 0; i < 2; i++) {
      z[2 + i] = b2 * z[2 + i] + (1 - b2) * g[i] * g[i];
      z[i] -= (a * g[i]) / Math.sqrt(z[2 + i] + eps);
    }
  },
  rate(z, g, t, { a, b2, eps }, out) {
    for (let i = 0; i < 2; i++) {
      out[i] = (-a * g[i]) / Math.sqrt(z[2 + i] + eps);
      out[2 + i] = (1 - b2) * (g[i] * g[i] - z[2 + i]);
    }
  },
};

const adam = {
  size: 6,
  step(z, g, k, { a, b, b2, eps }) {
    const ofM = 1 - b ** (k + 1);
    const ofV = 1 - b2 ** (k + 1);
    for (let i = 0; i < 2; i++) {
      z[2 + i] = b * z[2 + i] + (1 - b) * g[i];
      z[4 + i] = b2 * z[4 + i] + (1 - b2) * g[i] * g[i];
      z[i] -= (a * z[2 + i]) / ofM / (Math.sqrt(z[4 + i] / ofV) + eps);
    }
  },
  rate(z, g, t, { a, b, b2, eps }, out) { // at t = 0 the averages are 0/0: their limits are g and g^2
    const ofM = -Math.expm1(-(1 - b) * t);
    const ofV = -Math.expm1(-(1 - b2) * t);
    for (let i = 0; i < 2; i++) {
      const m = t > 0 ? z[2 + i] / ofM : g[i];
      const v = t > 0 ? Math.max(z[4 + i], 0) / ofV : g[i] * g[i];
      out[i] = (-a * m) / (Math.sqrt(v) + eps);
      out[2 + i] = (1 - b) * (g[i] - z[2 + i]);
      out[4 + i] = (1 - b2) * (g[i] * g[i] - z[4 + i]);
    }
  },
};

// `reads` names the settings beside a that a method has.
export const METHODS = {
  gd: { ...gd, reads: [] },
  momentum: { ...momentum, reads: ["b"] },
  lecture: { ...lecture, reads: ["b"] },
  nesterov: { ...nesterov, reads: ["b"] },
  "nesterov-k": { ...nesterovK, reads: [] },
  rmsprop: { ...rmsprop, reads: ["b2", "eps"] },
  adam: { ...adam, reads: ["b", "b2", "eps"] },
};

// What the gradient is divided by, per parameter, at a point of the iterates after k updates or of the flow at time t.
export function preconditioner(method, z, { b2, eps }, decayed) {
  if (method === "rmsprop") return [0, 1].map((i) => Math.sqrt(z[2 + i] + eps));
  if (method === "adam") return [0, 1].map((i) => Math.sqrt(Math.max(z[4 + i], 0) / (1 - decayed)) + eps);
  return [1, 1];
}

// The flow, solved by the explicit Runge-Kutta pair of Dormand and Prince, of order 5 with an error estimate of order 4.
//
//   k_s = f(t + c_s h, z + h sum_r A_sr k_r),   z+ = z + h sum_s B_s k_s,   error = h sum_s E_s k_s
//
// The step is h (1 / |error|)^{1/5}, with |error| the root mean square of error / (atol + rtol |z|), and it is cut to end
// on each time that is asked for. Source: Dormand & Prince 1980; Hairer, Norsett & Wanner, section II.5.

const C = [0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1];
const A = [
  [],
  [1 / 5],
  [3 / 40, 9 / 40],
  [44 / 45, -56 / 15, 32 / 9],
  [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729],
  [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656],
  [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84],
];
const E = [71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40];

export const TOLERANCES = { rtol: 1e-11, atol: 1e-13 };

// Solve z' = f(t, z), f(t, z, out) writing into out, from z0 at times[0]. Returns the points at `times`, one after the
// other in one array; `reached` of them, fewer where the solution grows without bound or more than `most` steps are
// needed, as a stiff flow does.
export function solve(f, z0, times, { rtol, atol } = TOLERANCES, most = 20000) {
  const n = z0.length;
  const points = new Float64Array(n * times.length);
  points.set(z0);
  const k = A.map(() => new Float64Array(n));
  const z = Float64Array.from(z0);
  const trial = new Float64Array(n);
  let t = times[0];
  let usual = (times[times.length - 1] - t) / 1000;
  let steps = 0;
  f(t, z, k[0]);
  for (let point = 1; point < times.length; point++) {
    while (t < times[point]) {
      const last = t + 1.0001 * usual >= times[point];
      const h = last ? times[point] - t : usual;
      const size = attempt(f, t, z, h, k, trial, rtol, atol);
      if (++steps > most || h < 1e-14 * Math.abs(t)) return { points, reached: point, steps };
      const factor = Number.isFinite(size) ? Math.min(5, Math.max(0.2, 0.9 * size ** -0.2)) : 0.1;
      if (size <= 1) {
        t = last ? times[point] : t + h;
        z.set(trial);
        k[0].set(k[6]); // the last stage is the first of the next step
        usual = last ? Math.max(usual, h * factor) : h * factor;
      } else {
        usual = h * factor;
      }
    }
    if (!(Math.abs(z[0]) + Math.abs(z[1]) < 1e9)) return { points, reached: point, steps };
    points.set(z, n * point);
  }
  return { points, reached: times.length, steps };
}

// One step of size h into `trial`; returns the size of its error.
function attempt(f, t, z, h, k, trial, rtol, atol) {
  const n = z.length;
  for (let s = 1; s < 7; s++) {
    const row = A[s];
    for (let i = 0; i < n; i++) {
      let sum = 0;
      for (let r = 0; r < s; r++) sum += row[r] * k[r][i];
      trial[i] = z[i] + h * sum;
    }
    f(t + C[s] * h, trial, k[s]);
  }
  let total = 0;
  for (let i = 0; i < n; i++) {
    let error = 0;
    for (let s = 0; s < 7; s++) error += E[s] * k[s][i];
    const scale = atol + rtol * Math.max(Math.abs(z[i]), Math.abs(trial[i]));
    total += ((h * error) / scale) ** 2;
  }
  return Math.sqrt(total / n);
}

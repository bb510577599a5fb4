// The two modes of the loss at one time of an experiment: their curvatures, and what an update makes of them.
//
// Curvatures are eigenvalues of the Hessian where the flow stands. For methods that divide by the root of a second
// moment they are those of P^{-1/2} H P^{-1/2} where the iterates stand, P their preconditioner: it is the iterates'
// oscillation that holds P up. On a mode of negative curvature iterates grow, and so does the flow: a saddle.

import { eigenvalues } from "./losses.js";
import { preconditioner, refined } from "./methods.js";
import { bound, growth, linearForm } from "./stability.js";

export const isAdaptive = (method) => method === "rmsprop" || method === "adam";

// k counts the iterates that are kept.
export function modesAt({ settings, loss, size, stride, every, count, iterates, flow, reached }, k) {
  const { method, b2, dt } = settings;
  const point = Math.min(count, Math.max(k, isAdaptive(method) ? 1 : 0)); // at 0 the second moment is 0/0
  const made = point * every;
  const stepped = iterates.subarray(size * point, size * (point + 1));
  const followed = Math.min(point * stride, reached - 1);
  const onIterates = isAdaptive(method) && Number.isFinite(stepped[0]);
  const z = onIterates ? stepped : flow.subarray(size * followed, size * (followed + 1));
  const decayed = onIterates ? refined(b2, dt) ** made : Math.exp(-(1 - b2) * made * dt);
  const [p, q] = preconditioner(method, z, settings, decayed);
  const [xx, xy, yy] = loss.hessian(z[0], z[1]);
  const curvatures = eigenvalues([xx / p, xy / Math.sqrt(p * q), yy / q]);
  const form = linearForm(method, settings, made);
  const product = form.rate * curvatures[1];
  const largest = bound(form.kind, form.b); // of the product
  const factor = Math.max(...curvatures.map((l) => growth(form.kind, form.rate * l, form.b)));
  const verdict = product > largest ? "unstable" : factor > 1 + 1e-12 ? "saddle" : "stable";
  return { form, curvatures, time: made * dt, bound: largest, product, factor, verdict };
}

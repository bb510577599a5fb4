// Settings that each show one thing: named in strings.js, as story_...

export const STORIES = {
  // The two orders of momentum end in different wells; their flow is one.
  orders: { loss: "wells", method: "lecture", a: 0.5, both: true },
  // a lambda = 1.1: above the lecture's bound, far below that of the other order; the flow does not mind.
  edge: { loss: "ravine", method: "lecture", a: 0.055, both: true, x: -2, y: 0.5 },
  // From v = 0 the flow begins with a layer in which the iterates approach it at half the order.
  cold: { loss: "quadratic", method: "rmsprop", a: 0.05, b2: 0.9, x: -2, y: 1, dt: 0.25, time: 20 },
  // The second moment falls until the preconditioned curvature stands at its bound; the iterates oscillate there.
  adam: { loss: "quadratic", method: "adam", a: 0.1, b: 0.5, b2: 0.9, x: -2, y: 1, time: 120 },
  // A gradient with noise: more and smaller updates average it out, at the order 1/2.
  noise: { loss: "quadratic", method: "gd", a: 0.03, noise: 2, seed: 4, x: -2, y: 1, dt: 0.5 },
};

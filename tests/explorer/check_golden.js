// What follows the joined arithmetic: compares it with `golden`, the entries of golden.json, and returns the verdict.
//
// A number may differ by 1e-9 of the largest number beside it, or 1e-9 where that is below 1.

function difference(found, expected) {
  const [a, b] = [[found].flat(3), [expected].flat(3)];
  if (a.length !== b.length) return Infinity;
  const scale = Math.max(1, ...b.map(Math.abs));
  return Math.max(...a.map((value, i) => (Number.isFinite(value) ? Math.abs(value - b[i]) / scale : Infinity)));
}

function differences({ setting, answers }) {
  const loss = lossOf(setting);
  const { size } = METHODS[setting.method];
  const g = new Float64Array(2);
  loss.gradient(setting.x, setting.y, g);
  const { points } = iterate(setting, loss, setting.updates);
  const last = setting.updates * setting.dt;
  const solved = flow(setting, loss, [0, 0.4 * last, last]).points;
  const form = linearForm(setting.method, setting);
  const found = {
    loss: loss.value(setting.x, setting.y),
    gradient: [...g],
    hessian: loss.hessian(setting.x, setting.y),
    iterates: [...points.slice(-size)],
    flow: [[...solved.slice(size, 2 * size)], [...solved.slice(2 * size)]],
    multipliers: multipliers(form.kind, form.rate * setting.curvature, form.b),
    threshold: bound(form.kind, form.b) / form.rate,
    energy: energy(setting, loss, points, points.length - size),
  };
  return Object.fromEntries(Object.keys(answers).map((key) => [key, difference(found[key], answers[key])]));
}

function verdict(golden) {
  const worst = {};
  for (const entry of golden) {
    for (const [key, value] of Object.entries(differences(entry))) worst[key] = Math.max(worst[key] ?? 0, value);
  }
  return JSON.stringify({ entries: golden.length, worst });
}

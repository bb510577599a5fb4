// A surface: a canvas with its size in CSS pixels and the colours of the theme, ready to be drawn on.

const COLOURS = ["panel", "text", "muted", "grid", "contour", "iterates", "flow", "other"];
const REGIMES = ["unstable", "monotone", "turning", "flipping"]; // as the diagram numbers them

// The colours of the theme that is on.
export function inkOf(element) {
  const style = getComputedStyle(element);
  const read = (name) => style.getPropertyValue(`--${name}`).trim();
  const numbers = (name) => read(name).split(/[\s/]+/).map(Number);
  const ink = Object.fromEntries(COLOURS.map((name) => [name, read(name)]));
  const regimes = REGIMES.map((name) => numbers(name)).map(([r, g, b, part]) => [r, g, b, Math.round(255 * part)]);
  return { ...ink, stable: read("inside"), shade: numbers("shade"), regimes };
}

// The surfaces of all panels by name; `changed` is called when one is resized.
export function surfaces(names, changed) {
  const found = {};
  const observer = new ResizeObserver((entries) => {
    for (const { target, contentRect } of entries) {
      const surface = found[target.closest(".panel").id];
      resize(surface, target, contentRect.width, contentRect.height);
    }
    changed();
  });
  for (const name of names) {
    const canvas = document.querySelector(`#${name} canvas`);
    found[name] = { ctx: canvas.getContext("2d"), canvas, width: 0, height: 0, ratio: 1, ink: null };
    resize(found[name], canvas, canvas.clientWidth, canvas.clientHeight);
    observer.observe(canvas);
  }
  return found;
}

function resize(surface, canvas, width, height) {
  const ratio = Math.min(2, window.devicePixelRatio || 1);
  Object.assign(surface, { width, height, ratio });
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
}

export function cleared(surface, ink) {
  const { ctx, ratio, width, height } = surface;
  ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
  ctx.clearRect(0, 0, width, height);
  surface.ink = ink;
  return surface;
}

// What is dragged: a round button above a canvas, by mouse, finger, pen or arrow keys; and times picked on an axis.

const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// Call `moved([px, py])` with where a handle is dragged to, in pixels of its canvas. A click on the canvas moves it too.
export function handle(button, canvas, { moved, taken = () => {} }) {
  let grip = null; // from the pointer to the handle's centre
  const within = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  button.addEventListener("pointerdown", (event) => {
    const [px, py] = within(event);
    grip = [button.at[0] - px, button.at[1] - py];
    button.setPointerCapture(event.pointerId);
    taken();
  });
  button.addEventListener("pointermove", (event) => {
    if (!grip) return;
    const [px, py] = within(event);
    moved([px + grip[0], py + grip[1]]);
  });
  for (const end of ["pointerup", "pointercancel"]) button.addEventListener(end, () => { grip = null; });
  button.addEventListener("keydown", (event) => {
    const way = KEYS[event.key];
    if (!way) return;
    event.preventDefault();
    taken();
    const far = event.shiftKey ? 20 : 4;
    moved([button.at[0] + far * way[0], button.at[1] + far * way[1]]);
  });
  canvas.addEventListener("click", (event) => {
    taken();
    moved(within(event));
  });
}

export function place(button, [px, py]) {
  button.at = [px, py];
  button.style.transform = `translate(${px}px, ${py}px)`;
}

// Call `picked(px)` while a pointer is down on a canvas.
export function timePicker(canvas, picked) {
  const pick = (event) => picked(event.clientX - canvas.getBoundingClientRect().left);
  canvas.addEventListener("pointerdown", pick);
  canvas.addEventListener("pointermove", (event) => { if (event.buttons) pick(event); });
  canvas.style.cursor = "crosshair";
}

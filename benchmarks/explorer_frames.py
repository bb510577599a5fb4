"""Frames a second of the explorer while its handles are dragged, measured in a browser without a window.

    python benchmarks/explorer_frames.py [browser]

Pointer moves are made at every frame; what counts is the time between frames (`requestAnimationFrame`) and the time
that computing and drawing one takes. Needs a browser of the Chromium family and a machine that does nothing else.
"""

import http.server
import json
import shutil
import subprocess
import sys
import tempfile
import threading

from inercia.explorer.page import page

SETTINGS = (
    "",
    "loss=ravine&method=lecture&a=0.055&both=true&x=-2&y=0.5",
    "loss=valley&method=nesterov-k&a=0.005&x=-0.6&y=0.9",
    "loss=quadratic&method=adam&a=0.1&x=-2&y=1",
    "loss=neuron&method=rmsprop&a=0.05&x=2.5&y=-1.5",
    "dt=0.03125&time=120",
)
FRAMES = 240
MEASURE = """
<script>
const next = requestAnimationFrame.bind(window);
const [intervals, work] = [[], []];
window.requestAnimationFrame = (draw) => next((now) => {
  const start = performance.now();
  draw(now);
  work.push(performance.now() - start);
});
const quantiles = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  return [0.5, 0.95, 1].map((q) => sorted[Math.floor(q * (sorted.length - 1))]);
};
async function drag(selector) {
  const handle = document.querySelector(selector);
  handle.setPointerCapture = () => {};
  const box = handle.getBoundingClientRect();
  const [x, y] = [box.left + 22, box.top + 22];
  const fire = (type, clientX, clientY) => handle.dispatchEvent(
    new PointerEvent(type, { clientX, clientY, pointerId: 1, bubbles: true, buttons: 1 }));
  fire("pointerdown", x, y);
  intervals.length = work.length = 0;
  let before = await new Promise(next);
  for (let i = 0; i < FRAMES; i++) {
    const angle = (2 * Math.PI * i) / 120;
    fire("pointermove", x + 60 * Math.sin(angle), y + 40 * (1 - Math.cos(angle)));
    const now = await new Promise(next);
    intervals.push(now - before);
    before = now;
  }
  fire("pointerup", x, y);
  const mean = intervals.reduce((sum, value) => sum + value, 0) / intervals.length;
  return { fps: 1000 / mean, interval: quantiles(intervals), work: quantiles(work) };
}
addEventListener("load", () => setTimeout(async () => {
  const start = await drag("#paths .handle");
  fetch("/result", { method: "POST", body: JSON.stringify({ start, diagram: await drag("#diagram .handle") }) });
}, 800));
</script>
</body>
"""


def measured(browser: str, settings: str) -> dict:
    """Return what the page measured on itself."""
    html = page().replace("</body>", MEASURE.replace("FRAMES", str(FRAMES))).encode()
    results: list[dict] = []
    arrived = threading.Event()

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(html)

        def do_POST(self) -> None:
            results.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()
            arrived.set()

        def log_message(self, *_) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server, tempfile.TemporaryDirectory() as profile:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/#{settings}"
        flags = ["--headless", "--no-sandbox", "--window-size=1400,900", f"--user-data-dir={profile}"]
        process = subprocess.Popen([browser, *flags, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            if not arrived.wait(120):
                raise RuntimeError(f"the page at #{settings} measured nothing within two minutes")
        finally:
            process.terminate()
            process.wait()
            server.shutdown()
    return results[0]


def main() -> None:
    """Print a table."""
    browser = sys.argv[1] if len(sys.argv) > 1 else shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("no browser: name one, as in python benchmarks/explorer_frames.py /usr/bin/chromium")
    print("milliseconds: median, 95 %, largest\n")
    print(f"{'settings':<58}{'handle':<9}{'fps':>6}{'between frames':>22}{'compute and draw':>22}")
    for settings in SETTINGS:
        for name, found in measured(browser, settings).items():
            interval, work = (", ".join(f"{value:.1f}" for value in found[key]) for key in ("interval", "work"))
            print(f"{settings or 'as it opens':<58}{name:<9}{found['fps']:>6.1f}{interval:>22}{work:>22}")


if __name__ == "__main__":
    main()

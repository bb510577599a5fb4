"""Rows that are read from files during the training, beside the same rows held in memory."""

import tempfile
import threading
import time
from pathlib import Path

import jax
import numpy as np

import inercia as ia
from timing import Goal, Section, interleaved, ratio, table

WIDTHS = [784, 512, 512, 10]


def run(fast: bool = False) -> Section:
    """Time an epoch over four mapped shards and over the same rows in memory; watch the memory of the former."""
    rows = 8_192 if fast else 65_536
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((rows, WIDTHS[0]), dtype=np.float32), rng.integers(0, 10, rows).astype(np.int32)
    network, method = ia.mlp(WIDTHS), ia.adam(1e-3)
    loss, params = ia.risk(network, "cross-entropy"), network.init(jax.random.key(0))
    lines, goals = [], []
    with tempfile.TemporaryDirectory() as folder:
        for k in range(4):
            part = slice(k * rows // 4, (k + 1) * rows // 4)
            np.savez(Path(folder) / f"{k}.npz", x=x[part], y=y[part])
        mapped = ia.shards(f"{folder}/*.npz")
        held = (jax.device_put(x), jax.device_put(y))
        for batch in (256, 1024):

            def call(data, batch=batch):
                return lambda: ia.train(method, loss, params, data, epochs=1, batch_size=batch, key=0).params

            seconds, _ = interleaved({"memory": call(held), "files": call(mapped)}, 3 if fast else 7)
            before, stop, peak = _own(), threading.Event(), [0.0]
            threading.Thread(target=_watch, args=(stop, peak), daemon=True).start()
            jax.block_until_ready(call(mapped)())
            stop.set()
            median, shown = ratio(seconds, "memory", "files")
            rates = {name: rows / np.median(times) for name, times in seconds.items()}
            lines.append(
                [str(batch), f"{rates['memory']:,.0f}", f"{rates['files']:,.0f}", shown, f"{peak[0] - before:.0f}"]
            )
            goals.append(
                Goal(f"rows from files, batch {batch}: share of the rate in memory", "≥ 0.9", shown, median >= 0.9)
            )
    head = ["batch", "memory, rows/s", "files, rows/s", "files / memory (range)", "MiB more at the peak, files"]
    text = f"{'-'.join(map(str, WIDTHS))}, Adam, {rows:,} rows, {x.nbytes / 2**20:.0f} MiB in four shards.\n\n"
    return Section("Data in files", text + table(head, lines), goals)


def _own() -> float:
    """Return the process's own memory in MiB, mapped files not counted."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


def _watch(stop: threading.Event, peak: list[float]) -> None:
    while not stop.is_set():
        peak[0] = max(peak[0], _own())
        time.sleep(0.005)

"""Rows that are read from files during the training, beside the same rows held in memory."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

import inercia as ia
from timing import Goal, Section, interleaved, ratio, table

WIDTHS = [784, 512, 512, 10]
NETWORK = ia.mlp(WIDTHS)
METHOD, LOSS = ia.adam(1e-3), ia.risk(NETWORK, "cross-entropy")
PARAMS = NETWORK.init(jax.random.key(0))

# The process's own memory: mapped files, which the system can drop at any time, are not counted.
MEMORY = """
import sys, threading, time, jax, numpy as np, inercia as ia
def own():
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("RssAnon"))
def watch():
    while True:
        peak[0] = max(peak[0], own())
        time.sleep(0.002)
network = ia.mlp([784, 512, 512, 10])
risk, params = ia.risk(network, "cross-entropy"), network.init(jax.random.key(0))
data = ia.shards(sys.argv[2])
if sys.argv[1] == "memory":
    data = tuple(data.take(which, np.arange(len(data))) for which in (0, 1))
peak = [0.0]
threading.Thread(target=watch, daemon=True).start()
jax.block_until_ready(ia.train(ia.adam(1e-3), risk, params, data, epochs=1, batch_size=256, key=0).params)
print(peak[0])
"""


def run(fast: bool = False) -> Section:
    """Time an epoch over mapped shards and over the same rows in memory; weigh processes that do either."""
    rows = 8_192 if fast else 65_536
    lines, weights, goals = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        x, y = _write(folder, rows)
        mapped, held = ia.shards(f"{folder}/*.npz"), (jax.device_put(x), jax.device_put(y))
        for batch in (256, 1024):
            own = {"batch_size": batch, "key": 0}
            calls = {
                "memory": partial(_train, lambda: held, own),
                "files": partial(_train, lambda: mapped, own),
                "iterator": partial(_train, partial(_cut, x, y, batch), {}),
            }
            seconds, _ = interleaved(calls, 3 if fast else 9)
            lines.append([str(batch)] + [f"{rows / np.median(times):,.0f}" for times in seconds.values()])
            for name in ("files", "iterator"):
                median, shown = ratio(seconds, "memory", name)
                lines[-1].append(shown)
                title = f"rows from {'files' if name == 'files' else 'an iterator'}, batch {batch}"
                goals.append(Goal(f"{title}: share of the rate in memory", "≥ 0.9", shown, median >= 0.9))
    peaks = {}
    for many in (rows, 4 * rows):
        with tempfile.TemporaryDirectory() as folder:
            size = sum(part.nbytes for part in _write(folder, many)) / 2**20
            peaks[many] = [_peak(where, f"{folder}/*.npz") for where in ("memory", "files")]
            weights.append([f"{many:,}", f"{size:.0f}", *(f"{peak:.0f}" for peak in peaks[many])])
    more = peaks[4 * rows][1] - peaks[rows][1]
    goals.append(Goal("rows from files: more memory for four times the rows, MiB", "≤ 64", f"{more:.0f}", more <= 64))
    text = f"{'-'.join(map(str, WIDTHS))}, Adam, {rows:,} rows in four shards.\n\n"
    names = ["memory", "files", "iterator"]
    head = ["batch", *(f"{name}, rows/s" for name in names), *(f"{name} / memory (range)" for name in names[1:])]
    text += table(head, lines)
    text += "\nPeak of a process's own memory in an epoch at batch 256, compilation included:\n\n"
    text += table(["rows", "data, MiB", "held in memory, MiB", "from files, MiB"], weights)
    return Section("Data in files", text, goals)


def _train(data: Callable[[], Any], options: dict) -> Any:
    return ia.train(METHOD, LOSS, PARAMS, data(), epochs=1, **options).params


def _cut(x: np.ndarray, y: np.ndarray, batch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    return ((x[k : k + batch], y[k : k + batch]) for k in range(0, len(x), batch))


def _write(folder: str, rows: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((rows, WIDTHS[0]), dtype=np.float32), rng.integers(0, 10, rows).astype(np.int32)
    for k, part in enumerate(np.array_split(np.arange(rows), 4)):
        np.savez(Path(folder) / f"{k}.npz", x=x[part], y=y[part])
    return x, y


def _peak(where: str, files: str) -> float:
    done = subprocess.run([sys.executable, "-c", MEMORY, where, files], check=True, text=True, stdout=subprocess.PIPE)
    return float(done.stdout)

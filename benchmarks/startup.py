"""What is paid before the first step: import, compilation, and what the persistent cache saves; and memory."""

import os
import subprocess
import sys
import tempfile
import time

import numpy as np

from timing import Goal, Section, ratio, table

FIRST = """
import time, jax, inercia as ia
train, _ = ia.digits()
network = ia.mlp([64, 128, 128, 10])
loss, params = ia.risk(network, "cross-entropy"), network.init(jax.random.key(0))
start = time.perf_counter()
jax.block_until_ready(ia.train(ia.adam(1e-3), loss, params, train, epochs=1, batch_size=128, key=0).params)
print(time.perf_counter() - start)
"""

MEMORY = """
import sys, jax, jax.numpy as jnp, inercia as ia
train, _ = ia.digits()
network = ia.mlp([64, 512, 512, 10])
risk, params = ia.risk(network, "cross-entropy"), network.init(jax.random.key(0))
x, y = jnp.asarray(train.x), jnp.asarray(train.y)
if sys.argv[1] == "train":
    ia.train(ia.adam(1e-3), risk, params, train, epochs=int(sys.argv[2]), batch_size=128, key=0)
elif sys.argv[1] == "iterate":
    ia.iterate(ia.adam(1e-3), lambda p: risk(p, (x[:64], y[:64])), params, 100, every=int(sys.argv[2]))
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak.split()[1]) / 1024)
"""


def run(fast: bool) -> Section:
    """Time imports, first calls and peak memory, each in a process of its own."""
    seconds = {"import jax, optax": [], "import inercia": []}
    for _ in range(3 if fast else 9):
        for statement, times in seconds.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", statement], check=True)
            times.append(time.perf_counter() - start)
    seconds = {name: np.array(times) for name, times in seconds.items()}
    value, shown = ratio(seconds, "import inercia", "import jax, optax")
    rows = [[name, f"{np.median(times):.2f}"] for name, times in seconds.items()]

    with tempfile.TemporaryDirectory() as cache:
        cached = {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        rows.append(["first training of 11 steps, nothing cached", f"{_child(FIRST):.2f}"])
        rows.append(["the same, filling the persistent cache", f"{_child(FIRST, environment=cached):.2f}"])
        rows.append(["the same, from the persistent cache", f"{_child(FIRST, environment=cached):.2f}"])

    idle = _child(MEMORY, "nothing", "0")
    size = (64 * 512 + 512 + 512 * 512 + 512 + 512 * 10 + 10) * 4 / 2**20
    peaks = [
        [name, f"{_child(MEMORY, *arguments) - idle:.0f}"]
        for name, arguments in (
            ("train, 5 epochs", ("train", "5")),
            ("train, 50 epochs", ("train", "50")),
            ("iterate, 100 Adam steps, every = 1", ("iterate", "1")),
            ("iterate, 100 Adam steps, every = 10", ("iterate", "10")),
            ("iterate, 100 Adam steps, every = 100", ("iterate", "100")),
        )
    ]
    text = table(["", "seconds"], rows)
    text += (
        "\nThe persistent cache is JAX's: set `JAX_COMPILATION_CACHE_DIR` (and "
        "`JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0`, because these programs compile quickly).\n\n"
        f"Peak memory above that of the imports, network of {size:.1f} MiB in float32 (the path is in float64, and "
        "Adam's state is twice the params: 6 times as much per point):\n\n"
    )
    text += table(["", "MiB"], peaks)
    goal = Goal("import inercia / import jax + optax", "≤ 1.2×", shown, value <= 1.2)
    return Section("Before the first step", text, [goal])


def _child(code: str, *arguments: str, environment: dict | None = None) -> float:
    out = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=True, capture_output=True, text=True, env=os.environ | (environment or {}),
    )  # fmt: skip
    return float(out.stdout.split()[-1])

"""How time and memory of an update of the central flow grow: with critical eigenvalues, parameters and rows.

Run alone: `python benchmarks/central_growth.py` writes RESULTS_GROWTH.md, or its parts after which series are named.
One quantity goes through its values while the others are held. The loss is a sum of m valleys, whose walls stand at the
edge of stability from the start on, so that exactly m eigenvalues are critical, and of the loss of a network on rows,
far below the edge, which makes parameters and work. Every point is a process of its own, so that its peak memory is.
Exponents are least squares on logarithms, over all values and over the last two.

The peer is central_flows_jax, see central.py: where it is named, its updates are timed too, in its float32, as long as
they take less than `PATIENCE`.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import inercia as ia
from central import peers_flow
from timing import load, machine, table

#: m, hidden width and rows. P = h^2 + 10 h + 1 + 2 m.
SERIES = {
    "critical eigenvalues": [(m, 94, 128) for m in (1, 2, 4, 8, 16)],
    "parameters": [(2, h, 128) for h in (28, 94, 310, 994)],
    "rows": [(2, 28, rows) for rows in (100, 1000, 10000)],
}
RATE = 0.5  # the edge is at the curvature 2 / RATE = 4 = 1 + x^2
FIRST, UPDATES = 8, 32  # those before the clock starts, where intervals are short, and those that are timed
PATIENCE = 300  # seconds


def problem(m: int, hidden: int, rows: int):
    """Return a loss in the precision of its params, and where it has m critical eigenvalues."""
    network = ia.mlp([8, hidden, hidden, 1], "swish")
    of_x, of_w = jax.random.split(jax.random.key(0))
    x = np.asarray(jax.random.normal(of_x, (rows, 8)))
    walls = np.array([np.sqrt(3.0) - 1e-4 * np.arange(1, m + 1), np.full(m, 0.1)])

    def loss(params):
        a, b = params["valleys"]
        given = x.astype(b.dtype)
        apart = network.apply(params["network"], given)[:, 0] - given[:, 0]
        return ((1 + a**2) * b**2 / 2 + 0.002 * (a - 3) ** 2).sum() + 0.01 * jnp.mean(apart**2)

    return loss, {"valleys": walls, "network": network.init(of_w)}


def point(m: int, hidden: int, rows: int) -> dict:
    """Measure a point, in this process."""
    loss, params = problem(m, hidden, rows)

    def run(n):
        return ia.central(ia.sgd(RATE), loss, params, n, k=m, every=n)

    run(FIRST)
    programs = jax.devices()[0].client.live_executables()
    plans = [p.get_compiled_memory_stats() for p in programs if p.hlo_modules()[0].name == "jit_advance"]
    seconds, path = {FIRST: [], FIRST + UPDATES: []}, None
    for _ in range(3 if hidden < 300 and rows < 10000 else 1):
        for n, spent in seconds.items():
            began = time.process_time()
            path = run(n)
            spent.append(time.process_time() - began)
    assert path is not None
    # Not the rank of X, which is not unique where eigenvalues are equal.
    critical = path.observed["sharpness"][-1] > 0.999 * ia.threshold(ia.sgd(RATE)).bound
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "critical eigenvalues": int(critical.sum()),
        "rows": rows,
        "cpu": (min(seconds[FIRST + UPDATES]) - min(seconds[FIRST])) / UPDATES,
        "gradient": gradient(loss, params),
        "planned": max(p.temp_size_in_bytes + p.output_size_in_bytes + p.argument_size_in_bytes for p in plans) / 2**20,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def gradient(loss: Any, params: Any) -> float:
    """Return the CPU time of one gradient in float64."""
    with jax.enable_x64(True):
        at = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), params)
        slope = jax.jit(jax.grad(loss))
        spent = []
        for calls in (1, 5, 20, 20):
            began = time.process_time()
            for _ in range(calls):
                jax.block_until_ready(slope(at))
            spent.append((time.process_time() - began) / calls)
    return min(spent)


def peers_point(m: int, hidden: int, rows: int) -> dict:
    """Return the CPU time of an update of the peer."""
    loss, params = problem(m, hidden, rows)
    start, rebuild = ravel_pytree(params)
    steps = peers_flow(lambda w: loss(rebuild(w)), RATE, m)
    if steps is None:
        return {}
    steps("central", start, 1)
    began = time.process_time()
    steps("central", start, 1)
    return {"peer": time.process_time() - began}


def measured(mode: str, given: tuple[int, ...]) -> dict:
    """Measure one point in a process of its own; nothing where that fails or takes too long."""
    command = [sys.executable, __file__, mode, *map(str, given)]
    try:
        out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=PATIENCE).stdout
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        return {}
    return json.loads(out.splitlines()[-1])


def exponents(x: list, y: list) -> str:
    """Return the exponent of y in x, over all values and over the last two."""
    x, y = np.log(x), np.log(y)
    return f"{np.polyfit(x, y, 1)[0]:.2f} over all, {(y[-1] - y[-2]) / (x[-1] - x[-2]):.2f} over the last two"


def told(name: str) -> str:
    """Measure a series; return its table and exponents."""
    tried = [(given, measured("point", given)) for given in SERIES[name]]
    found, failed = [got for _, got in tried if got], [str(given) for given, got in tried if not got]
    compared = name == "parameters"
    peers = [measured("peers_point", given).get("peer") for given, got in tried if got] if compared else []
    head = ["parameters", "critical", "rows", "CPU ms an update", "in gradients", "MiB planned", "MiB at the peak"]
    rows = [
        [f"{p['parameters']:,}", f"{p['critical eigenvalues']}", f"{p['rows']:,}", f"{p['cpu'] * 1e3:.3g}",
         f"{p['cpu'] / p['gradient']:.0f}", f"{p['planned']:.3g}", f"{p['peak']:.0f}"]
        for p in found
    ]  # fmt: skip
    if compared:
        head.append("central_flows_jax, CPU ms")
        rows = [[*row, "not run" if p is None else f"{p * 1e3:.3g}"] for row, p in zip(rows, peers, strict=True)]
    x, there = [p[name] for p in found], [n for n, p in enumerate(peers) if p is not None]
    text = f"{table(head, rows)}\nCPU time: exponent {exponents(x, [p['cpu'] for p in found])}"
    text += f"; memory as planned: {exponents(x, [p['planned'] for p in found])}"
    if there[1:]:
        text += f"; central_flows_jax, CPU time: {exponents([x[n] for n in there], [peers[n] for n in there])}"
    text += f". Without a result (critical, hidden, rows): {', '.join(failed)}" if failed else ""
    return text + ".\n"


def main(names: list[str]) -> None:
    """Measure the series that are named, or all, and write them beside what the file has of the others."""
    out = Path(__file__).parent / "RESULTS_GROWTH.md"
    parts = (
        dict(part.split("\n", 1) for part in out.read_text(encoding="utf-8").split("\n## ")[1:]) if out.exists() else {}
    )
    for name in names or SERIES:
        stamp = f"{machine()} {load()}"
        parts[name] = f"\n*{stamp}*\n\n{told(name)}"
        print(parts[name], flush=True)
    body = "\n".join(f"## {name}\n{parts[name].rstrip()}\n" for name in SERIES if name in parts)
    out.write_text(HEAD.format(UPDATES, FIRST) + body, encoding="utf-8")


HEAD = """# Growth of the central flow

Written by `benchmarks/central_growth.py`.

Gradient descent, float64, 4 substeps an update; {} updates are timed after {}, in CPU time, because other work may run
beside. "In gradients": over the CPU time of one gradient. "Planned": arrays of the compiled loop, by the compiler. "At
the peak": of the process, of which JAX and its compiler take some 700 MiB.

"""
MODES = {"point": point, "peers_point": peers_point}
if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in MODES:
        print(json.dumps(MODES[sys.argv[1]](*map(int, sys.argv[2:]))))
    else:
        main(sys.argv[1:])

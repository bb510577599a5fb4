"""One update of the central flow, of the stable flow, and of gradient descent with its five largest eigenvalues.

The peer is the public JAX implementation, central_flows_jax, which is on no package index: clone it, name the folder of
its sources in CENTRAL_FLOWS_JAX, and install cvxpy and cvxopt. It runs in its own precision, float32; ours in float64.
"""

import os
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import inercia as ia
from timing import Goal, Section, interleaved, ratio, table

RATE, K, SUBSTEPS = 0.1, 5, 4


def problem(hidden: int, rows: int = 128, seed: int = 0):
    """Return a loss of one vector, in the precision of that vector, and a start: labels of pure noise."""
    network = ia.mlp([8, hidden, hidden, 1], "swish")
    of_x, of_y, of_w = jax.random.split(jax.random.key(seed), 3)
    x, y = (np.asarray(jax.random.normal(key, shape)) for key, shape in ((of_x, (rows, 8)), (of_y, (rows,))))
    params = network.init(of_w)

    def loss(w):
        return jnp.mean((network.apply(_split(w, params), x.astype(w.dtype))[:, 0] - y.astype(w.dtype)) ** 2)

    return loss, np.asarray(ravel_pytree(params)[0])


def _split(w, like):
    """Return w as a tree, in its own precision, which ravel_pytree would undo."""
    leaves, structure = jax.tree.flatten(like)
    ends = np.cumsum([leaf.size for leaf in leaves])
    parts = [w[end - leaf.size : end].reshape(leaf.shape) for leaf, end in zip(leaves, ends, strict=True)]
    return jax.tree.unflatten(structure, parts)


def run(fast: bool) -> Section:
    """Time updates before and at the edge, and how they grow with parameters and eigenvalues."""
    loss, start = problem(16)
    method, steps = ia.sgd(RATE), 20 if fast else 200
    long = 60 if fast else 600
    path = ia.central(method, loss, start, long, k=K, substeps=SUBSTEPS)
    watch = {"sharpness": ia.sharpness(method, loss, K)}
    seen = path.observed["sharpness"][:, 0]
    edge = int(np.argmax(seen > 1.99)) if (seen > 1.99).any() else long
    peer = peers_flow(loss, RATE, K)
    goals, rows = [], []
    for where, begin in (("before the edge", start), ("at the edge", path.params[min(edge + 50, long)])):
        calls = {
            "inercia, central flow": lambda w=begin: ia.central(method, loss, w, steps, k=K, substeps=SUBSTEPS).loss,
            "inercia, stable flow": lambda w=begin: ia.central(method, loss, w, steps, k=K, stable=True).loss,
            "inercia, iterates": lambda w=begin: ia.iterate(method, loss, w, steps, observe=watch).loss,
        }
        if peer is not None:
            for name in ("central", "stable", "discrete"):
                label = "peer, " + {"discrete": "iterates"}.get(name, f"{name} flow")
                calls[label] = lambda w=begin, name=name: peer(name, w, steps)[0]
        seconds, _ = interleaved(calls, 3 if fast else 7)
        for name, each in seconds.items():
            ours = name.replace("peer", "inercia")
            speed = "" if ours == name else ratio(seconds, name, ours)[1] + "×"
            rows.append([where, name, f"{np.median(each) / steps * 1e3:.2f}", speed])
        if peer is not None:
            speed, text = ratio(seconds, "peer, central flow", "inercia, central flow")
            goals.append(Goal(f"central flow {where}, against central_flows_jax", "≥ 10×", text, speed >= 10))
    text = f"433 parameters, 128 rows, k = {K}, {SUBSTEPS} substeps, {steps} updates a call; checks and the first\n"
    text += "eigenvectors are in ours.\n\n" + table(["", "", "ms per update", "as long as ours"], rows)
    if peer is None:
        text += "\nThe peer was not there: name its sources in CENTRAL_FLOWS_JAX.\n"
    else:
        theirs = np.asarray(peer("central", start, long)[0])
        apart = np.linalg.norm(theirs - path.params[-1]) / np.linalg.norm(theirs - path.params[0])
        text += f"\nAfter {long} updates the trajectories are {apart:.1e} of the displacement apart.\n"
        goals.append(Goal("central flow: equal to central_flows_jax's", "≤ 1e-3", f"{apart:.1e}", bool(apart <= 1e-3)))
    return Section("The central flow", text + "\n" + _growth(fast), goals)


def peers_flow(loss, rate: float, k: int):
    """Return (flow, start, steps) -> (params, ...) of the peer, or None."""
    folder = os.environ.get("CENTRAL_FLOWS_JAX")
    if not folder:
        return None
    if not (Path(folder) / "central_flows_jax").is_dir():
        raise ValueError(f"CENTRAL_FLOWS_JAX must hold the package central_flows_jax, but it is {folder}.")
    sys.path.insert(0, folder)
    from central_flows_jax import Flow, GradientDescent  # noqa: PLC0415  the peer of this file alone

    rule = GradientDescent(lr=rate)
    flow = Flow(loss, rule)

    def steps(name, begin, count):
        w = jnp.asarray(begin, float)
        now = (w, rule.init(w), jax.random.normal(jax.random.key(0), (len(w), k), w.dtype))
        for _ in range(count):
            now, told = getattr(flow, name)(*now)
            jax.block_until_ready(told)
        return now

    return steps


def _growth(fast: bool) -> str:
    rows = []
    sizes = ((16, 1, 51), (16, 2, 51), (16, 5, 51), (16, 10, 51), (28, 1, 51), (94, 1, 21), (310, 1, 6), (994, 1, 2))
    for hidden, k, steps in sizes:
        if fast and hidden > 28:
            continue
        loss, start = problem(hidden)
        # A rate that puts the start at the edge, so that every substep carries the oscillation.
        method = ia.sgd(1.99 / float(ia.curvature(loss, start, tol=1e-2, iterations=500).values[0]))
        calls = {
            n: lambda m=method, f=loss, w=start, k=k, n=n: ia.central(m, f, w, n, k=k, every=n).loss for n in (1, steps)
        }
        seconds, _ = interleaved(calls, 1 if hidden > 100 else 3)
        each = np.median(seconds[steps] - seconds[1]) / (steps - 1)  # without the start's eigenvectors
        rows.append([f"{start.size:,}", str(k), f"{each * 1e3:.1f}", f"{np.median(seconds[1]) - 2 * each:.2f}"])
    head = ["parameters", "k", "ms per update", "s for the start's eigenvectors"]
    return "Growth, 128 rows, every substep at the edge:\n\n" + table(head, rows)

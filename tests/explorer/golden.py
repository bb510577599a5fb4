"""What the explorer's arithmetic must equal: random settings, computed by inercia.

    python tests/explorer/golden.py 200        # writes tests/explorer/golden.json anew, in about ten minutes

Each entry holds a setting and what inercia makes of it: the point after `updates` iterates, the flow at two times
(rtol 1e-13), multipliers and threshold on a curvature, loss, gradient, Hessian at the start, energy. A setting whose
iterates or flow multiply a change of the start more than a thousandfold, or leave the page, is passed over: there two
correct programs differ by more than 1e-9 through rounding alone.
"""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import inercia as ia
from inercia.explorer.notebook import method_of
from inercia.problems.toy_losses import PROBLEMS

FILE = Path(__file__).with_name("golden.json")
METHODS = ("gd", "momentum", "lecture", "nesterov", "nesterov-k", "rmsprop", "adam")
INPUTS = np.array([0.5, 1.0, 2.0])  # float64, whatever the global flag


def loss_of(setting):
    """Return the loss, written with jax.numpy."""
    name, angle = setting["loss"], np.deg2rad(setting["angle"])
    if name in PROBLEMS:
        return PROBLEMS[name].loss
    if name == "neuron":
        return lambda p: 0.5 * jnp.mean((p[1] * jnp.tanh(p[0] * INPUTS) - 1.5 * np.tanh(INPUTS)) ** 2)

    def quadratic(p):
        along = p[0] * np.cos(angle) + p[1] * np.sin(angle)
        across = -p[0] * np.sin(angle) + p[1] * np.cos(angle)
        return 0.5 * (setting["l1"] * along**2 + setting["l2"] * across**2)

    return quadratic


def drawn(rng):
    """Return a random setting."""
    name = str(rng.choice(["ravine", "wells", "valley", "quadratic", "neuron"]))
    method = str(rng.choice(METHODS))
    low, high = (0.01, 0.3) if method in ("nesterov", "nesterov-k", "rmsprop", "adam") else (0.02, 2.0)
    return {
        "loss": name, "method": method,
        "l1": _log(rng, 0.2, 5), "l2": _log(rng, 1, 30), "angle": float(rng.integers(0, 91)),
        "a": _log(rng, low, high), "b": round(1 - _log(rng, 0.03, 1), 4), "b2": round(1 - _log(rng, 0.003, 0.5), 4),
        "eps": _log(rng, 1e-8, 1e-2), "dt": float(rng.choice([1, 1, 0.5, 0.25, 1 / 3, round(rng.uniform(0.05, 1), 3)])),
        "x": round(rng.uniform(-2, 2), 3), "y": round(rng.uniform(-1.5, 1.5), 3),
        "updates": int(rng.integers(5, 81)), "curvature": _log(rng, 0.1, 20),
    }  # fmt: skip


def answers(setting):
    """Return what inercia makes of a setting; None where it is too sensitive to compare."""
    loss, method = loss_of(setting), method_of(setting)
    start = np.array([setting["x"], setting["y"]])
    path = ia.iterate(method, loss, start, setting["updates"])
    if path.diverged is not None or np.abs(path.params).max() > 1e3:
        return None
    times = path.times[-1] * np.array([0, 0.4, 1])
    try:
        flow = ia.integrate(method, loss, start, times, rtol=1e-13, atol=1e-15, max_nfev=100_000)
    except ia.IntegrationError:
        return None
    shifted = start + 1e-6
    again = ia.iterate(method, loss, shifted, setting["updates"]), ia.integrate(method, loss, shifted, times)
    if max(np.abs(new.params - old.params).max() for new, old in zip(again, (path, flow), strict=True)) > 1e-3:
        return None
    with jax.enable_x64(True):
        here = jnp.asarray(start)
        result = {
            "loss": float(loss(here)),
            "gradient": jax.grad(loss)(here).tolist(),
            "hessian": np.asarray(jax.hessian(loss)(here))[[0, 0, 1], [0, 1, 1]].tolist(),
        }
    result |= {"iterates": _point(path, -1), "flow": [_point(flow, 1), _point(flow, 2)]}
    if setting["method"] != "nesterov-k":
        modes = ia.stability(method, setting["curvature"])
        result["multipliers"] = [[value.real, value.imag] for value in modes.multipliers[0].tolist()]
        result["threshold"] = modes.threshold
    if setting["method"] in ("momentum", "lecture"):
        result["energy"] = float(ia.energy(path, setting["a"], setting["b"])[-1])
    return result


def _point(path, k):
    """Return params and memory at one time; the clock, which comes first in every state, is left out."""
    leaves = [path.params, *jax.tree.leaves(path.state)[1:]]
    return np.concatenate([np.ravel(leaf[k]) for leaf in leaves]).tolist()


def _log(rng, low, high):
    return float(f"{np.exp(rng.uniform(np.log(low), np.log(high))):.4g}")


def write(count, seed=0):
    """Write `count` entries."""
    rng, entries = np.random.default_rng(seed), []
    while len(entries) < count:
        setting = drawn(rng)
        found = answers(setting)
        if found is not None:
            entries.append({"setting": setting, "answers": found})
            print(f"\r{len(entries)} of {count}", end="", file=sys.stderr, flush=True)
    FILE.write_text("[\n" + ",\n".join(map(json.dumps, entries)) + "\n]\n")


if __name__ == "__main__":
    write(int(sys.argv[1]))

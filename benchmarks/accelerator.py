"""One accelerator: Adam's update beside a copy, trainings together, a CNN and a vision transformer, the central flow.

Sizes are an accelerator's; on a CPU the small ones run, to see that everything works. `taskset` a part of the cores
where other work shares the machine: a loop in Python is bound by the host.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import architectures
import central
import convolutions
import inercia as ia
import many
import update
from timing import Goal, Section, interleaved, ratio, table

RATE, STEPS, ROWS = 1e-3, 200, 512
#: Updates of one program, so that the call is nothing beside them.
_UPDATES = 20


def run(fast: bool) -> Section:
    """Time all four; `fast`, or no accelerator, takes sizes that a CPU carries."""
    fast = fast or jax.default_backend() == "cpu"
    parts = [_update(fast), _together(fast), _networks(fast), _central(fast)]
    text = "\n".join(f"### {title}\n\n{body}" for title, body, _ in parts)
    return Section("On an accelerator", text, [goal for *_, goals in parts for goal in goals])


def _update(fast):
    """Time one update a call, and `_UPDATES` in one program, beside as many copies."""
    sizes = (2_000_000,) if fast else (20_000_000, 200_000_000)
    rows, goals = [], []
    for size, leaves, updates in itertools.product(sizes, (1, 50, 500), (1, _UPDATES)):
        methods = {
            "inercia": ia.adam(RATE),
            "inercia, leaves laid end to end": optax.flatten(ia.adam(RATE)),
            "optax": optax.adam(RATE),
        }
        calls = {n: update.repeat(m, leaves, size, donate=True, updates=updates) for n, m in methods.items()}
        seconds, _ = interleaved(calls | {"copy": _copy(size, updates)}, 3 if fast else 11)
        copied = 2 * 4 * size * updates / seconds["copy"]
        for name, times in seconds.items():
            share = (2 if name == "copy" else update.TRAFFIC) * 4 * size * updates / times / copied
            shown = f"{np.median(share):.2f} ({share.min():.2f}..{share.max():.2f})"
            each = f"{np.median(times) / updates * 1e3:.3f}"
            rows.append([f"{size:.0e}", str(leaves), str(updates), name, each, shown])
            if name == "inercia" and size == sizes[-1] and updates > 1:
                met = bool(np.median(share) >= 0.9)
                goals.append(Goal(f"accelerator: Adam update, {leaves} leaves, of a copy", "≥ 0.9", shown, met))
    head = ["parameters", "leaves", "updates a call", "", "ms each", "share of a copy's bandwidth (range)"]
    return "Adam's update, float32", table(head, rows), goals


def _copy(size, copies):
    """Return a call that copies an array of this size so many times."""
    copy = jax.jit(lambda a: jax.lax.fori_loop(0, copies, lambda _, a: a + 1.0, a), donate_argnums=0)
    kept = [jnp.ones(size)]

    def call():
        kept[0] = copy(kept[0])
        return kept[0]

    return call


def _together(fast):
    numbers, steps = ([1, 10, 100] if fast else [1, 100, 1000, 10_000]), 5 * 8 if fast else 25 * 8
    calls = {f"{n}": many.together(n, epochs=steps // 8) for n in numbers}
    seconds, _ = interleaved(calls, 3 if fast else 7)
    flops = 6 * 32 * (32 + 32 * 32 + 32)  # of a step: three products of each matrix with 32 rows, twice their sizes
    rows = [
        [n, f"{np.median(t):.3f}", f"{np.median(t) / int(n) * 1e3:.3f}", f"{flops * steps * int(n) / np.median(t):.2e}"]
        for n, t in seconds.items()
    ]
    most, before = str(numbers[-1]), str(numbers[-2])
    growth, shown = ratio(seconds, most, before)
    goal = Goal(f"accelerator: {most} trainings, ten times as many", "≤ 10×", shown, growth <= 10)
    head = ["trainings of the tiny network at once", "seconds", "ms each", "flop/s of the products"]
    return "Trainings together", table(head, rows), [goal]


def _networks(fast):
    text, goals = "", []
    for name, (loss, start, batch) in {"CNN": _cnn(fast), "ViT": _vit(fast)}.items():
        calls = convolutions.contestants(loss, start, batch, 5 if fast else STEPS)
        calls.pop("optax in a scan, fast_convolutions")  # changes nothing but on a CPU
        seconds, _ = interleaved(calls, 3 if fast else 7)
        steps = 5 if fast else STEPS
        rows = [[n, f"{np.median(t) / steps * 1e3:.3f}", ratio(seconds, n, "inercia")[1]] for n, t in seconds.items()]
        count = sum(leaf.size for leaf in jax.tree.leaves(start))
        text += f"{name}, {count:,} parameters, Adam on {len(batch[1])} images:\n\n"
        text += table(["", "ms per step", "times ours (range)"], rows) + "\n"
        best = min(np.median(t) for n, t in seconds.items() if n != "inercia")
        beside = seconds[min((n for n in seconds if n != "inercia"), key=lambda n: np.median(seconds[n]))]
        each = beside / seconds["inercia"]
        shown = f"{best / np.median(seconds['inercia']):.2f} ({each.min():.2f}..{each.max():.2f})"
        goals.append(Goal(f"accelerator: {name} against the best peer", "≥ 1×", shown, bool(np.median(each) >= 1)))
    return "A CNN and a vision transformer", text, goals


def _cnn(fast):
    rows = 64 if fast else ROWS
    start, apply = convolutions.network([(3, 3, 3, 32), (3, 3, 32, 64), (64, 10)])

    def loss(params, batch):
        return optax.softmax_cross_entropy_with_integer_labels(apply(params, batch[0]), batch[1]).mean()

    return loss, start, convolutions.data(rows)


def _vit(fast):
    graph, params, rest = nnx.split(architectures.Vit(nnx.Rngs(0)), nnx.Param, ...)
    rows = 64 if fast else ROWS
    x = jax.random.normal(jax.random.key(1), (rows, 8, 8, 1))
    y = jax.random.randint(jax.random.key(2), (rows,), 0, 10)

    def loss(params, batch):
        logits = nnx.merge(graph, params, rest)(batch[0])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()

    return loss, params, (x, y)


def _central(fast):
    rows, k = [], 5
    for hidden, updates in ((16, 40), (28, 40)) if fast else ((16, 100), (94, 100), (310, 50), (994, 20)):
        loss, start = central.problem(hidden)
        method = ia.sgd(1.99 / float(ia.curvature(loss, start, tol=1e-2, iterations=500).values[0]))
        seconds, _ = interleaved(_flow_and_iterates(method, loss, start, updates, k), 3)
        rows += [[f"{start.size:,}", n, f"{np.median(t) / updates * 1e3:.2f}"] for n, t in seconds.items()]
    head = ["parameters", "", "ms per update, all of a call"]
    text = f"128 rows, k = {k}, float64, at the edge from the first update on; the start's eigenvectors are in it.\n\n"
    return "The central flow", text + table(head, rows), []


def _flow_and_iterates(method, loss, start, updates, k):
    watch = {"sharpness": ia.sharpness(method, loss, k)}
    return {
        "central flow": lambda: ia.central(method, loss, start, updates, k=k, every=updates).loss,
        "central flow, products in float32": lambda: (
            ia.central(method, ia.in_float32(loss), start, updates, k=k, every=updates).loss
        ),
        "iterates": lambda: ia.iterate(method, loss, start, updates, every=updates, observe=watch).loss,
    }

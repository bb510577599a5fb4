"""What it costs that the host looks at every epoch, on epochs of a few milliseconds."""

from functools import partial
from typing import Any

import jax
import numpy as np

import inercia as ia
from timing import Goal, Section, interleaved, ratio, table

NETWORK = ia.mlp([64, 128, 128, 10])
PARAMS, LOSS, METHOD = NETWORK.init(jax.random.key(0)), ia.risk(NETWORK, "cross-entropy"), ia.adam(1e-3)
EPOCHS = 100


def run(fast: bool = False) -> Section:
    """Time a training on the digits without a look and with one at every epoch, in turn."""
    rows, held = ia.digits()
    losses = []
    calls = {
        "no look": {},
        "on_record, which keeps the loss": {"on_record": lambda record: losses.append(record.loss)},
        "on_record, which keeps the params": {"on_record": lambda record: record.params},
        "validation": {"validation": held},
        "validation and patience": {"validation": held, "patience": EPOCHS},
    }
    seconds, _ = interleaved({name: partial(_train, rows, given) for name, given in calls.items()}, 5 if fast else 25)
    lines, shares = [], {}
    for name, times in seconds.items():
        to = "validation" if name.startswith("validation") else "no look"
        median, shown = ratio(seconds, name, to)
        shares[name] = median
        lines.append([name, f"{np.median(times) / EPOCHS * 1e3:.2f}", f"{times.min() / EPOCHS * 1e3:.2f}", shown])
    text = f"Adam, 64-128-128-10, {len(rows.x)} rows in batches of 32, {EPOCHS} epochs.\n\n"
    text += table(["", "ms an epoch", "least", "times the same without the look (range)"], lines)
    names = ("on_record, which keeps the loss", "validation and patience")
    return Section("A look at every epoch", text, [_goal(name, shares[name]) for name in names])


def _goal(name: str, times: float) -> Goal:
    return Goal(f"{name}: cost beside an epoch without", "≤ 2 %", f"{times - 1:.1%}", times <= 1.02)


def _train(rows: Any, given: dict) -> Any:
    return ia.train(METHOD, LOSS, PARAMS, rows, epochs=EPOCHS, batch_size=32, key=1, **given).params


if __name__ == "__main__":
    print(run().text)

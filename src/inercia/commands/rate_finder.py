"""A learning-rate finder: short trainings at rates from 1e-5 to 10, all of them in one program.

Every rate trains the same start on the same batches; its loss is that of its last iterations. Suggested is the rate
for which the mean over itself and its two neighbours is least: not the lowest point, which often lies beside the first
rate that fails, but the lowest with room on both sides.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inercia.commands.options import FailedError
from inercia.commands.task import Task
from inercia.commands.watching import counted
from inercia.core.progress import bar as progress_bar
from inercia.training.loop import train

RATES = np.geomspace(1e-5, 10, 25)
_ITERATIONS = 200  # of each, at least
_RECORDS = 20
_LAST = 3  # records whose mean is a rate's loss


class Sweep(NamedTuple):
    """What the short trainings came to."""

    rates: np.ndarray  # increasing
    losses: np.ndarray  # of the last iterations; inf where a loss or the params were not finite
    iterations: int

    @property
    def suggested(self) -> int:
        """The place of the suggested rate."""
        sides = np.pad(self.losses, 1, mode="edge")
        return int(np.argmin(sides[:-2] + sides[1:-1] + sides[2:]))

    @property
    def largest(self) -> float:
        """The largest rate that stayed finite."""
        return float(self.rates[np.isfinite(self.losses)].max())


def sweep(task: Task, method: Callable[[Any], Any], seed: int, progress: bool = False) -> Sweep:
    """Train shortly at every rate.

    Args:
        task: what is trained; where it has many rows, the first of them (they lie at random) for about 200 iterations.
        method: rate -> method; the rate is traced.
        seed: of start and batches.
        progress: whether to show a bar.

    Raises:
        FailedError: no rate stayed finite.
    """
    size = task.batches.batch_size
    rows = jax.tree.map(lambda part: part[: max(size, _ITERATIONS * size)], task.rows)
    epoch = 1 if task.sampler == "full" else max(1, len(rows.x) // size)
    epochs = -(-_ITERATIONS // epoch)
    every = max(1, epochs * epoch // _RECORDS)
    params, key = task.start(seed), jax.random.key(seed)
    with progress_bar(progress, desc="rates", unit="record") as bar:
        watch = counted(bar, len(RATES) * -(-epochs * epoch // every))

        def one(rate):
            result = train(
                method(rate), task.loss, params, rows, epochs=epochs, batch_size=size, key=key, sampler=task.sampler,
                every=every, evaluate=watch,
            )  # fmt: skip
            loss = result.history.loss[-_LAST:].mean()
            first: Any = result.diverged  # mapped: -1 where there is none
            return jnp.where(first < 0, loss, jnp.inf)

        losses = np.asarray(jax.vmap(one)(jnp.asarray(RATES, jnp.float32)), np.float64)
    if not np.isfinite(losses).any():
        raise FailedError(f"no learning rate from {RATES[0]:g} to {RATES[-1]:g} keeps the loss finite: scale the rows.")
    return Sweep(RATES, losses, epochs * epoch)


def find_rate(task: Task, method: Callable[[Any], Any], name: str, seed: int, file: Path) -> None:
    """Print the learning rate that short trainings suggest, and draw their losses."""
    from inercia import plot  # noqa: PLC0415  loads matplotlib, when used

    found = sweep(task, method, seed, sys.stderr.isatty())
    rate, loss = found.rates[found.suggested], found.losses[found.suggested]
    finite = "every rate" if np.isfinite(found.losses).all() else "the largest rate that"
    print(
        f"suggested for {name}: --learning-rate {rate:.2g}, of {len(found.rates)} rates tried for {found.iterations} "
        f"iterations each (training loss {loss:.4g}); {finite} stayed finite"
        + (f", up to {found.largest:.2g}." if finite == "every rate" else f" is {found.largest:.2g}.")
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    drawn = plot.save(lambda ax: plot.rates(ax, found.rates, found.losses, float(rate)), file)
    print(f"figure: {drawn}")

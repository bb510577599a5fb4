"""Batches that the host draws for a training on the same processor.

NumPy sorts what a permutation is made of ten to thirty times as fast as a program of XLA does on a CPU. The random bits
are a program's, asked for before they are needed: it runs while the host goes on, and the order comes to the same as
the one that a training's own program draws.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from inercia.core import check
from inercia.problems.sampling import Sampler

#: Row numbers that the host draws at a time.
DRAWN = 2**18


def suits_host(sampler: Sampler, key: Any, params: Any) -> bool:
    """Whether the host can draw the batches: nothing is traced, and the device is its own processor."""
    if sampler.on_host is None or not check.is_concrete(key, params):
        return False
    arrays = [leaf for leaf in jax.tree.leaves((key, params)) if isinstance(leaf, jax.Array)]
    return jax.default_backend() == "cpu" and all(d.platform == "cpu" for leaf in arrays for d in leaf.devices())


class Ahead:
    """The row numbers of a training's iterations, asked for ahead of their use.

    Args:
        sampler: one that the host can draw.
        key: the sampler's.
        total: iterations of the training.
        steps: iterations of its first call.
    """

    def __init__(self, sampler: Sampler, key: Any, total: int, steps: int) -> None:
        self.sampler, self.key, self.total = sampler, key, total
        self._draw: Any = sampler.on_host
        self._length = max(1, DRAWN // sampler.batch_size)
        self._held = _Stretch(0, 0, np.empty((0, sampler.batch_size), np.int32))
        self._next = self._ask(0, steps)

    def rows(self, first: int, steps: int) -> np.ndarray:
        """Return those of iterations first..first+steps-1, (steps, batch)."""
        if not self._held.holds(first, steps):
            asked = self._next if self._next.holds(first, steps) else self._ask(first, steps)
            self._held = asked._replace(rows=asked.rows())
            later = first + (asked.end - first) // steps * steps  # what the held ones do not hold, in calls as long
            self._next = self._ask(later, steps)  # before the device is given its work, which this would wait for
        return self._held.rows[first - self._held.begin :][:steps]

    def _ask(self, first: int, steps: int) -> "_Stretch":
        begin = first - first % self.sampler.epoch
        end = min(self.total, max(first + steps, begin + self._length))
        if begin >= end:
            return _Stretch(0, 0, None)
        with jax.ensure_compile_time_eval():  # also where a program is traced that the training is a constant of
            return _Stretch(begin, end, self._draw(self.key, begin, end - begin, self.total))


class _Stretch(NamedTuple):
    """Iterations begin..end-1."""

    begin: int
    end: int
    rows: Any  # (iterations, batch), or what is called for them

    def holds(self, first: int, steps: int) -> bool:
        return self.begin <= first and first + steps <= self.end

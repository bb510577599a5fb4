"""A path between its times: SciPy's polynomials of the steps, read as params and state."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from inercia.core import tree
from inercia.core.method import Params, State
from inercia.flows.vector_field import Field


class Dense:
    """The solution between the times: t -> (params, state)."""

    def __init__(self, field: Field, ends: Sequence[float], polynomials: Sequence[Callable]) -> None:
        self.field, self.ends, self.polynomials = field, np.asarray(ends), polynomials

    def __call__(self, t: Any) -> tuple[Params, State]:
        """Return params and state at the time, or along a vector of times."""
        t = np.asarray(t, dtype=np.float64)
        low, high = sorted((self.ends[0], self.ends[-1]))
        if not np.all((t >= low) & (t <= high)):
            raise ValueError(f"t must lie between {low:g} and {high:g}, where the flow was solved, but it is {t}.")
        direction = 1 if self.ends[-1] >= self.ends[0] else -1
        k = np.searchsorted(direction * self.ends, direction * t.ravel(), side="left") - 1
        steps = np.clip(k, 0, len(self.polynomials) - 1)
        z = np.stack([self.polynomials[i](time) for i, time in zip(steps, t.ravel(), strict=True)])
        with jax.enable_x64(True):
            params, state, _ = tree.to_numpy(self.field.path(z))
        return tree.row((params, state), 0) if t.ndim == 0 else (params, state)

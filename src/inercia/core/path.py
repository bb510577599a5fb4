"""A path: where the parameters went, whether by iterating or by integrating.

The discrete and the continuous path have the same type and the same axis of time, counted in iterations, so
whatever plots or measures one takes the other.
"""

import csv
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import jax
import numpy as np

from inercia.core import tree


class Solve(NamedTuple):
    """What the ODE solver did."""

    solver: str
    nfev: int  # evaluations of the flow, each one gradient
    njev: int  # evaluations of its Jacobian
    steps: int  # accepted steps
    reason: str  # why it stopped, in the solver's words


@dataclass(frozen=True)
class Path:
    """Parameters, optimizer state and loss along time; leading axis = time; NumPy, float64.

    In the state, counters, flags and moments that the method keeps in another precision have that dtype, and keys of
    random numbers are given as their numbers.

    Attributes:
        times: shape (n,), in iterations.
        params: tree of arrays, each (n, ...).
        state: the method's state, each leaf (n, ...).
        loss: shape (n,).
        diverged: first recorded time at which loss, params or state were not finite; None when there is none.
        solve: the ODE solver's report; None for a path of iterates.
        observed: name -> (n, ...), what `iterate` was asked to observe.
        events: for each event that `integrate` was given, the Path of the points at which it occurred.
        dense: t -> (params, state), NumPy, between the times too; from `integrate` with dense=True, else None.

    Example:
        >>> path = Path(np.arange(2.0), {"w": np.zeros((2, 3))}, (), np.ones(2))
        >>> len(path), path[-1].params["w"].shape
        (2, (3,))
    """

    times: np.ndarray
    params: Any
    state: Any
    loss: np.ndarray
    diverged: float | None = None
    solve: Solve | None = None
    observed: dict[str, Any] = field(default_factory=dict)
    events: tuple["Path", ...] = ()
    dense: Any = None

    def __len__(self) -> int:
        self.check_axis()
        return len(self.times)

    def check_axis(self) -> None:
        """Raise unless this is a path; a single point of one, as `path[0]`, has no axis of time."""
        if np.ndim(self.times) == 0:
            raise TypeError("a path must have an axis of time, but this is one point of it: take path[i : i + 1].")

    def __getitem__(self, index: Any) -> "Path":
        """Return the entries `index` (a number, slice or index array) of every array; `diverged` is of those times."""
        arrays = (self.times, self.params, self.state, self.loss, self.observed)
        times, params, state, loss, observed = tree.row(arrays, index)
        times = np.asarray(times)
        after = times[times >= self.diverged] if self.diverged is not None else np.zeros(0)
        diverged = float(after.min()) if after.size else None
        kept = (diverged, self.solve, observed, self.events, self.dense)
        return Path(times, params, state, np.asarray(loss), *kept)

    def flat(self) -> np.ndarray:
        """Return the parameters as one array (n, P); complex ones as real and imaginary columns."""
        n = len(self)
        columns = [np.asarray(leaf).reshape(n, -1) for leaf in jax.tree.leaves(tree.to_real(self.params))]
        return np.concatenate(columns, axis=1)

    def columns(self) -> dict[str, np.ndarray]:
        """Return times, loss and every leaf of params and state, under readable names."""
        named = {"times": self.times, "loss": self.loss}
        for root, branch in (("params", self.params), ("state", self.state), ("observed", self.observed)):
            for keys, leaf in jax.tree_util.tree_leaves_with_path(branch):
                named[root + jax.tree_util.keystr(keys)] = np.asarray(leaf)
        return named

    def save_npz(self, file: str | FilePath) -> None:
        """Write `columns()` as a compressed NPZ file; bfloat16, which NumPy's files do not have, as float32."""
        columns = {n: a.astype(np.float32) if a.dtype.kind == "V" else a for n, a in self.columns().items()}
        np.savez_compressed(file, **columns)  # pyright: ignore[reportArgumentType]

    def save_csv(self, file: str | FilePath) -> None:
        """Write one row per time: times, loss, then every parameter, named like `params[0].w[3,1]`."""
        self.check_axis()
        columns = {"times": self.times, "loss": self.loss}
        for name, array in self.columns().items():
            if name.startswith("params"):
                for index in np.ndindex(array.shape[1:]):
                    label = name + (f"[{','.join(map(str, index))}]" if index else "")
                    columns[label] = array[(slice(None), *index)]
        with open(file, "w", newline="", encoding="utf-8") as out:
            writer = csv.writer(out)
            writer.writerow(columns)
            writer.writerows(zip(*(c.tolist() for c in columns.values()), strict=True))

"""The edge of stability, three curves each: the iterates, the plain flow that leaves them, the central flow that stays.

    iterates         theta_k, and their mean over a window of updates, in which the oscillation cancels
    stable flow      X = 0: what the method would follow if its steps were small
    central flow     see `central`

A share is a distance to the mean iterates over the way that these are from their start.
"""

from typing import Any, NamedTuple

import numpy as np

from inercia.core import check
from inercia.core.method import Params
from inercia.core.path import Path
from inercia.edge_of_stability.central_flow import central
from inercia.edge_of_stability.eigenpairs import CurvatureError
from inercia.edge_of_stability.sharpness_observer import sharpness
from inercia.flows.iteration import iterate

#: The method is at its edge where the sharpness stands above this share of the bound.
AT_EDGE = 0.95


class Edge(NamedTuple):
    """A run at the edge of stability beside its flows; leading axis = updates made; NumPy float64."""

    times: np.ndarray  # (n,)
    bound: float  # on the sharpness, in units of the preconditioner: 2 for gradient descent
    window: int  # updates over which the iterates are averaged
    iterates: Path  # with observed["sharpness"] (n, 1)
    central: Path
    stable: Path  # `diverged` where it was given up, nan from there
    loss: np.ndarray  # (n,), of the iterates, averaged
    sharpness: np.ndarray  # (n,), the largest, averaged
    displacement: np.ndarray  # (n,), the way of the mean iterates from their start
    to_central: np.ndarray  # (n,), distances to the mean iterates
    to_stable: np.ndarray  # (n,)
    reached: float | None  # first time at which the averaged sharpness is at the bound; None if it is not

    def after(self, updates: float = 0.0) -> np.ndarray:
        """Return a mask of the times later than `reached + updates`, without the half window at the end."""
        if self.reached is None:
            return np.zeros(len(self.times), bool)
        return (self.times >= self.reached + updates) & (self.times <= self.times[-1] - self.window / 2)


def edge(
    method: Any,
    loss: Any,
    params: Params,
    steps: int,
    *,
    k: int = 6,
    substeps: int = 4,
    window: int = 50,
) -> Edge:
    """Run a method with its sharpness, its stable flow and its central flow, and measure them against each other.

    Args:
        method: as in `central`.
        loss: params -> scalar, three times differentiable.
        params: where to start; computed in float64 whatever its precision.
        steps: number of updates. All iterates are kept, 8 bytes a number.
        k: eigenvalues that are followed.
        substeps: of the central flow, per update.
        window: updates over which the iterates are averaged.

    Returns:
        Edge.

    Raises:
        ValueError: as in `central`.
        CurvatureError: as in `central`; iterates that diverge, with the time.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> valley = lambda x: (1 + x[0] ** 2) * x[1] ** 2 / 2 + 0.002 * (x[0] - 3) ** 2
        >>> run = inercia.edge(inercia.sgd(0.5), valley, jnp.array([1.7, 0.1]), 400, k=2)
        >>> run.bound, bool(run.to_central[-60] < 0.1 * run.to_stable[-60])
        (2.0, True)
    """
    window = check.integer("window", window)
    path = iterate(method, loss, params, steps, observe={"sharpness": sharpness(method, loss)})
    if path.diverged is not None:
        raise CurvatureError(f"the iterates diverge at time {path.diverged:g}: take a smaller learning rate.", None)
    middle = central(method, loss, params, steps, k=k, substeps=substeps)
    stable = central(method, loss, params, steps, k=k, substeps=substeps, stable=True)
    mean = averaged(path.flat(), window)
    top = averaged(path.observed["sharpness"][:, 0], window)
    bound = float(middle.observed["bound"][0])
    at = np.flatnonzero(top >= AT_EDGE * bound)
    return Edge(
        path.times, bound, window, path, middle, stable, averaged(path.loss, window), top,
        np.linalg.norm(mean - path.flat()[0], axis=1),
        np.linalg.norm(mean - middle.flat(), axis=1),
        np.linalg.norm(mean - stable.flat(), axis=1),
        float(path.times[at[0]]) if len(at) else None,
    )  # fmt: skip


def averaged(values: np.ndarray, window: int) -> np.ndarray:
    """Return the mean over `window` entries around each, along the leading axis; fewer, and as many, at the ends."""
    half = np.minimum(window // 2, np.minimum(np.arange(len(values)), np.arange(len(values))[::-1]))
    # An even number of updates, the outer two with half weight each: an oscillation of period 2 cancels.
    sums = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, axis=0)])
    at = np.arange(len(values))
    wide = sums[at + half + 1] - sums[at - half]
    ends = (values[at + half] + values[at - half]) / 2
    count = np.maximum(2 * half, 1).reshape(-1, *[1] * (values.ndim - 1))
    return np.where(count > 1, (wide - ends) / count, values)

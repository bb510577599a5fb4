"""A loss of two parameters on a grid, so that the page can compute with it: values and derivatives at each node.

On a cell the page joins the nine numbers f, f_x, f_xx, f_y, f_xy, f_xxy, f_yy, f_xyy, f_xxyy of its four corners by
the biquintic Hermite polynomial, whose value, gradient and Hessian are continuous across cells and whose error falls
as h^6.
Between two nodes h apart, with p and q their values, the quintic is at its middle

    (p + q)/2 + 5 h (p' - q')/32 + h^2 (p'' + q'')/64

which is what the error is measured with, in the middle of every cell.

Source: de Boor, A Practical Guide to Splines, chapter XVII.
"""

import base64
import json
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inercia.core import check, tree
from inercia.core.precision import in_float64

NODES = 41  # in each direction
#: Error in the middle of a cell, relative to the loss's range, above which a loss is refused.
TOLERANCE = 1e-3
Bounds = tuple[tuple[float, float], tuple[float, float]]


class SampledLoss(NamedTuple):
    """A loss on a grid."""

    bounds: Bounds  # of x and of y
    start: np.ndarray  # (2,)
    rate: float  # a learning rate that suits it: one over its largest curvature at the start
    nodes: np.ndarray  # (NODES, NODES, 3, 3) float64: y, x, derivatives in y, derivatives in x
    error: float  # largest in the middles of cells, relative to the range of the loss

    def as_json(self) -> str:
        """Return what the page reads."""
        packed = base64.b64encode(np.ascontiguousarray(self.nodes, dtype="<f8").tobytes()).decode()
        own = {"view": self.bounds, "start": self.start.tolist(), "rate": self.rate, "count": NODES, "nodes": packed}
        return json.dumps(own)


def sampled(loss: Callable, bounds: Any = ((-2, 2), (-2, 2)), start: Any = None) -> SampledLoss:
    """Sample a loss and its derivatives on a grid of NODES x NODES points.

    Args:
        loss: params, (2,) -> scalar, twice differentiable in each parameter.
        bounds: ((x from, x to), (y from, y to)) of what is drawn.
        start: (2,), within the bounds; by default a fifth of the way from the upper left corner.

    Raises:
        ValueError: bounds that do not increase, a start outside of them, a loss that is not one finite real number
            everywhere on the grid, or that a grid so coarse does not follow to `TOLERANCE`.

    Example:
        >>> found = sampled(lambda p: jnp.sum(p**2))
        >>> found.nodes.shape, found.error < 1e-12
        ((41, 41, 3, 3), True)
    """
    box = np.asarray(bounds, dtype=np.float64)
    if box.shape != (2, 2) or not np.isfinite(box).all() or not (box[:, 0] < box[:, 1]).all():
        raise ValueError(f"bounds must be ((x from, x to), (y from, y to)), increasing, but they are {bounds}.")
    (x0, x1), (y0, y1) = box
    begin = np.asarray([0.8 * x0 + 0.2 * x1, 0.2 * y0 + 0.8 * y1] if start is None else start, dtype=np.float64)
    if begin.shape != (2,) or not ((box[:, 0] <= begin) & (begin <= box[:, 1])).all():
        raise ValueError(f"start must be two numbers within the bounds, but it is {start}.")
    x, y = np.linspace(x0, x1, NODES), np.linspace(y0, y1, NODES)
    middle_x, middle_y = ((axis[1:] + axis[:-1]) / 2 for axis in (x, y))
    with jax.enable_x64(True):
        here = tree.float64(jnp.asarray(begin))
        exact = in_float64(loss, here)
        check.loss_of(exact, here)
        nodes, curvature = map(np.asarray, _derivatives(exact, x, y, here))
        between = np.asarray(_values(exact, middle_x, middle_y))
    if not (np.isfinite(nodes).all() and np.isfinite(between).all()):
        raise ValueError("loss must be finite, with its derivatives, all over the bounds, but it is not: change them.")
    along = _middles(nodes, x[1] - x[0], axis=1, derivative=3)
    off = np.abs(_middles(along, y[1] - y[0], axis=0, derivative=2) - between).max()
    error = off / max(np.ptp(nodes[..., 0, 0]), 1e-300)
    if error > TOLERANCE:
        raise ValueError(
            f"loss must be smooth enough for a grid of {NODES} x {NODES} points, but in between it is off by "
            f"{error:.1e} of its range: take smaller bounds, or a smooth loss."
        )
    largest = float(np.clip(np.abs(np.linalg.eigvalsh(curvature)).max(), 0.05, 1e3))
    limits = tuple(tuple(map(float, ends)) for ends in box)
    return SampledLoss(limits, begin, 1 / largest, nodes, float(error))  # pyright: ignore[reportArgumentType]


@partial(jax.jit, static_argnums=0)
def _values(loss, x, y):
    return jax.vmap(lambda v: jax.vmap(lambda u: loss(jnp.stack([u, v])))(x))(y)


@partial(jax.jit, static_argnums=0)
def _derivatives(loss, x, y, start):
    """Return the nine derivatives at the nodes, and the Hessian at the start."""

    def table(v, u):
        f = [lambda u, v: loss(jnp.stack([u, v]))]
        f += [jax.grad(f[0], 0)]
        f += [jax.jacfwd(f[1], 0)]
        rows = []
        for _ in range(3):
            rows.append(jnp.stack([function(u, v) for function in f]))
            f = [jax.jacfwd(function, 1) for function in f]
        return jnp.stack(rows)

    return jax.vmap(lambda v: jax.vmap(lambda u: table(v, u))(x))(y), jax.hessian(loss)(start)


def _middles(nodes: np.ndarray, step: float, axis: int, derivative: int) -> np.ndarray:
    """Return the quintics' values in the middles along an axis, and drop the axis of that direction's derivatives."""
    order = np.moveaxis(nodes, derivative, 0)
    before = np.take(order, range(NODES - 1), axis=axis + 1)
    after = np.take(order, range(1, NODES), axis=axis + 1)
    return (before[0] + after[0]) / 2 + 5 * step * (before[1] - after[1]) / 32 + step**2 * (before[2] + after[2]) / 64

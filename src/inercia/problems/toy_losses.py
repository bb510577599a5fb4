"""Small losses of two parameters to look at dynamics on; each with a start and a learning rate that suits it.

ravine     (x^2 + 20 y^2) / 2                    quadratic, condition number 20: exact solutions exist
wells      (x^2 - 1)^2 / 4 + (y - x/2)^2 / 2     non-convex: two minima, a saddle between them
valley     (1 - x)^2 / 2 + 5 (y - x^2)^2         non-convex: Rosenbrock's curved valley, softened

And a family for the edge of stability, whose curvature y across x is driven up at the rate eps:

steepening (y + zeta x) x^2 / 2 - eps (x + y)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class Problem(NamedTuple):
    """A loss with a place to start."""

    loss: Callable[[Float[Array, "2"]], Float[Array, ""]]
    start: np.ndarray  # (2,)
    learning_rate: float  # of momentum with beta = 0.9


def ravine(p: Float[Array, "2"]) -> Float[Array, ""]:
    """Return (x^2 + 20 y^2) / 2."""
    return 0.5 * (p[0] ** 2 + 20 * p[1] ** 2)


def wells(p: Float[Array, "2"]) -> Float[Array, ""]:
    """Return (x^2 - 1)^2 / 4 + (y - x/2)^2 / 2."""
    return 0.25 * (p[0] ** 2 - 1) ** 2 + 0.5 * (p[1] - 0.5 * p[0]) ** 2


def valley(p: Float[Array, "2"]) -> Float[Array, ""]:
    """Return (1 - x)^2 / 2 + 5 (y - x^2)^2."""
    return 0.5 * (1 - p[0]) ** 2 + 5 * jnp.square(p[1] - p[0] ** 2)


def steepening(p: Float[Array, "2"], eps: Any, zeta: float = 0.5) -> Float[Array, ""]:
    """Return (y + zeta x) x^2 / 2 - eps (x + y), the oracle of `central_order`."""
    return (p[1] + zeta * p[0]) * p[0] ** 2 / 2 - eps * (p[0] + p[1])


PROBLEMS = {
    "ravine": Problem(ravine, np.array([-2.0, 0.5]), 0.03),
    "wells": Problem(wells, np.array([-0.2, 1.5]), 0.5),
    "valley": Problem(valley, np.array([-0.6, 0.9]), 0.01),
}

"""Stochastic gradients with amplified noise (SVAG): the same mean, l times the covariance, at the price of two batches.

    g = (1+s)/2 g_i + (1-s)/2 g_j,   s = sqrt(2l - 1),   i, j independent:   covariance (1 + s^2)/2 Sigma = l Sigma

A method scaled by 1/l makes l times as many updates with it in the same time, and its moments converge to those of the
stochastic equation as l grows. l = 1 is the method itself.

Source: Li, Malladi & Arora 2021; for adaptive methods Malladi et al. 2022.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from inercia.core import check, tree


@dataclass(frozen=True)
class _Amplified:
    """A loss (params, batches, key) -> scalar; equal ones share one compilation."""

    loss: Callable
    l: float

    def __call__(self, params: Any, batches: Any, key: Any) -> Any:
        counts = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(batches)}
        if len(counts) != 1 or not all(counts):
            raise ValueError(f"batches must share one leading axis, that of the N_b batches, but theirs are {counts}.")
        chosen = jax.random.randint(key, (2,), 0, counts.pop()[0])
        first, second = (self.loss(params, tree.row(batches, i)) for i in chosen)
        s = math.sqrt(2 * self.l - 1)
        return (1 + s) / 2 * first + (1 - s) / 2 * second


def svag(loss: Callable, l: float) -> Callable:
    """Return a loss whose gradients have the mean of the batches' and l times their covariance.

    Args:
        loss: (params, batch) -> scalar.
        l: at least 1; no integer is needed.

    Returns:
        (params, batches, key) -> scalar, for `train` and `iterate_batches` with sampler="full" on the stack of the N_b
        fixed batches, leading axis N_b, that `diffuse` takes; two of them are drawn each time, independently.

    Raises:
        ValueError: l below 1; at the call, batches of unequal number.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> loss = lambda x, c: (x - c) ** 2 / 2
        >>> method, l = inercia.sgd(0.2), 4
        >>> path = inercia.iterate_batches(
        ...     inercia.scale(method, 1 / l), inercia.svag(loss, l), 0.0, jnp.array([-1.0, 1.0]), 40 * l,
        ...     key=range(500), sampler="full", every=40 * l)
        >>> bool(abs(path.params[-1].var() - 0.2 / 2) < 0.03)  # a s^2 / (2 lambda), that of the equation
        True
    """
    check.compilable(loss)
    if (number := check.number("l", l)) < 1:
        raise ValueError(f"l must be at least 1, the noise as it is, but it is {number:g}.")
    return _Amplified(loss, number)

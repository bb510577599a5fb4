"""Losses on the bundled digits, or on other rows, as functions of the params alone, to measure dynamics on."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inercia.problems.data import checked, digits
from inercia.problems.empirical_risk import risk
from inercia.problems.labels import one_hot
from inercia.problems.network import mlp


def digits_loss(hidden: Iterable[int] = (32,), seed: int = 0) -> tuple[Callable, Any]:
    """Return the cross-entropy of a digits network over the training set, and a start.

    Example:
        >>> loss, params = digits_loss()
        >>> bool(1 < loss(params) < 4)
        True
    """
    data, _ = digits()
    network = mlp([64, *hidden, 10])
    of_batch, x, y = risk(network, "cross-entropy"), jnp.asarray(data.x), jnp.asarray(data.y)
    return lambda params: of_batch(params, (x, y)), network.init(jax.random.key(seed))


def edge_loss(
    x: np.ndarray, y: np.ndarray, hidden: Iterable[int] = (16, 16), activation: str = "swish", seed: int = 0
) -> tuple[Callable, Any]:
    """Return the squared error of a network over all rows, classes as one target each, and a start.

    Columns are standardised and then made small, so that a rate which meets the edge later is below it at the start.

    Example:
        >>> data, _ = digits()
        >>> loss, params = edge_loss(data.x[:100], data.y[:100])
        >>> bool(0.4 < loss(params) < 1.6)
        True
    """
    x, y = checked((x, y))
    x = np.asarray(x, np.float64)
    x = 0.3 * (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 0.1 * x.std())
    goal = one_hot(y) if y.dtype.kind in "iu" else y.reshape(len(y), -1)
    network = mlp([x.shape[1], *hidden, goal.shape[1]], activation)
    of_batch, batch = risk(network), (jnp.asarray(x, jnp.float32), jnp.asarray(goal, jnp.float32))
    return lambda params: of_batch(params, batch), network.init(jax.random.key(seed))

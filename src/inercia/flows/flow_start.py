"""Where a flow starts: the state as numbers that move, its counters as a clock, a rate that is finite."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inercia.core import tree
from inercia.core.method import State
from inercia.flows.vector_field import EVERYWHERE, Field, with_clock


def numbers(state: State) -> State:
    """Return the state, or raise TypeError where it holds a key of random numbers."""
    for keys, leaf in jax.tree_util.tree_leaves_with_path(state):
        if jnp.issubdtype(getattr(leaf, "dtype", np.float64), jax.dtypes.prng_key):
            raise TypeError(
                f"a flow moves numbers, but state{jax.tree_util.keystr(keys)} is a key of random numbers: noise needs "
                "a stochastic equation, such as `diffuse` solves."
            )
    return state


def continuous(state: State, mask: tuple[bool, ...], dt: Any, time: float, made: int | None) -> State:
    """Return the state as a point of the flow: floats, counters turned into the clock, which must show `time`.

    Where the updates made are given, they are what the clock shows: a counter may start at 1, or count failures.
    """

    def as_time(leaf):
        counts = np.asarray(leaf).dtype.kind in "iu"
        moved = np.asarray(leaf, float) * (float(dt) if counts else 1.0)
        shown = moved if made is None else made * float(dt)
        if np.any(abs(np.asarray(shown) - time) > 1e-9 * max(1.0, abs(time))):
            raise ValueError(
                f"times must start where the state's clock stands, but times[0] = {time:g} and the clock shows "
                f"{float(np.ravel(shown)[0]):g}: start there, or pass another state."
            )
        return moved

    return tree.float64(with_clock(state, mask, as_time))


def check_start(field: Field, rate: Callable, times: np.ndarray, z0: np.ndarray) -> np.ndarray:
    """Return the rate at the start, or raise ValueError unless it has the point's form, is finite, and exists later."""
    if (size := field.rate_size(z0)) != z0.size:
        raise ValueError(
            f"the flow must return trees like params and state, {z0.size} numbers, but it returns {size}: "
            "is the state another method's?"
        )
    begins = np.asarray(rate(EVERYWHERE, z0))
    if not np.isfinite(begins).all():
        raise ValueError("the flow must be finite at the start, but it is not: check params, state and loss there.")
    if times[-1] < 0 <= times[0] and any(field.equation[2]):
        warm = tree.vector((field.params, jax.tree.map(lambda x: np.asarray(x) + 1, field.state)))  # averages not 0
        one, two = (rate(np.array([t, t]), warm) for t in (1.0, 2.0))
        if not np.array_equal(one, two):
            raise ValueError(
                f"times must not go below 0, where the clock of a flow that depends on time starts, but the last is "
                f"{times[-1]:g}."
            )
    return begins

"""The vector field of a flow of one parameter and its memory, on a grid of both: what a phase portrait is drawn of."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inercia.core import check, tree
from inercia.core.method import State
from inercia.flows.vector_field import clocks, flow_of


class Portrait(NamedTuple):
    """A field on a grid, as `Axes.streamplot` takes it; NumPy float64."""

    theta: np.ndarray  # (n,), positions
    memory: np.ndarray  # (k,), of the state's one entry beside its clock
    theta_rate: np.ndarray  # (k, n), d theta/dt
    memory_rate: np.ndarray  # (k, n), its time derivative


def portrait(
    flow: Any, loss: Callable, theta: Any, memory: Any, *, time: float = 0.0, state: State | None = None
) -> Portrait:
    """Evaluate a flow at every pair of a position and a memory, for a loss of one number.

    Args:
        flow: a method, or a bare flow such as that of `oscillator` or `high_resolution`.
        loss: scalar -> scalar.
        theta: (n,), positions.
        memory: (k,), of the momentum, sum of gradients or velocity that the state holds.
        time: in iterations, where the flow depends on it.
        state: of a bare flow, for its form; a method makes its own.

    Raises:
        TypeError: a bare flow without a state.
        ValueError: a state that holds not one number beside its clock.

    Example:
        >>> import inercia, numpy as np
        >>> field = inercia.portrait(inercia.momentum(0.5, 0.75), lambda x: x**2 / 2, [-1.0, 0.0, 1.0], [-2.0, 2.0])
        >>> field.theta_rate.tolist(), field.memory_rate.tolist()  # -a m and (1-b) (g - m)
        ([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]], [[0.25, 0.5, 0.75], [-0.75, -0.5, -0.25]])
    """
    if state is None and not hasattr(flow, "init"):
        raise TypeError("a bare flow needs state=, the form of its state, for example OscillatorState(0.0, 0.0).")
    with jax.enable_x64(True):
        x, m = (tree.float64(np.ravel(check.array(name, v))) for name, v in (("theta", theta), ("memory", memory)))
        state = flow.init(jnp.zeros(())) if state is None else state
        is_clock = clocks(flow, jnp.zeros(()), state)
        structure = jax.tree.structure(state)
        if is_clock.count(False) != 1:
            held = is_clock.count(False)
            raise ValueError(f"the state must hold one number beside its clock, but this one holds {held}.")
        of = flow_of(flow)

        def rates(m: Any, x: Any) -> tuple:
            at = jax.tree.unflatten(structure, [jnp.asarray(time, float) if c else m for c in is_clock])
            theta_rate, state_rate = of(jax.grad(loss)(x), at, x)
            return theta_rate, jax.tree.leaves(state_rate)[is_clock.index(False)]

        grid = jax.vmap(jax.vmap(rates, (None, 0)), (0, None))
        return Portrait(*tree.to_numpy((x, m, *jax.jit(grid)(m, x))))

"""A method is an optax transformation that also knows its flow.

    update(grads, state, params) -> (delta params, new state)      one iteration
    flow  (grads, state, params) -> (d params/dt,  d state/dt)     its continuous-time limit, same trees

Time is counted in iterations: one update advances it by `dt`, which is 1 for the ordinary optimizer. **Refining** a
method takes 1/dt times as many updates, each with a -> a dt and (1-b) -> (1-b) dt, schedules being read at
t = k dt. The differential equation does not change with dt, and the iterates converge to it as dt -> 0.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax

from inercia.core import check
from inercia.core.tree import map_grads

Params: TypeAlias = Any  # a tree of arrays
State: TypeAlias = Any  # a NamedTuple of arrays
Number: TypeAlias = Any  # a Python number, a scalar array or a tracer
Schedule: TypeAlias = Callable[[Any], Any]  # step -> value; step 0 at the first update; in a flow, the time
Family: TypeAlias = Callable[[float], optax.GradientTransformation]  # dt -> transformation


class Method(optax.GradientTransformationExtraArgs):
    """An `optax.GradientTransformationExtraArgs` with a flow.

    Attributes:
        init: params -> state.
        update: (grads, state, params=None, **extra) -> (updates, state); updates are added to the params.
        flow: (grads, state, params=None) -> (d params/dt, d state/dt).
        dt: flow time that one update advances, in iterations.
        name: the factory's, a key of `METHODS`.
        hyper: the hyperparameters it was made with, by name; what `modified` and `stability` go by.

    Example:
        >>> import inercia
        >>> method = inercia.momentum(0.1)
        >>> init, update = method
        >>> isinstance(method, optax.GradientTransformationExtraArgs), method.dt
        (True, 1.0)
    """

    flow: Callable[..., tuple[Params, State]]
    dt: Number
    name: str
    hyper: dict[str, Any]

    def __new__(
        cls, init: Callable, update: Callable, flow: Callable, dt: Number = 1.0, name: str = "", **hyper: Any
    ) -> "Method":
        """Join the three functions; `dt` is the flow time of one update."""
        self = super().__new__(cls, init, update)
        self.flow, self.dt, self.name, self.hyper = flow, dt, name, hyper
        return self


class NoFlow:
    """Stands where a flow would: the method has none that is smooth, for the stated reason."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __call__(self, *_: Any, **__: Any) -> Any:
        """Raise TypeError with the reason."""
        raise TypeError(self.reason)


def tick(count: jax.Array) -> jax.Array:
    """Return count + 1, staying at the largest integer."""
    return jnp.asarray(optax.safe_increment(count))


def at(value: Number | Schedule, time: Any) -> Any:
    """Read a hyperparameter at `time`: schedules are called, numbers are returned."""
    return value(time) if callable(value) else value


def clock(count: jax.Array, dt: Number) -> Any:
    """Return the time of update number `count`; for dt = 1 the integer itself, as schedules expect."""
    return count if isinstance(dt, (int, float)) and dt == 1 else count * dt


def refine(decay: Number, dt: Number) -> Any:
    """Return the decay 1 - (1-b) dt of a method refined by dt; for dt = 1 it is b, to the last bit in [1/2, 1)."""
    return 1 - (1 - decay) * dt


def debiased(moment: jax.Array, limit: jax.Array, decay: Number, t: Any) -> jax.Array:
    """Return moment / (1 - e^{-(1-b) t}), an average corrected for its start at zero; at t = 0 its `limit`."""
    started = jnp.where(t > 0, t, 1.0)  # keeps 0/0 out of both branches
    return jnp.where(t > 0, moment / -jnp.expm1(-(1 - decay) * started), limit)


def like(value: Any, leaf: jax.Array) -> jax.Array:
    """Cast a hyperparameter to the real dtype of `leaf`, so that it never promotes the params or the state."""
    return jnp.asarray(value, dtype=jnp.finfo(leaf.dtype).dtype)


def abs_sq(g: jax.Array) -> jax.Array:
    """Return |g|^2, real."""
    return (g.conj() * g).real


def cast_like(new: Params, old: Params) -> Params:
    """Return the leaves of `new` in the dtypes of `old`, so that a state keeps its own."""
    return map_grads(lambda x, y: x.astype(y.dtype), new, old)


def decay_weights(updates: Params, params: Params, a: Any, w: Any, mask: Any) -> Params:
    """Return updates - a w params, where the mask (a tree of bools, a prefix of one, or params -> tree) is true."""
    if params is None:
        raise ValueError("weight decay needs the params: call update(grads, state, params).")
    mask = True if mask is None else mask(params) if callable(mask) else mask
    keep = jax.tree.map(lambda m, p: jax.tree.map(lambda _: m, p), mask, params)
    return map_grads(lambda u, p, m: u - like(a, u) * (like(w, u) * p) if m else u, updates, params, keep)


def zeros_like(params: Params, dtype: Any = None) -> Params:
    """Return zeros shaped like params, after checking that params can be differentiated."""
    check.differentiable("params", params)
    return optax.tree.zeros_like(params, dtype=dtype)

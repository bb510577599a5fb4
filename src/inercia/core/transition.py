"""What the methods' transitions and flows are written with: clocks, decays, and arithmetic that keeps dtypes."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from inercia.core import check
from inercia.core.method import Number, Params, Schedule
from inercia.core.tree import map_grads


def tick(count: jax.Array) -> jax.Array:
    """Return count + 1, staying at the largest integer."""
    return jnp.asarray(optax.safe_increment(count))


def at(value: Number | Schedule, time: Any) -> Any:
    """Read a hyperparameter at `time`: schedules are called, numbers are returned."""
    return value(time) if callable(value) else value


def clock(count: jax.Array, dt: Number) -> Any:
    """Return the time of update number `count`; for dt = 1 the integer itself, as schedules expect.

    Example:
        >>> int(clock(jnp.int32(7), 1.0)), float(clock(jnp.int32(7), 0.5))
        (7, 3.5)
    """
    if isinstance(dt, (int, float)) and dt == 1:
        return count  # as optax gives it: an int32, over which a schedule may make float32 even in float64 dynamics
    if jnp.issubdtype(jnp.result_type(count), jnp.integer):
        count = jnp.asarray(count, jax.dtypes.canonicalize_dtype(jnp.int64))
    return count * dt


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


def times(factor: Number, signal: Params) -> Params:
    """Return factor times signal in the signal's dtypes; for the Python number 1 the signal itself."""
    if isinstance(factor, (int, float)) and factor == 1:
        return signal
    return map_grads(lambda s: like(factor, s) * s, signal)


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
    keep = chosen(mask, params)
    return map_grads(lambda u, p, m: u - like(a, u) * (like(w, u) * p) if m else u, updates, params, keep)


def chosen(mask: Any, params: Params) -> Any:
    """Return for each leaf whether a mask is true there: None, a tree of bools, a prefix of one, or params -> tree."""
    mask = True if mask is None else mask(params) if callable(mask) else mask
    return jax.tree.map(lambda m, p: jax.tree.map(lambda _: m, p), mask, params)


def zeros_like(params: Params, dtype: Any = None) -> Params:
    """Return zeros shaped like params, after checking that params can be differentiated."""
    check.differentiable("params", params)
    return optax.tree.zeros_like(params, dtype=dtype)


def full_like(params: Params, value: Number) -> Params:
    """Return real arrays of one value shaped like params, after checking that params can be differentiated."""
    check.differentiable("params", params)
    return jax.tree.map(lambda p: jnp.full_like(p.real, value), params)

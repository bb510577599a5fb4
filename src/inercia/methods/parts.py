"""What chains are made of: each transforms a signal, the gradient at first, and knows its continuous limit.

    update(s, state, params) -> (dt T(s), new state)      one update
    flow  (s, state, params) -> (T(s), d state/dt)        its limit

The signal is a rate, so what has no memory (a clip, a scale, a schedule) is its own limit, and what has one refines as
the methods do, (1-b) -> (1-b) dt. A part moves along its signal, not against it: in a `chain`, `scale_by_learning_rate`
or a method turns it around. Names, arguments and states are optax's, and the updates are made by optax's own code with
refined numbers, so that at dt = 1 they are its own to the bit; the flows are ours.

A sum that starts at zero (`trace`, `ema` without `debias`) in front of Adam costs the order a logarithm, whatever the
step. Adam divides by the size of its signal, which is k dt s at update k: the direction is
sqrt(3)/2 sqrt((2k+2)/(2k+1)) where the limit has sqrt(3)/2, too large by the part 1/(4k), and the parts add up to a gap
of sqrt(3)/8 a dt log(1/dt) per parameter, seen as a slope of .7 to .9. `order` says so. What is corrected for its start
(`ema`) or starts warm (`state=`) has order 1.

Example:
    >>> import inercia as ia
    >>> ia.chain(ia.parts.clip_by_global_norm(1.0), ia.parts.trace(0.9), ia.parts.scale_by_learning_rate(0.1))
    chain(clip_by_global_norm(max_norm=1.0), trace(decay=0.9), scale_by_learning_rate(learning_rate=0.1))
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from inercia.core import check
from inercia.core.method import Method, Number, Params, Schedule, State, factory
from inercia.core.transition import clock, debiased, like, refine, times, zeros_like
from inercia.core.tree import map_grads
from inercia.methods.adam import AdamState, adam


def _number(name: str, value: Any, judge: Callable[[str, Any], None] = check.positive) -> Any:
    if callable(value):
        raise TypeError(f"{name} must be a number, but it is a function: scale_by_schedule takes one.")
    judge(name, value)
    return value


def _part(made: optax.GradientTransformation, flow: Callable[[Params, Any, Params], Any], dt: Number) -> Method:
    """Make a part of one of optax's transformations with refined numbers, and of its limit."""
    check.positive("dt", dt)

    def update(grads: Params, state: State, params: Params = None, **extra: Any) -> tuple[Params, State]:
        signal, after = made.update(grads, state, params)
        return times(dt, signal), after

    return Method(made.init, update, lambda grads, state, params=None: flow(grads, state, params), dt)


def _memoryless(made: optax.GradientTransformation, dt: Number) -> Method:
    return _part(made, lambda grads, state, params: (made.update(grads, state, params)[0], state), dt)


@factory()
def clip(max_delta: Number, *, dt: Number = 1.0) -> Method:
    """Clip each entry of the signal to [-max_delta, max_delta], as `optax.clip`; the limit has corners, no jumps."""
    return _memoryless(optax.clip(_number("max_delta", max_delta)), dt)


@factory()
def clip_by_global_norm(max_norm: Number, *, dt: Number = 1.0) -> Method:
    """Shorten the signal to the norm max_norm where it is longer, as optax's; the limit has a corner, no jump."""
    return _memoryless(optax.clip_by_global_norm(_number("max_norm", max_norm)), dt)


@factory()
def add_decayed_weights(weight_decay: Number = 0.0, mask: Any = None, *, dt: Number = 1.0) -> Method:
    """Add w theta to the signal where the mask is true, as optax's."""
    w = _number("weight_decay", weight_decay, check.nonnegative)
    return _memoryless(optax.add_decayed_weights(w, mask), dt)


@factory()
def scale(step_size: Number, *, dt: Number = 1.0) -> Method:
    """Multiply the signal by a number, as `optax.scale`."""
    return _memoryless(optax.scale(step_size), dt)


@factory()
def set_to_zero(*, dt: Number = 1.0) -> Method:
    """Drop the signal, as `optax.set_to_zero`: what it is given to is frozen."""
    return _memoryless(optax.set_to_zero(), dt)


@factory()
def scale_by_schedule(step_size_fn: Schedule, *, dt: Number = 1.0) -> Method:
    """Multiply the signal by a schedule of the step, as optax's; read at the time in the limit."""

    def flow(grads: Params, state: Any, params: Params) -> tuple[Params, Any]:
        value = step_size_fn(state.count)
        return map_grads(lambda s: like(value, s) * s, grads), type(state)(jnp.ones_like(state.count))

    return _part(optax.scale_by_schedule(lambda count: step_size_fn(clock(jnp.asarray(count), dt))), flow, dt)


@factory()
def scale_by_learning_rate(learning_rate: Number | Schedule, *, dt: Number = 1.0) -> Method:
    """Multiply the signal by -a, a number or a schedule, as optax's."""
    check.positive("learning_rate", learning_rate)
    if callable(learning_rate):
        schedule: Any = learning_rate
        return scale_by_schedule(lambda time: -1 * schedule(time), dt=dt)  # as optax writes it, to the last bit
    return scale(-learning_rate, dt=dt)


def _check_decay(decay: Number, dt: Number) -> Any:
    check.positive("dt", dt)
    check.in_unit_interval("decay", _number("decay", decay, check.nonnegative))
    check.refinable("decay", decay, dt)
    return refine(decay, dt)


@factory()
def ema(decay: Number, debias: bool = True, accumulator_dtype: Any = None, *, dt: Number = 1.0) -> Method:
    """Average the signal, m+ = b m + (1-b) s, as `optax.ema`; the limit is m' = (1-b)(s - m).

    With `debias` what goes on is m+ / (1 - b^(k+1)), in the limit m / (1 - e^{-(1-b) t}), and s at t = 0.
    """
    made = optax.ema(_check_decay(decay, dt), debias, accumulator_dtype)

    def flow(grads: Params, state: Any, params: Params) -> tuple[Params, Any]:
        signal = map_grads(lambda s, m: debiased(m, s, decay, state.count) if debias else m, grads, state.ema)
        m_dot = map_grads(lambda s, m: (1 - decay) * (s - m), grads, state.ema)
        return signal, type(state)(jnp.ones_like(state.count), m_dot)

    return _part(made, flow, dt)


@factory()
def trace(decay: Number, nesterov: bool = False, accumulator_dtype: Any = None, *, dt: Number = 1.0) -> Method:
    """Sum the signal with decay, v+ = b v + s, as `optax.trace`; the limit is v' = s - (1-b) v.

    Refined it is v+ = (1 - (1-b) dt) v + dt s. The look-ahead of `nesterov` has the same limit.
    """
    b = _check_decay(decay, dt)

    def decayed_sum(s: jax.Array, v: jax.Array) -> jax.Array:
        return times(dt, s) + like(b, v) * v

    def update(grads: Params, state: Any, params: Params = None, **extra: Any) -> tuple[Params, Any]:
        v = map_grads(decayed_sum, grads, state.trace)
        signal = map_grads(decayed_sum, grads, v) if nesterov else v
        return times(dt, signal), type(state)(map_grads(lambda new, old: new.astype(old.dtype), v, state.trace))

    def flow(grads: Params, state: Any, params: Params = None) -> tuple[Params, Any]:
        return state.trace, type(state)(map_grads(lambda s, v: s - (1 - decay) * v, grads, state.trace))

    return Method(lambda params: optax.TraceState(zeros_like(params, accumulator_dtype)), update, flow, dt)


@factory()
def scale_by_adam(
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    eps_root: Number = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
    dt: Number = 1.0,
) -> Method:
    """Turn the signal into Adam's direction, as optax's; the limit is that of `adam` at rate 1, along the signal."""
    ours = adam(1.0, b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov, dt=dt)
    c1, c2 = refine(b1, dt), refine(b2, dt)

    def flow(grads: Params, state: Any, params: Params) -> tuple[Params, Any]:
        theta_dot, state_dot = ours.flow(grads, AdamState(*state))
        return map_grads(jnp.negative, theta_dot), type(state)(*state_dot)

    return _part(optax.scale_by_adam(c1, c2, eps, eps_root, mu_dtype, nesterov=nesterov), flow, dt)

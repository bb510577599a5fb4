"""Leapfrog with friction: steps of the damped oscillator, ordinary or relativistic, that shrink areas as the flow does.

    H = T(p) + a (1-b) f,   T = (a^2/delta) (sqrt(1 + delta |p|^2/a^2) - 1),   p = -a m;   for delta = 0, T = |p|^2/2

The flow shrinks every area of phase space by e^{-(1-b) t}, and so does its step, to rounding: it is conformal
symplectic. It composes exact flows of the parts, half a kick, half a drift, the friction, half a drift, half a kick;
the last half of a kick and the first of the next are at the same params and need one gradient. So it is a heavy ball
of decay e^{-(1-b) dt} whose first kick is half as large: it needs no more gradients and has order 2. On a quadratic of
curvature l it is stable iff a (1-b) l dt^2 < 4, whatever the friction.

In the relativistic one no step is longer than a dt / sqrt(delta), however large the gradient.

Source: Franca, Sulam, Robinson & Vidal 2020, Conformal symplectic and relativistic optimization, whose RGD (alpha = 1)
makes the same step from kick to kick; the clock is that of `momentum`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from inercia.core import check
from inercia.core.method import Method, Number, Params, Schedule, factory
from inercia.core.transition import abs_sq, at, clock, like, tick, zeros_like
from inercia.core.tree import map_grads

__all__ = ["ConformalState", "RelativisticState", "conformal", "relativistic"]


class ConformalState(NamedTuple):
    """State of `conformal`."""

    count: jax.Array  # int32 scalar, updates made; in a flow, the time
    m: Params  # first moment, like params; after an update it lacks half a kick, (1-b) dt g / 2


class RelativisticState(NamedTuple):
    """State of `relativistic`."""

    count: jax.Array  # int32 scalar, updates made; in a flow, the time
    mu: Params  # first moment, as of `ConformalState`; the velocity is -a mu / sqrt(1 + delta |mu|^2)


def _square(m: Params) -> Any:
    return sum(jnp.sum(abs_sq(leaf)) for leaf in jax.tree.leaves(m))


def _leapfrog(state_of: Any, learning_rate: Any, beta: Any, delta: Number, dt: Number) -> Method:
    check.positive("learning_rate", learning_rate)
    check.in_unit_interval("beta", beta)
    check.positive("dt", dt)

    def slowed(m: Params) -> Params:
        """Return m / sqrt(1 + delta |m|^2), |m| over all leaves."""
        if check.is_concrete(delta) and delta == 0:
            return m
        factor = jnp.sqrt(1 + delta * _square(m))
        return jax.tree.map(lambda m: m / like(factor, m), m)

    def init(params: Params) -> Any:
        return state_of(jnp.zeros([], jnp.int32), zeros_like(params))

    def update(grads: Params, state: Any, params: Params = None, **extra: Any) -> tuple[Params, Any]:
        time = clock(state.count, dt)
        half_drift, rate = at(learning_rate, time) * dt / 2, (1 - at(beta, time)) * dt
        kick, kept = rate * jnp.where(state.count == 0, 0.5, 1.0), jnp.exp(-rate)
        before = map_grads(lambda g, m: (m + like(kick, g) * g).astype(m.dtype), grads, state[1])
        after = jax.tree.map(lambda m: like(kept, m) * m, before)
        updates = map_grads(lambda g, v, w: like(-half_drift, v) * (v + w), grads, slowed(before), slowed(after))
        return updates, state_of(tick(state.count), after)

    def flow(grads: Params, state: Any, params: Params = None) -> tuple[Params, Any]:
        a, b = at(learning_rate, state.count), at(beta, state.count)
        theta_dot = map_grads(lambda g, v: -a * v, grads, slowed(state[1]))
        m_dot = map_grads(lambda g, m: (1 - b) * (g - m), grads, state[1])
        return theta_dot, state_of(jnp.ones_like(state.count), m_dot)

    def falling(loss: Any, params: Params, state: Any) -> Any:
        """Return H / (a (1-b)), whose rate is -a |m|^2 / sqrt(1 + delta |m|^2)."""
        for name, value in (("learning_rate", learning_rate), ("beta", beta)):
            if callable(value):
                raise TypeError(f"H falls for constant hyperparameters, but {name} is a schedule.")
        square = _square(state[1])
        return loss + learning_rate / (1 - beta) * square / (1 + jnp.sqrt(1 + delta * square))

    flow.lyapunov = falling  # pyright: ignore[reportFunctionMemberAccess]
    return Method(init, update, flow, dt)


@factory(
    training_rate=0.1,
    rows=(
        (
            "conformal(a, b)",
            "n = m + (1−b) g; m⁺ = e^{−(1−b)} n; θ⁺ = θ − a (n + m⁺)/2; the first g halved",
            "m' = (1−b)(g − m); θ' = −a m",
            "2",
        ),
    ),
)
def conformal(learning_rate: Number | Schedule, beta: Number | Schedule = 0.9, *, dt: Number = 1.0) -> Method:
    """Make the conformal symplectic leapfrog step of momentum's flow, which it follows to second order.

        transition   n = m + (1-b) dt g,   m+ = e^{-(1-b) dt} n,   theta+ = theta - (a dt/2) (n + m+)
                     the first time with g/2 in place of g
        flow         m' = (1-b)(g - m),   theta' = -a m;   that of `momentum`

    Args:
        learning_rate: a > 0, or a schedule step -> a, with which the order is 1.
        beta: b in [0, 1), 1-b being the friction of the flow, or a schedule.
        dt: flow time of one update, in iterations.

    Raises:
        ValueError: a <= 0 or not finite, b outside [0, 1), dt <= 0.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> family = lambda dt: inercia.conformal(0.5, 0.75, dt=dt)
        >>> result = inercia.order(family, lambda x: x**2 / 2, jnp.array(1.0), 4.0, [1, 1 / 2, 1 / 4, 1 / 8])
        >>> round(result.slope, 1)
        2.0
    """
    return _leapfrog(ConformalState, learning_rate, beta, 0.0, dt)


@factory(
    training_rate=0.3,
    rows=(
        (
            "relativistic(a, b, δ)",
            "n, m⁺ as of `conformal`; θ⁺ = θ − a (n/√(1 + δ\\|n\\|²) + m⁺/√(1 + δ\\|m⁺\\|²))/2",
            "m' = (1−b)(g − m); θ' = −a m/√(1 + δ\\|m\\|²)",
            "2",
        ),
    ),
)
def relativistic(
    learning_rate: Number | Schedule, beta: Number | Schedule = 0.9, delta: Number = 1.0, *, dt: Number = 1.0
) -> Method:
    """Make relativistic gradient descent: leapfrog steps of an oscillator whose speed stays below a / sqrt(delta).

        transition   n = m + (1-b) dt g,   m+ = e^{-(1-b) dt} n,   S(m) = m / sqrt(1 + delta |m|^2), |m| of all params
                     theta+ = theta - (a dt/2) (S(n) + S(m+));   the first time with g/2 in place of g
        flow         m' = (1-b)(g - m),   theta' = -a S(m)

    Args:
        learning_rate: a > 0, or a schedule step -> a, with which the order is 1.
        beta: b in [0, 1), or a schedule.
        delta: above 0, in units of one over a squared gradient; towards 0 the step is that of `conformal`.
        dt: flow time of one update, in iterations.

    Raises:
        ValueError: a number outside its range.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> method = inercia.relativistic(0.1, 0.9, 4.0)
        >>> updates, _ = method.update(jnp.array([1e9]), method.init(jnp.array([1.0])))
        >>> round(float(updates[0]), 4)  # -a / sqrt(delta)
        -0.05
    """
    check.positive("delta", delta)
    return _leapfrog(RelativisticState, learning_rate, beta, delta, dt)

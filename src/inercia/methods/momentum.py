"""Momentum, and the damped oscillator it follows.

Both orders are one-step integrators of the same flow, the explicit and the semi-implicit (symplectic) Euler method
with step dt; on a quadratic of curvature l the explicit one is stable iff a l < 1 and the semi-implicit one iff
a l < (2+2b)/(1-b), and the flow always.

Eliminating m gives the second-order form, for schedules a(t), b(t):

    theta'' + [(1-b) - a'/a] theta' + a (1-b) g = 0

an oscillator of unit mass whose friction is (1-b) - a'/a. For constant a, b its energy
E = |theta'|^2 / 2 + a (1-b) f decays as E' = -(1-b) |theta'|^2.

Sources: Polyak 1964; D. Olguin, "Como optimizar redes neuronales? Desde el SGD hasta Adam", CMM, Universidad de
Chile, 2025; Kovachki & Stuart 2021.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from inercia.core import check
from inercia.core.linear_form import LinearForm, per_update
from inercia.core.method import Method, Number, Params, Schedule, factory
from inercia.core.transition import at, clock, like, refine, tick, zeros_like
from inercia.core.tree import map_grads
from inercia.methods.smoothed import falling

__all__ = ["SCHEMES", "MomentumState", "OscillatorState", "momentum", "oscillator"]

SCHEMES = ("semi-implicit", "explicit")


class MomentumState(NamedTuple):
    """State of `momentum`."""

    count: jax.Array  # int32 scalar, updates made; in a flow, the time
    m: Params  # first moment of the gradient, like params


def _form(learning_rate, beta, scheme, dt):
    return LinearForm(scheme, per_update(learning_rate, dt, dt), beta if callable(beta) else refine(beta, dt))


@factory(
    training_rate=0.1,
    edge={"learning_rate": 2.0, "beta": 0.5},
    form=_form,
    rows=(
        ("momentum(a, b)", "m⁺ = b m + (1−b) g; θ⁺ = θ − a m⁺", "m' = (1−b)(g − m); θ' = −a m", "1"),
        (
            'momentum(a, b, scheme="explicit")',
            "θ⁺ = θ − a m (old m); m⁺ = b m + (1−b) g",
            "the same",
            "1",
        ),
    ),
)
def momentum(
    learning_rate: Number | Schedule,
    beta: Number | Schedule = 0.9,
    *,
    scheme: str = "semi-implicit",
    dt: Number = 1.0,
) -> Method:
    """Make momentum in the lecture's averaged (EMA) form, with its flow.

        transition   explicit (the lecture)     theta+ = theta - a m,    m+ = b m + (1-b) g        (the old m)
                     semi-implicit              m+ = b m + (1-b) g,      theta+ = theta - a m+     (the frameworks)
        refined      b -> 1 - (1-b) dt,   a -> a dt
        flow         m' = (1-b)(g - m),   theta' = -a m

    Args:
        learning_rate: a > 0, or a schedule step -> a.
        beta: decay b in [0, 1) of the average, or a schedule step -> b.
        scheme: "semi-implicit" steps along the new average, as the frameworks do; "explicit" along the old one, as
            the lecture writes it, so that its first step is zero.
        dt: flow time of one update, in iterations, with (1-b) dt <= 1.

    Raises:
        ValueError: a <= 0 or not finite, b outside [0, 1), unknown scheme, dt <= 0 or too large.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> for scheme in ("semi-implicit", "explicit"):
        ...     method = inercia.momentum(0.5, 0.75, scheme=scheme)
        ...     updates, state = method.update(jnp.array([8.0]), method.init(jnp.array([1.0])))
        ...     print(updates.tolist(), state.m.tolist())
        [-1.0] [2.0]
        [-0.0] [2.0]
    """
    check.positive("learning_rate", learning_rate)
    check.positive("dt", dt)
    check.in_unit_interval("beta", beta)
    check.refinable("beta", beta, dt)
    check.one_of("scheme", scheme, SCHEMES)

    def init(params: Params) -> MomentumState:
        return MomentumState(jnp.zeros([], jnp.int32), zeros_like(params))

    def update(
        grads: Params, state: MomentumState, params: Params = None, **extra: Any
    ) -> tuple[Params, MomentumState]:
        time = clock(state.count, dt)
        a, b = at(learning_rate, time) * dt, refine(at(beta, time), dt)
        m = map_grads(lambda g, m: (like(b, m) * m + like(1 - b, g) * g).astype(m.dtype), grads, state.m)
        moved_along = m if scheme == "semi-implicit" else state.m
        updates = map_grads(lambda g, m: like(-a, m) * m, grads, moved_along)
        return updates, MomentumState(tick(state.count), m)

    def flow(grads: Params, state: MomentumState, params: Params = None) -> tuple[Params, MomentumState]:
        a, b = at(learning_rate, state.count), at(beta, state.count)
        theta_dot = map_grads(lambda g, m: -a * m, grads, state.m)
        m_dot = map_grads(lambda g, m: (1 - b) * (g - m), grads, state.m)
        return theta_dot, MomentumState(jnp.ones_like(state.count), m_dot)

    flow.lyapunov = falling(learning_rate, beta, lambda a, b: a / (2 * (1 - b)), lambda state: state.m)  # pyright: ignore[reportFunctionMemberAccess]
    return Method(init, update, flow, dt)


class OscillatorState(NamedTuple):
    """State of the second-order form."""

    count: jax.Array  # the time
    velocity: Params  # theta', like params


def oscillator(learning_rate: Number | Schedule, beta: Number | Schedule = 0.9) -> Any:
    """Make the second-order form of the momentum flow, on the state (t, theta').

    Args:
        learning_rate: a, or a schedule differentiable in time.
        beta: b, or a schedule.

    Returns:
        A flow (grads, `OscillatorState`, params) -> (d params/dt, d state/dt), which `integrate` takes in place
        of a method. It equals the momentum flow when the velocity starts at -a m.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> state = inercia.OscillatorState(0.0, jnp.array([1.0]))
        >>> inercia.oscillator(0.5, 0.75)(jnp.array([8.0]), state)[1].velocity.tolist()
        [-1.25]
    """
    check.positive("learning_rate", learning_rate)
    check.in_unit_interval("beta", beta)

    def flow(grads: Params, state: OscillatorState, params: Params = None) -> tuple[Params, OscillatorState]:
        time = jnp.asarray(state.count, dtype=float)
        a, a_dot = jax.jvp(lambda t: at(learning_rate, t) + 0 * t, (time,), (jnp.ones_like(time),))
        b = at(beta, time)
        friction = (1 - b) - a_dot / a
        acceleration = map_grads(lambda g, v: -friction * v - a * (1 - b) * g, grads, state.velocity)
        return state.velocity, OscillatorState(jnp.ones_like(time), acceleration)

    return flow

"""Nesterov's accelerated gradient, with the momentum (k-1)/(k+2), and its equation with friction 3/t.

On f = l theta^2 / 2 the flow is theta(t) = theta(0) 2 J_1(z)/z with z = t sqrt(s l), J_1 the Bessel function.

Sources: Nesterov 1983; Su, Boyd & Candes 2016.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from inercia.core import check
from inercia.core.method import Method, Number, Params, factory
from inercia.core.transition import like, tick, zeros_like
from inercia.core.tree import map_grads

__all__ = ["NesterovState", "nesterov"]


class NesterovState(NamedTuple):
    """State of `nesterov`."""

    count: jax.Array  # int32 scalar, updates made; in a flow, the time
    velocity: Params  # w, like params, per iteration


@factory(
    training_rate=0.02,
    rows=(
        (
            "nesterov(a)",
            "x⁺ = y − a g(y); y⁺ = x⁺ + (k−1)/(k+2) (x⁺ − x)",
            "θ'' + (3/t) θ' + a g = 0",
            "1",
        ),
    ),
)
def nesterov(learning_rate: Number, *, dt: Number = 1.0) -> Method:
    """Make Nesterov's accelerated gradient method, with its flow.

        as published   x+ = y - s g(y),   y+ = x+ + (k-1)/(k+2) (x+ - x),   k = 1, 2, ...
        as written     w = (x - x_before)/dt:   w+ = c_{k-1} w - s dt g,   theta+ = theta + c_k dt w+ - s dt^2 g
                       with theta = y, g = g(theta), c_k = k/(k+3), k = 0, 1, ... updates made
        refined        s -> s dt^2, as in t = k sqrt(s)
        flow           theta'' + (3/t) theta' + s g = 0:   theta' = w,   w' = -(3/t) w - s g;   at t = 0, w' = -s g / 4

    The params are the points y where gradients are taken.

    Args:
        learning_rate: s > 0, a constant: the method's clock is its schedule.
        dt: flow time of one update, in iterations.

    Raises:
        ValueError: s or dt that is not above 0.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> path = inercia.iterate(inercia.nesterov(0.1), lambda x: x**2 / 2, jnp.array(1.0), 2)
        >>> path.params.round(4).tolist()  # y_2 = 0.81 + (0.81 - 0.9) / 4
        [1.0, 0.9, 0.7875]
    """
    check.positive("learning_rate", learning_rate)
    check.positive("dt", dt)
    if callable(learning_rate):
        raise TypeError("learning_rate of nesterov must be a number, but it is a schedule.")

    def init(params: Params) -> NesterovState:
        return NesterovState(jnp.zeros([], jnp.int32), zeros_like(params))

    def update(
        grads: Params, state: NesterovState, params: Params = None, **extra: Any
    ) -> tuple[Params, NesterovState]:
        k, s = state.count, learning_rate * dt

        def new_velocity(g, w):
            j = like(k, w)  # a count in the leaf's own precision
            return (jnp.maximum(j - 1, 0) / (j + 2) * w - like(s, g) * g).astype(w.dtype)

        velocity = map_grads(new_velocity, grads, state.velocity)
        updates = map_grads(
            lambda g, w: like(k, w) / (like(k, w) + 3) * like(dt, w) * w - like(s * dt, g) * g, grads, velocity
        )
        return updates, NesterovState(tick(k), velocity)

    def flow(grads: Params, state: NesterovState, params: Params = None) -> tuple[Params, NesterovState]:
        t = state.count
        friction, push = jnp.where(t > 0, 3 / jnp.where(t > 0, t, 1.0), 0.0), jnp.where(t > 0, 1.0, 0.25)
        acceleration = map_grads(lambda g, w: -friction * w - push * learning_rate * g, grads, state.velocity)
        return state.velocity, NesterovState(jnp.ones_like(t), acceleration)

    return Method(init, update, flow, dt)

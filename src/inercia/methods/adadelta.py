"""AdaDelta: the gradient in units of the params: times the root mean square of the steps over that of the gradients.

No learning rate is needed: u has the units of theta. From x = 0 the first steps are as small as sqrt(eps), and x grows
from there by itself. Weight decay is added to the gradient, before the averages.

Source: Zeiler 2012. Names, order and defaults are those of `optax.adadelta`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from inercia.core import check
from inercia.core.method import Method, Number, Params, Schedule, factory
from inercia.core.transition import abs_sq, at, cast_like, clock, decay_weights, full_like, like, refine, tick
from inercia.core.tree import map_grads

__all__ = ["AdadeltaState", "adadelta"]


class AdadeltaState(NamedTuple):
    """State of `adadelta`."""

    count: jax.Array  # int32 scalar, updates made; in a flow, the time
    e_g: Params  # mean square of the gradient, real, like params
    e_x: Params  # mean square of the steps u, real, like params


@factory(
    training_rate=1.0,
    rows=(
        (
            "adadelta(a)",
            "v⁺ = b v + (1−b) g²; u = g √(x + ε)/√(v⁺ + ε); x⁺ = b x + (1−b) u²; θ⁺ = θ − a u",
            "v' = (1−b)(g² − v); x' = (1−b)(u² − x); θ' = −a u",
            "½ from v = 0; 1 warm",
        ),
    ),
)
def adadelta(
    learning_rate: Number | Schedule | None = None,
    rho: Number = 0.9,
    eps: Number = 1e-6,
    weight_decay: Number | Schedule = 0.0,
    weight_decay_mask: Any = None,
    *,
    dt: Number = 1.0,
) -> Method:
    """Make AdaDelta, as `optax.adadelta`, with its flow.

        transition   v+ = b v + (1-b) |g|^2,   u = g sqrt(x + eps) / sqrt(v+ + eps),   x+ = b x + (1-b) |u|^2
                     theta+ = theta - a u
        refined      b -> 1 - (1-b) dt,   a -> a dt
        flow         v' = (1-b)(|g|^2 - v),   x' = (1-b)(|u|^2 - x),   theta' = -a u,   u with v in place of v+

    Args:
        learning_rate: a > 0, or a schedule step -> a; 1 by default.
        rho: b in [0, 1), of both averages.
        eps: inside the roots, >= 0.
        weight_decay: w >= 0, or a schedule: g + w theta stands for g.
        weight_decay_mask: which weights decay, as in `adamw`.
        dt: flow time of one update, with (1-b) dt <= 1.

    Raises:
        ValueError: a number outside its range; from `update` without params, where weights decay.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> method = inercia.adadelta(rho=0.75, eps=0.0625)
        >>> round(float(method.update(jnp.array([2.0]), method.init(jnp.ones(1)))[0][0]), 4)  # -2 / 4 / sqrt(1 + 1/16)
        -0.4851
    """
    rate = 1.0 if learning_rate is None else learning_rate
    check.positive("learning_rate", rate)
    check.positive("dt", dt)
    check.in_unit_interval("rho", rho)
    check.refinable("rho", rho, dt)
    check.nonnegative("eps", eps)
    check.nonnegative("weight_decay", weight_decay)
    decays = callable(weight_decay) or not check.is_concrete(weight_decay) or bool(weight_decay)

    def init(params: Params) -> AdadeltaState:
        return AdadeltaState(jnp.zeros([], jnp.int32), full_like(params, 0), full_like(params, 0))

    def decayed(grads: Params, params: Params, time: Any) -> Params:
        return decay_weights(grads, params, -1.0, at(weight_decay, time), weight_decay_mask) if decays else grads

    def direction(g: jax.Array, v: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.sqrt(x + like(eps, x)) / jnp.sqrt(v + like(eps, v)) * g

    def update(
        grads: Params, state: AdadeltaState, params: Params = None, **extra: Any
    ) -> tuple[Params, AdadeltaState]:
        time = clock(state.count, dt)
        a, b = at(rate, time) * dt, refine(rho, dt)

        def mean_square(g, v):
            return like(1 - b, v) * abs_sq(g) + like(b, v) * v

        grads = decayed(grads, params, time)
        e_g = map_grads(mean_square, grads, state.e_g)
        u = map_grads(direction, grads, e_g, state.e_x)
        e_x = map_grads(mean_square, u, state.e_x)
        after = AdadeltaState(tick(state.count), cast_like(e_g, state.e_g), cast_like(e_x, state.e_x))
        return map_grads(lambda u: like(-a, u) * u, u), after

    def flow(grads: Params, state: AdadeltaState, params: Params = None) -> tuple[Params, AdadeltaState]:
        t, a = state.count, at(rate, state.count)
        grads = decayed(grads, params, t)
        u = map_grads(direction, grads, state.e_g, state.e_x)

        def mean_square_dot(g, v):
            return (1 - rho) * (abs_sq(g) - v)

        e_g_dot, e_x_dot = map_grads(mean_square_dot, grads, state.e_g), map_grads(mean_square_dot, u, state.e_x)
        return map_grads(lambda u: -a * u, u), AdadeltaState(jnp.ones_like(t), e_g_dot, e_x_dot)

    return Method(init, update, flow, dt)

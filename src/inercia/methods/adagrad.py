"""AdaGrad: the gradient over the root of the sum of all its squares.

v starts at `initial_accumulator_value` = 0.1, a warm start: the order is 1. The step is 0 where v is 0.

Source: Duchi, Hazan & Singer 2011. Names, order and defaults are those of `optax.adagrad`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from inercia.core import check
from inercia.core.linear_form import LinearForm, SecondMoment, per_update
from inercia.core.method import Method, Number, Params, Schedule, factory
from inercia.core.transition import abs_sq, at, cast_like, clock, full_like, like, tick
from inercia.core.tree import map_grads

__all__ = ["AdagradState", "adagrad"]


class AdagradState(NamedTuple):
    """State of `adagrad`."""

    count: jax.Array  # int32 scalar, updates made; in a flow, the time
    sum_of_squares: Params  # real, like params


def _form(learning_rate, eps, dt, **_):
    return LinearForm("GD", per_update(learning_rate, dt, dt), 0.0, SecondMoment(None, False, eps, 0.0))


@factory(
    training_rate=0.05,
    form=_form,
    rows=(("adagrad(a)", "v⁺ = v + g²; θ⁺ = θ − a g/√(v⁺ + ε)", "v' = g²; θ' = −a g/√(v + ε)", "1"),),
)
def adagrad(
    learning_rate: Number | Schedule,
    initial_accumulator_value: Number = 0.1,
    eps: Number = 1e-7,
    *,
    dt: Number = 1.0,
) -> Method:
    """Make AdaGrad, as `optax.adagrad`, with its flow.

        transition   v+ = v + |g|^2,   theta+ = theta - a g / sqrt(v+ + eps)
        refined      v+ = v + dt |g|^2,   a -> a dt
        flow         v' = |g|^2,   theta' = -a g / sqrt(v + eps)

    Args:
        learning_rate: a > 0, or a schedule step -> a.
        initial_accumulator_value: v at the start, >= 0.
        eps: inside the root, >= 0.
        dt: flow time of one update.

    Raises:
        ValueError: a number outside its range.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> method = inercia.adagrad(0.5, initial_accumulator_value=9.0)
        >>> round(float(method.update(jnp.array([4.0]), method.init(jnp.ones(1)))[0][0]), 4)  # -0.5 4 / sqrt(9 + 16)
        -0.4
    """
    check.positive("learning_rate", learning_rate)
    check.positive("dt", dt)
    check.nonnegative("initial_accumulator_value", initial_accumulator_value)
    check.nonnegative("eps", eps)

    def init(params: Params) -> AdagradState:
        return AdagradState(jnp.zeros([], jnp.int32), full_like(params, initial_accumulator_value))

    def scaled(g: jax.Array, v: jax.Array) -> jax.Array:
        # The inner where keeps 1/sqrt(0) out of derivatives.
        return jnp.where(v > 0, jax.lax.rsqrt(jnp.where(v > 0, v, 1) + like(eps, v)), 0) * g

    def update(grads: Params, state: AdagradState, params: Params = None, **extra: Any) -> tuple[Params, AdagradState]:
        a = at(learning_rate, clock(state.count, dt)) * dt
        total = map_grads(lambda g, v: like(dt, v) * abs_sq(g) + v, grads, state.sum_of_squares)
        updates = map_grads(lambda g, v: like(-a, g) * scaled(g, v), grads, total)
        return updates, AdagradState(tick(state.count), cast_like(total, state.sum_of_squares))

    def flow(grads: Params, state: AdagradState, params: Params = None) -> tuple[Params, AdagradState]:
        a = at(learning_rate, state.count)
        theta_dot = map_grads(lambda g, v: -a * scaled(g, v), grads, state.sum_of_squares)
        return theta_dot, AdagradState(jnp.ones_like(state.count), map_grads(abs_sq, grads))

    return Method(init, update, flow, dt)

"""Lion and sign descent: every coordinate moves by the same step; only signs matter.

Neither has a smooth flow: the sign jumps where its argument crosses zero, there the iterates chatter with amplitude
a dt for every dt, and the limit is a differential inclusion (Filippov), not an equation. `flow` says so.

Sources: Bernstein et al. 2018; Chen et al. 2023. Names, order and defaults are those of `optax.sign_sgd`, `optax.lion`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from inercia.core import check
from inercia.core.method import Method, NoFlow, Number, Params, Schedule, factory
from inercia.core.transition import at, cast_like, clock, decay_weights, like, refine, tick, zeros_like
from inercia.core.tree import map_grads

__all__ = ["LionState", "SignState", "lion", "sign_sgd"]

_WHY = "{} has no smooth flow: its update jumps where a sign changes, and its limit is a differential inclusion."


class LionState(NamedTuple):
    """State of `lion`."""

    count: jax.Array  # int32 scalar, updates made
    mu: Params  # first moment, like params


class SignState(NamedTuple):
    """State of `sign_sgd`."""

    count: jax.Array  # int32 scalar, updates made


@factory(training_rate=3e-4, rows=(("sign_sgd(a)", "θ⁺ = θ − a sign(g)", "none that is smooth", "–"),))
def sign_sgd(learning_rate: Number | Schedule, *, dt: Number = 1.0) -> Method:
    """Make sign descent, as `optax.sign_sgd`; it has no smooth flow.

        transition   theta+ = theta - a sign(g)
        refined      a -> a dt

    Args:
        learning_rate: a > 0, or a schedule step -> a.
        dt: time that one update stands for, in iterations.

    Raises:
        ValueError: a or dt that is not above 0.
        TypeError: from `flow`, always.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> method = inercia.sign_sgd(0.5)
        >>> method.update(jnp.array([8.0, -0.1]), method.init(jnp.ones(2)))[0].tolist()
        [-0.5, 0.5]
    """
    check.positive("learning_rate", learning_rate)
    check.positive("dt", dt)

    def init(params: Params) -> SignState:
        check.differentiable("params", params)
        return SignState(jnp.zeros([], jnp.int32))

    def update(grads: Params, state: SignState, params: Params = None, **extra: Any) -> tuple[Params, SignState]:
        a = at(learning_rate, clock(state.count, dt)) * dt
        return map_grads(lambda g: like(-a, g) * jnp.sign(g), grads), SignState(tick(state.count))

    return Method(init, update, NoFlow(_WHY.format("sign_sgd")), dt)


@factory(
    training_rate=3e-4,
    rows=(
        (
            "lion(a)",
            "θ⁺ = θ − a (sign(b₁ m + (1−b₁) g) + w θ); m⁺ = b₂ m + (1−b₂) g",
            "none that is smooth",
            "–",
        ),
    ),
)
def lion(
    learning_rate: Number | Schedule,
    b1: Number = 0.9,
    b2: Number = 0.99,
    mu_dtype: Any = None,
    weight_decay: Number | Schedule = 1e-3,
    mask: Any = None,
    *,
    dt: Number = 1.0,
) -> Method:
    """Make Lion, as `optax.lion`; it has no smooth flow.

        transition   theta+ = theta - a (sign(b1 m + (1-b1) g) + w theta),   m+ = b2 m + (1-b2) g
        refined      a -> a dt,   b -> 1 - (1-b) dt

    Args:
        learning_rate: a > 0, or a schedule step -> a.
        b1: decay in the sign's argument, in [0, 1).
        b2: decay of the moment, in [0, 1).
        mu_dtype: dtype of the moment; by default that of the params.
        weight_decay: w >= 0, or a schedule.
        mask: which weights decay, as in `adamw`.
        dt: time that one update stands for, in iterations.

    Raises:
        ValueError: a number outside its range.
        TypeError: from `flow`, always.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> method, params = inercia.lion(0.5, weight_decay=0.1), jnp.array([2.0])
        >>> round(float(method.update(jnp.array([8.0]), method.init(params), params)[0][0]), 4)
        -0.6
    """
    check.positive("learning_rate", learning_rate)
    check.positive("dt", dt)
    for name, decay in (("b1", b1), ("b2", b2)):
        check.in_unit_interval(name, decay)
        check.refinable(name, decay, dt)
    check.nonnegative("weight_decay", weight_decay)

    def init(params: Params) -> LionState:
        return LionState(jnp.zeros([], jnp.int32), zeros_like(params, mu_dtype))

    def update(grads: Params, state: LionState, params: Params = None, **extra: Any) -> tuple[Params, LionState]:
        time = clock(state.count, dt)
        a, c1, c2 = at(learning_rate, time) * dt, refine(b1, dt), refine(b2, dt)
        updates = map_grads(lambda g, m: like(-a, g) * jnp.sign(like(1 - c1, g) * g + like(c1, m) * m), grads, state.mu)
        mu = map_grads(lambda g, m: like(1 - c2, g) * g + like(c2, m) * m, grads, state.mu)
        updates = decay_weights(updates, params, a, at(weight_decay, time), mask)
        return updates, LionState(tick(state.count), cast_like(mu, state.mu))

    return Method(init, update, NoFlow(_WHY.format("lion")), dt)

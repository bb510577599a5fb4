"""Lion and sign descent: every coordinate moves by the same step; only signs matter.

Neither has a smooth flow: the sign jumps where its argument crosses zero, there the iterates chatter with amplitude
a dt for every dt, and the limit is a differential inclusion (Filippov), not an equation. `flow` says so. With
`smooth` = c > 0 the sign is z / sqrt(z^2 + c^2), the gradient of K(z) = sum sqrt(z^2 + c^2), and a flow of order 1
exists, with a Lyapunov function (`lyapunov`); as c -> 0 the iterates chatter again, so that smaller c need smaller dt.

Sources: Bernstein et al. 2018; Chen et al. 2023. Chen, Liu, Liang & Liu 2024 (the Lyapunov function;
here with smoothing and decay). Names, order and defaults are those of `optax.sign_sgd`, `optax.lion`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from inercia.core import check
from inercia.core.method import Method, NoFlow, Number, Params, Schedule, factory
from inercia.core.transition import at, cast_like, clock, decay_weights, like, refine, tick, zeros_like
from inercia.core.tree import map_grads
from inercia.methods.smoothed import decayed_kinetic, soft_sign

__all__ = ["LionState", "SignState", "lion", "sign_sgd"]

_WHY = "{} has no smooth flow: its update jumps where a sign changes, and its limit is a differential inclusion."


class LionState(NamedTuple):
    """State of `lion`."""

    count: jax.Array  # int32 scalar, updates made
    mu: Params  # first moment, like params


class SignState(NamedTuple):
    """State of `sign_sgd`."""

    count: jax.Array  # int32 scalar, updates made


@factory(
    training_rate=3e-4,
    rows=(
        ("sign_sgd(a)", "θ⁺ = θ − a sign(g)", "none that is smooth", "–"),
        ("sign_sgd(a, smooth=c)", "θ⁺ = θ − a g/√(g² + c²)", "θ' = −a g/√(g² + c²)", "1"),
    ),
)
def sign_sgd(learning_rate: Number | Schedule, *, smooth: Number = 0.0, dt: Number = 1.0) -> Method:
    """Make sign descent, as `optax.sign_sgd`; with `smooth` it has a flow.

        transition   theta+ = theta - a S(g),   S(z) = z / sqrt(z^2 + c^2), the sign for c = 0
        refined      a -> a dt
        flow         theta' = -a S(g),   for c > 0

    Args:
        learning_rate: a > 0, or a schedule step -> a.
        smooth: c >= 0, in units of the gradient.
        dt: time that one update stands for, in iterations.

    Raises:
        ValueError: a or dt that is not above 0, c below 0.
        TypeError: from `flow`, for c = 0.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> method = inercia.sign_sgd(0.5)
        >>> method.update(jnp.array([8.0, -0.1]), method.init(jnp.ones(2)))[0].tolist()
        [-0.5, 0.5]
    """
    check.positive("learning_rate", learning_rate)
    check.positive("dt", dt)
    check.nonnegative("smooth", smooth)

    def init(params: Params) -> SignState:
        check.differentiable("params", params)
        return SignState(jnp.zeros([], jnp.int32))

    def update(grads: Params, state: SignState, params: Params = None, **extra: Any) -> tuple[Params, SignState]:
        a = at(learning_rate, clock(state.count, dt)) * dt
        return map_grads(lambda g: like(-a, g) * soft_sign(g, smooth), grads), SignState(tick(state.count))

    def flow(grads: Params, state: SignState, params: Params = None) -> tuple[Params, SignState]:
        a = at(learning_rate, state.count)
        return map_grads(lambda g: -a * soft_sign(g, smooth), grads), SignState(jnp.ones_like(state.count))

    flow.lyapunov = lambda loss, params, state: loss  # pyright: ignore[reportFunctionMemberAccess]
    return Method(init, update, NoFlow(_WHY.format("sign_sgd")) if _sharp(smooth) else flow, dt)


def _sharp(smooth: Number) -> bool:
    return check.is_concrete(smooth) and smooth == 0


@factory(
    training_rate=3e-4,
    rows=(
        (
            "lion(a)",
            "θ⁺ = θ − a (sign(b₁ m + (1−b₁) g) + w θ); m⁺ = b₂ m + (1−b₂) g",
            "none that is smooth",
            "–",
        ),
        (
            "lion(a, smooth=c)",
            "the same, sign(z) as z/√(z² + c²)",
            "θ' = −a (z/√(z² + c²) + w θ), z = b₁ m + (1−b₁) g; m' = (1−b₂)(g − m)",
            "1",
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
    smooth: Number = 0.0,
    dt: Number = 1.0,
) -> Method:
    """Make Lion, as `optax.lion`; with `smooth` it has a flow.

        transition   theta+ = theta - a (S(b1 m + (1-b1) g) + w theta),   m+ = b2 m + (1-b2) g
                     S(z) = z / sqrt(z^2 + c^2), the sign for c = 0
        refined      a -> a dt,   b2 -> 1 - (1-b2) dt,   b1 stays for c > 0 and likewise 1 - (1-b1) dt for c = 0
        flow         theta' = -a (S(b1 m + (1-b1) g) + w theta),   m' = (1-b2)(g - m),   for c > 0

    Args:
        learning_rate: a > 0, or a schedule step -> a.
        b1: decay in the sign's argument, in [0, 1).
        b2: decay of the moment, in [0, 1).
        mu_dtype: dtype of the moment; by default that of the params.
        weight_decay: w >= 0, or a schedule.
        mask: which weights decay, as in `adamw`.
        smooth: c >= 0, in units of the gradient.
        dt: time that one update stands for, in iterations.

    Raises:
        ValueError: a number outside its range.
        TypeError: from `flow`, for c = 0.

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
    check.nonnegative("smooth", smooth)

    def init(params: Params) -> LionState:
        return LionState(jnp.zeros([], jnp.int32), zeros_like(params, mu_dtype))

    def update(grads: Params, state: LionState, params: Params = None, **extra: Any) -> tuple[Params, LionState]:
        time = clock(state.count, dt)
        a, c2 = at(learning_rate, time) * dt, refine(b2, dt)
        c1 = refine(b1, dt) if _sharp(smooth) else b1
        updates = map_grads(
            lambda g, m: like(-a, g) * soft_sign(like(1 - c1, g) * g + like(c1, m) * m, smooth), grads, state.mu
        )
        mu = map_grads(lambda g, m: like(1 - c2, g) * g + like(c2, m) * m, grads, state.mu)
        updates = decay_weights(updates, params, a, at(weight_decay, time), mask)
        return updates, LionState(tick(state.count), cast_like(mu, state.mu))

    def flow(grads: Params, state: LionState, params: Params = None) -> tuple[Params, LionState]:
        a, w = at(learning_rate, state.count), at(weight_decay, state.count)
        theta_dot = map_grads(lambda g, m: -a * soft_sign((1 - b1) * g + b1 * m, smooth), grads, state.mu)
        mu_dot = map_grads(lambda g, m: (1 - b2) * (g - m), grads, state.mu)
        return decay_weights(theta_dot, params, a, w, mask), LionState(jnp.ones_like(state.count), mu_dot)

    decays = decayed_kinetic(learning_rate, b1, b2, weight_decay, mask, smooth)
    flow.lyapunov = lambda loss, params, state: loss + decays(params, state.mu)  # pyright: ignore[reportFunctionMemberAccess]
    return Method(init, update, NoFlow(_WHY.format("lion")) if _sharp(smooth) else flow, dt)

"""Adam: momentum divided by the root of a second moment, both corrected for their start at zero.

At t = 0 the corrected moments are 0/0; their limits are g and |g|^2. `nesterov=True` is NAdam's look-ahead, whose
flow is the same: the two corrections differ by a share dt/t of the step.

Sources: Kingma & Ba 2015; Dozat 2016; da Silva & Gazeau 2020; Barakat & Bianchi 2021. Names, order and defaults are
those of `optax.adam`; a complex gradient's second moment is real here.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from inercia.core import check
from inercia.core.linear_form import LinearForm, SecondMoment, per_update
from inercia.core.method import Method, Number, Params, Schedule, factory
from inercia.core.transition import abs_sq, at, cast_like, clock, debiased, like, refine, tick, zeros_like
from inercia.core.tree import map_grads

__all__ = ["AdamState", "adam", "adam_form"]


class AdamState(NamedTuple):
    """State of `adam`."""

    count: jax.Array  # int32 scalar, updates made; in a flow, the time
    mu: Params  # first moment, like params
    nu: Params  # second moment, real, like params


def adam_form(learning_rate, b1, b2, eps, eps_root, nesterov, dt, **_):
    """Return Adam's `LinearForm`; the look-ahead of NAdam has none."""
    if nesterov:
        return None
    second = SecondMoment(refine(b2, dt), True, eps_root, eps)
    return LinearForm("semi-implicit", per_update(learning_rate, dt, dt), refine(b1, dt), second)


@factory(
    training_rate=2e-3,
    edge={"learning_rate": 1e-3, "b1": 0.5, "b2": 0.99},
    form=adam_form,
    rows=(
        (
            "adam(a)",
            "m⁺, v⁺ as averages of g, g²; θ⁺ = θ − a m̂/(√v̂ + ε), m̂ = m⁺/(1−b₁ᵏ⁺¹), v̂ = v⁺/(1−b₂ᵏ⁺¹)",
            "m' = (1−b₁)(g−m); v' = (1−b₂)(g²−v); m̂ = m/(1−e^{−(1−b₁)t}), v̂ = v/(1−e^{−(1−b₂)t})",
            "1",
        ),
    ),
)
def adam(
    learning_rate: Number | Schedule,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    eps_root: Number = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
    dt: Number = 1.0,
) -> Method:
    """Make Adam, as `optax.adam`, with its flow.

        transition   m+ = b1 m + (1-b1) g,   v+ = b2 v + (1-b2) |g|^2
                     mh = m+ / (1 - b1^(k+1)),   vh = v+ / (1 - b2^(k+1))
                     theta+ = theta - a mh / (sqrt(vh + eps_root) + eps)
        refined      b -> 1 - (1-b) dt for both,   a -> a dt
        flow         m' = (1-b1)(g - m),   v' = (1-b2)(|g|^2 - v)
                     mh = m / (1 - e^{-(1-b1) t}),   vh = v / (1 - e^{-(1-b2) t})
                     theta' = -a mh / (sqrt(vh + eps_root) + eps)

    Args:
        learning_rate: a > 0, or a schedule step -> a.
        b1: decay of the first moment, in [0, 1).
        b2: decay of the second moment, in [0, 1).
        eps: added outside the root, >= 0.
        eps_root: added inside the root, >= 0.
        mu_dtype: dtype of the first moment; by default that of the params.
        nesterov: whether the first moment looks ahead (NAdam).
        dt: flow time of one update, in iterations, with (1-b1) dt <= 1 and (1-b2) dt <= 1.

    Raises:
        ValueError: a number outside the ranges above.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> method = inercia.adam(0.5)
        >>> updates, state = method.update(jnp.array([8.0, -0.1]), method.init(jnp.ones(2)))
        >>> updates.round(4).tolist()  # the first step is the sign of the gradient times a
        [-0.5, 0.5]
    """
    check.positive("learning_rate", learning_rate)
    check.positive("dt", dt)
    for name, decay in (("b1", b1), ("b2", b2)):
        check.in_unit_interval(name, decay)
        check.refinable(name, decay, dt)
    check.nonnegative("eps", eps)
    check.nonnegative("eps_root", eps_root)

    def init(params: Params) -> AdamState:
        mu = zeros_like(params, mu_dtype)
        return AdamState(jnp.zeros([], jnp.int32), mu, jax.tree.map(lambda p: jnp.zeros_like(p.real), params))

    def direction(mh: jax.Array, vh: jax.Array) -> jax.Array:
        return mh / (jnp.sqrt(vh + like(eps_root, vh)) + like(eps, vh))

    def update(grads: Params, state: AdamState, params: Params = None, **extra: Any) -> tuple[Params, AdamState]:
        a = at(learning_rate, clock(state.count, dt)) * dt
        c1, c2 = refine(b1, dt), refine(b2, dt)
        count = tick(state.count)

        def corrected(moment, decay, k):
            return moment / like(1 - decay**k, moment)

        mu = map_grads(lambda g, m: like(1 - c1, g) * g + like(c1, m) * m, grads, state.mu)
        nu = map_grads(lambda g, v: like(1 - c2, v) * abs_sq(g) + like(c2, v) * v, grads, state.nu)
        if nesterov:
            ahead = tick(count)
            mu_hat = map_grads(
                lambda g, m: like(c1, m) * corrected(m, c1, ahead) + like(1 - c1, g) * corrected(g, c1, count),
                grads,
                mu,
            )
        else:
            mu_hat = map_grads(lambda m: corrected(m, c1, count), mu)
        updates = map_grads(lambda mh, v: like(-a, mh) * direction(mh, corrected(v, c2, count)), mu_hat, nu)
        return updates, AdamState(count, cast_like(mu, state.mu), cast_like(nu, state.nu))

    def flow(grads: Params, state: AdamState, params: Params = None) -> tuple[Params, AdamState]:
        t, a = state.count, at(learning_rate, state.count)

        def theta_dot(g, m, v):
            return -a * direction(debiased(m, g, b1, t), debiased(v, abs_sq(g), b2, t))

        mu_dot = map_grads(lambda g, m: (1 - b1) * (g - m), grads, state.mu)
        nu_dot = map_grads(lambda g, v: (1 - b2) * (abs_sq(g) - v), grads, state.nu)
        return map_grads(theta_dot, grads, state.mu, state.nu), AdamState(jnp.ones_like(t), mu_dot, nu_dot)

    return Method(init, update, flow, dt)

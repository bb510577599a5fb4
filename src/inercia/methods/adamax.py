"""AdaMax: Adam with the largest of the decayed sizes of the gradients in place of their root mean square.

u is the largest of all past |g| + eps, each decayed since. In continuous time it decays while it lies above |g| + eps,
and follows |g| + eps while that rises; its equation has a corner there, which solutions cross, so that a flow exists:

    u' = -(1-b2) u                        where u > |g| + eps
    u' = max(-(1-b2) u, d|g|/dt)          where u = |g| + eps

d|g|/dt needs the rate of the gradient along the flow, which `integrate` gives as `along`; it also starts the flow at
u = |g| + eps, by `project`. Without `along` the flow holds while no |g_j| rises above its u_j.

Source: Kingma & Ba 2015, section 7.1. Names, order and defaults are those of `optax.adamax`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from inercia.core import check
from inercia.core.method import Method, Number, Params, Schedule, factory
from inercia.core.transition import at, cast_like, clock, debiased, full_like, like, refine, tick, zeros_like
from inercia.core.tree import map_grads

__all__ = ["AdamaxState", "adamax"]

#: Relative distance at which u touches |g| + eps: wide enough that a solver's error does not lift it off again.
_TOUCH = 1e-8


class AdamaxState(NamedTuple):
    """State of `adamax`."""

    count: jax.Array  # int32 scalar, updates made; in a flow, the time
    mu: Params  # first moment, like params
    nu: Params  # u, real, like params


@factory(
    training_rate=2e-3,
    rows=(
        (
            "adamax(a)",
            "m⁺ as Adam's; u⁺ = max(b₂ u, abs(g) + ε); θ⁺ = θ − a m̂/u⁺",
            "m' = (1−b₁)(g − m); u' = −(1−b₂) u above abs(g) + ε, which it follows up; θ' = −a m̂/u",
            "1",
        ),
    ),
)
def adamax(
    learning_rate: Number | Schedule,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    *,
    dt: Number = 1.0,
) -> Method:
    """Make AdaMax, as `optax.adamax`, with its flow.

        transition   m+ = b1 m + (1-b1) g,   u+ = max(b2 u, |g| + eps),   theta+ = theta - a m+ / (1 - b1^(k+1)) / u+
        refined      b -> 1 - (1-b) dt for both,   a -> a dt
        flow         m' = (1-b1)(g - m),   u' = -(1-b2) u above |g| + eps, which it follows up
                     theta' = -a m / (1 - e^{-(1-b1) t}) / max(u, |g| + eps)

    Args:
        learning_rate: a > 0, or a schedule step -> a.
        b1: decay of the first moment, in [0, 1).
        b2: decay of u, in [0, 1).
        eps: added to |g|, > 0 where gradients may be zero from the start.
        dt: flow time of one update, with (1-b1) dt <= 1 and (1-b2) dt <= 1.

    Raises:
        ValueError: a number outside its range.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> method = inercia.adamax(0.5)
        >>> method.update(jnp.array([8.0, -0.1]), method.init(jnp.ones(2)))[0].round(4).tolist()
        [-0.5, 0.5]
    """
    check.positive("learning_rate", learning_rate)
    check.positive("dt", dt)
    for name, decay in (("b1", b1), ("b2", b2)):
        check.in_unit_interval(name, decay)
        check.refinable(name, decay, dt)
    check.nonnegative("eps", eps)

    def init(params: Params) -> AdamaxState:
        return AdamaxState(jnp.zeros([], jnp.int32), zeros_like(params), full_like(params, 0))

    def size(g: jax.Array) -> jax.Array:
        return jnp.abs(g) + like(eps, g)

    def update(grads: Params, state: AdamaxState, params: Params = None, **extra: Any) -> tuple[Params, AdamaxState]:
        a, c1, c2 = at(learning_rate, clock(state.count, dt)) * dt, refine(b1, dt), refine(b2, dt)
        count = tick(state.count)
        mu = map_grads(lambda g, m: like(1 - c1, g) * g + like(c1, m) * m, grads, state.mu)
        nu = map_grads(lambda g, u: jnp.maximum(size(g), like(c2, u) * u), grads, state.nu)
        updates = map_grads(lambda m, u: like(-a, m) * (m / like(1 - c1**count, m)) / u, mu, nu)
        return updates, AdamaxState(count, cast_like(mu, state.mu), cast_like(nu, state.nu))

    def flow(
        grads: Params, state: AdamaxState, params: Params = None, *, along: Callable[[Params], Params] | None = None
    ) -> tuple[Params, AdamaxState]:
        t, a = state.count, at(learning_rate, state.count)
        theta_dot = map_grads(
            lambda g, m, u: -a * debiased(m, g, b1, t) / jnp.maximum(u, size(g)), grads, state.mu, state.nu
        )
        mu_dot = map_grads(lambda g, m: (1 - b1) * (g - m), grads, state.mu)
        grads_dot = map_grads(jnp.zeros_like, grads) if along is None else along(theta_dot)

        def nu_dot(g, u, g_dot):
            decaying, rising = -(1 - b2) * jnp.maximum(u, size(g)), (jnp.sign(g).conj() * g_dot).real
            return jnp.where(u > size(g) * (1 + _TOUCH), decaying, jnp.maximum(decaying, rising))

        nus = map_grads(nu_dot, grads, state.nu, grads_dot)
        return theta_dot, AdamaxState(jnp.ones_like(t), mu_dot, nus)

    def project(grads: Params, state: AdamaxState) -> AdamaxState:  # u is never below: not even at the start, from 0
        return state._replace(nu=map_grads(lambda g, u: jnp.maximum(u, size(g)), grads, state.nu))

    flow.takes_along, flow.project = True, project  # pyright: ignore[reportFunctionMemberAccess]
    return Method(init, update, flow, dt)

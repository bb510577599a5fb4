"""RMSProp: the gradient over the root of its running mean square.

    transition   v+ = b v + (1-b) |g|^2,   u = -a g / sqrt(v+ + eps)      (or sqrt(v+) + eps; minus |m+|^2 if centered)
                 theta+ = theta + u;   with momentum c:   r+ = c r + u,   theta+ = theta + r+
    refined      b, c -> 1 - (1-b) dt, 1 - (1-c) dt;   r+ = (1 - (1-c) dt) r + dt u,   theta+ = theta + dt r+
    flow         v' = (1-b)(|g|^2 - v),   theta' = u;   with momentum:   r' = u - (1-c) r,   theta' = r

Without bias correction v starts at `initial_scale` = 0, and the flow begins with a layer theta' ~ 1/sqrt(t): from a
cold start the iterates approach it at order 1/2 only, a continuous-time reason for Adam's correction. From a warm
start, or with `bias_correction=True`, the order is 1.

Sources: Tieleman & Hinton 2012; Graves 2013 (centered). Names, order and defaults are those of `optax.rmsprop`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from inercia.core import check
from inercia.core.method import (
    Method,
    Number,
    Params,
    Schedule,
    abs_sq,
    at,
    cast_like,
    clock,
    debiased,
    like,
    refine,
    tick,
    zeros_like,
)
from inercia.core.tree import map_grads


class RmspropState(NamedTuple):
    """State of `rmsprop`."""

    count: jax.Array  # int32 scalar, updates made; in a flow, the time
    nu: Params  # mean square of the gradient, real, like params
    mu: Params  # mean of the gradient, like params; None unless centered
    trace: Params  # decayed sum of the steps, like params; None without momentum


def rmsprop(
    learning_rate: Number | Schedule,
    decay: Number = 0.9,
    eps: Number = 1e-8,
    initial_scale: Number = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: Number | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
    *,
    dt: Number = 1.0,
) -> Method:
    """Make RMSProp, as `optax.rmsprop`, with its flow.

    Args:
        learning_rate: a > 0, or a schedule step -> a.
        decay: b in [0, 1).
        eps: >= 0, inside the root or outside.
        initial_scale: v at the start, >= 0.
        eps_in_sqrt: whether eps stands inside the root.
        centered: whether the root is of the variance, v - |m|^2, instead of the mean square.
        momentum: decay c in [0, 1) of the sum of steps; None for none.
        nesterov: whether that sum looks ahead.
        bias_correction: whether v (and m) are divided by 1 - b^(k+1).
        dt: flow time of one update, with (1-b) dt <= 1 and (1-c) dt <= 1.

    Raises:
        ValueError: a number outside its range.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> method = inercia.rmsprop(0.1, decay=0.75)
        >>> round(float(method.update(jnp.array([8.0]), method.init(jnp.ones(1)))[0][0]), 4)  # -0.1 8 / sqrt(64 / 4)
        -0.2
    """
    check.positive("learning_rate", learning_rate)
    check.positive("dt", dt)
    for name, number in (("decay", decay), *((("momentum", momentum),) if momentum is not None else ())):
        check.in_unit_interval(name, number)
        check.refinable(name, number, dt)
    check.nonnegative("eps", eps)
    check.nonnegative("initial_scale", initial_scale)
    c: Any = momentum

    def init(params: Params) -> RmspropState:
        check.differentiable("params", params)
        nu = jax.tree.map(lambda p: jnp.full_like(p.real, initial_scale), params)
        mu = zeros_like(params) if centered else None
        return RmspropState(jnp.zeros([], jnp.int32), nu, mu, None if momentum is None else zeros_like(params))

    def scaled(g: jax.Array, v: jax.Array, m: jax.Array | None) -> jax.Array:
        v = v if m is None else v - abs_sq(m)
        e = like(eps, v)
        return g * jax.lax.rsqrt(v + e) if eps_in_sqrt else g / (jnp.sqrt(v) + e)

    def update(grads: Params, state: RmspropState, params: Params = None, **extra: Any) -> tuple[Params, RmspropState]:
        a, b, count = at(learning_rate, clock(state.count, dt)), refine(decay, dt), tick(state.count)
        correction = 1 - b**count if bias_correction else 1.0
        nu = map_grads(lambda g, v: like(1 - b, v) * abs_sq(g) + like(b, v) * v, grads, state.nu)
        mu = map_grads(lambda g, m: like(1 - b, g) * g + like(b, m) * m, grads, state.mu) if centered else None
        hats = [None if h is None else map_grads(lambda x: x / like(correction, x), h) for h in (nu, mu)]
        step = _each(lambda g, v, m: like(-a, g) * scaled(g, v, m), grads, *hats)
        if momentum is None:
            return map_grads(lambda u: like(dt, u) * u, step), RmspropState(
                count, cast_like(nu, state.nu), cast_like(mu, state.mu), None
            )

        def decayed_sum(u, r):
            return like(dt, u) * u + like(refine(c, dt), r) * r

        trace = map_grads(decayed_sum, step, state.trace)
        moved = map_grads(decayed_sum, step, trace) if nesterov else trace
        after = RmspropState(count, cast_like(nu, state.nu), cast_like(mu, state.mu), cast_like(trace, state.trace))
        return map_grads(lambda r: like(dt, r) * r, moved), after

    def flow(grads: Params, state: RmspropState, params: Params = None) -> tuple[Params, RmspropState]:
        t, a = state.count, at(learning_rate, state.count)

        def corrected(moment, limit):
            return debiased(moment, limit, decay, t) if bias_correction else moment

        def step(g, v, m):
            m = None if m is None else corrected(m, g)
            return -a * scaled(g, corrected(v, abs_sq(g)), m)

        u = _each(step, grads, state.nu, state.mu)
        nu_dot = map_grads(lambda g, v: (1 - decay) * (abs_sq(g) - v), grads, state.nu)
        mu_dot = map_grads(lambda g, m: (1 - decay) * (g - m), grads, state.mu) if centered else None
        if momentum is None:
            return u, RmspropState(jnp.ones_like(t), nu_dot, mu_dot, None)
        trace_dot = map_grads(lambda u, r: u - (1 - c) * r, u, state.trace)
        return state.trace, RmspropState(jnp.ones_like(t), nu_dot, mu_dot, trace_dot)

    return Method(
        init,
        update,
        flow,
        dt,
        "rmsprop",
        learning_rate=learning_rate,
        decay=decay,
        eps=eps,
        eps_in_sqrt=eps_in_sqrt,
        momentum=momentum,
        nesterov=nesterov,
        centered=centered,
        bias_correction=bias_correction,
    )


def _each(function: Any, grads: Params, nu: Params, mu: Params) -> Params:
    """Map `function(g, v, m)`, with m = None where there is no mean."""
    if mu is None:
        return map_grads(lambda g, v: function(g, v, None), grads, nu)
    return map_grads(function, grads, nu, mu)

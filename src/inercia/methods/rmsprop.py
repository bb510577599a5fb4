"""RMSProp: the gradient over the root of its running mean square.

Without bias correction v starts at `initial_scale` = 0, and the flow begins with a layer theta' ~ 1/sqrt(t): from a
cold start the iterates approach it at order 1/2 only, a continuous-time reason for Adam's correction. From a warm
start, or with `bias_correction=True`, the order is 1.

Sources: Tieleman & Hinton 2012; Graves 2013 (centered). Names, order and defaults are those of `optax.rmsprop`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from inercia.core import check
from inercia.core.linear_form import LinearForm, SecondMoment, per_update
from inercia.core.method import Method, Number, Params, Schedule, factory
from inercia.core.transition import abs_sq, at, cast_like, clock, debiased, full_like, like, refine, tick, zeros_like
from inercia.core.tree import map_grads

__all__ = ["RmspropState", "rmsprop"]


class RmspropState(NamedTuple):
    """State of `rmsprop`."""

    count: jax.Array  # int32 scalar, updates made; in a flow, the time
    nu: Params  # mean square of the gradient, real, like params
    mu: Params  # mean of the gradient, like params; None unless centered
    trace: Params  # decayed sum of the steps, like params; None without momentum


class _Root(NamedTuple):
    """What the gradient is divided by."""

    decay: Any
    eps: Any
    eps_in_sqrt: bool
    centered: bool

    def divide(self, g: jax.Array, v: jax.Array, m: jax.Array | None) -> jax.Array:
        v = v if m is None else jnp.maximum(v - abs_sq(m), 0)  # corrected, the first variance is 0 but for rounding
        e = like(self.eps, v)
        return g * jax.lax.rsqrt(v + e) if self.eps_in_sqrt else g / (jnp.sqrt(v) + e)

    def step(self, a: Any, grads: Params, nu: Params, mu: Params) -> Params:
        if not self.centered:
            return map_grads(lambda g, v: like(-a, g) * self.divide(g, v, None), grads, nu)
        return map_grads(lambda g, v, m: like(-a, g) * self.divide(g, v, m), grads, nu, mu)

    def averages(self, b: Any, grads: Params, state: RmspropState) -> tuple[Params, Params]:
        nu = map_grads(lambda g, v: like(1 - b, v) * abs_sq(g) + like(b, v) * v, grads, state.nu)
        mu = map_grads(lambda g, m: like(1 - b, g) * g + like(b, m) * m, grads, state.mu) if self.centered else None
        return nu, mu

    def averages_dot(self, grads: Params, state: RmspropState) -> tuple[Params, Params]:
        c = 1 - self.decay
        nu_dot = map_grads(lambda g, v: c * (abs_sq(g) - v), grads, state.nu)
        return nu_dot, map_grads(lambda g, m: c * (g - m), grads, state.mu) if self.centered else None


def _form(learning_rate, decay, eps, eps_in_sqrt, centered, momentum, nesterov, bias_correction, dt, **_):
    inside, outside = (eps, 0.0) if eps_in_sqrt else (0.0, eps)
    second = SecondMoment(refine(decay, dt), bias_correction, inside, outside, centered=centered)
    if momentum is None:
        return LinearForm("GD", per_update(learning_rate, dt, dt), 0.0, second)
    rate = per_update(learning_rate, dt, dt * dt)
    return LinearForm("nesterov" if nesterov else "heavy ball", rate, refine(momentum, dt), second)


@factory(
    training_rate=1e-3,
    edge={"learning_rate": 1e-3, "decay": 0.99, "bias_correction": True},
    form=_form,
    rows=(
        (
            "rmsprop(a)",
            "v⁺ = b v + (1−b) g²; θ⁺ = θ − a g/√(v⁺ + ε)",
            "v' = (1−b)(g² − v); θ' = −a g/√(v + ε)",
            "½ from v = 0; 1 warm",
        ),
    ),
)
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

        transition   v+ = b v + (1-b) |g|^2,   u = -a g / sqrt(v+ + eps)   (or sqrt(v+) + eps; minus |m+|^2 if centered)
                     theta+ = theta + u;   with momentum c:   r+ = c r + u,   theta+ = theta + r+
        refined      b, c -> 1 - (1-b) dt, 1 - (1-c) dt;   r+ = (1 - (1-c) dt) r + dt u,   theta+ = theta + dt r+
        flow         v' = (1-b)(|g|^2 - v),   theta' = u;   with momentum:   r' = u - (1-c) r,   theta' = r

    Args:
        learning_rate: a > 0, or a schedule step -> a.
        decay: b in [0, 1).
        eps: >= 0, inside the root or outside.
        initial_scale: v at the start, >= 0.
        eps_in_sqrt: whether eps stands inside the root.
        centered: whether the root is of the variance, v - |m|^2, instead of the mean square.
        momentum: decay c in [0, 1) of the sum of steps; None for none.
        nesterov: whether that sum looks ahead.
        bias_correction: whether v (and m) are divided by 1 - b^(k+1), as for a start at 0; from an initial_scale above
            0 the first steps are small then, and the flow starts at rest, as sqrt(t).
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
    root = _Root(decay, eps, eps_in_sqrt, centered)

    def init(params: Params) -> RmspropState:
        nu = full_like(params, initial_scale)
        mu = zeros_like(params) if centered else None
        return RmspropState(jnp.zeros([], jnp.int32), nu, mu, None if momentum is None else zeros_like(params))

    def update(grads: Params, state: RmspropState, params: Params = None, **extra: Any) -> tuple[Params, RmspropState]:
        a, b, count = at(learning_rate, clock(state.count, dt)), refine(decay, dt), tick(state.count)
        nu, mu = root.averages(b, grads, state)
        correction = 1 - b**count if bias_correction else 1.0
        nu_hat, mu_hat = (None if h is None else map_grads(lambda x: x / like(correction, x), h) for h in (nu, mu))
        step = root.step(a, grads, nu_hat, mu_hat)
        after = RmspropState(count, cast_like(nu, state.nu), cast_like(mu, state.mu) if centered else None, None)
        if momentum is None:
            return map_grads(lambda u: like(dt, u) * u, step), after

        def decayed_sum(u, r):
            return like(dt, u) * u + like(refine(c, dt), r) * r

        trace = map_grads(decayed_sum, step, state.trace)
        moved_along = map_grads(decayed_sum, step, trace) if nesterov else trace
        updates = map_grads(lambda r: like(dt, r) * r, moved_along)
        return updates, after._replace(trace=cast_like(trace, state.trace))

    def flow(grads: Params, state: RmspropState, params: Params = None) -> tuple[Params, RmspropState]:
        t, a = state.count, at(learning_rate, state.count)
        nu, mu = state.nu, state.mu
        if bias_correction:
            # At t = 0 an average that starts at 0 is |g|^2, and one that starts above it, infinite: theta' ~ sqrt(t).
            nu = map_grads(lambda g, v: debiased(v, jnp.where(v > 0, jnp.inf, abs_sq(g)), decay, t), grads, nu)
            mu = map_grads(lambda g, m: debiased(m, g, decay, t), grads, mu) if centered else None
        u = root.step(a, grads, nu, mu)
        state_dot = RmspropState(jnp.ones_like(t), *root.averages_dot(grads, state), None)
        if momentum is None:
            return u, state_dot
        trace_dot = map_grads(lambda u, r: u - (1 - c) * r, u, state.trace)
        return state.trace, state_dot._replace(trace=trace_dot)

    return Method(init, update, flow, dt)

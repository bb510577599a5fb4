"""Scalar RMSProp: one step size for all parameters, the norm of the gradient over its running mean square.

The direction is the gradient's; only its length adapts, to about a per update. It is the simplest method that moves its
own edge of stability, 2 sqrt(v)/a, and is studied for that. From v = 0 its flow begins with a layer, as RMSProp's does.

Source: Cohen et al. 2025.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from inercia.core import check
from inercia.core.linear_form import LinearForm, SecondMoment, per_update
from inercia.core.method import Method, Number, Params, Schedule, factory
from inercia.core.transition import abs_sq, at, clock, like, refine, tick
from inercia.core.tree import map_grads

__all__ = ["ScalarRmspropState", "scalar_rmsprop"]


class ScalarRmspropState(NamedTuple):
    """State of `scalar_rmsprop`."""

    count: jax.Array  # int32 scalar, updates made; in a flow, the time
    nu: jax.Array  # scalar, mean of the gradient's squared norm


def _form(learning_rate, decay, eps, dt, **_):
    second = SecondMoment(refine(decay, dt), False, 0.0, eps, scalar=True)
    return LinearForm("GD", per_update(learning_rate, dt, dt), 0.0, second)


@factory(
    training_rate=0.02,
    edge={"learning_rate": 0.03},
    form=_form,
    rows=(
        (
            "scalar_rmsprop(a)",
            r"v⁺ = b v + (1−b) \|g\|²; θ⁺ = θ − a g/(√v⁺ + ε), one v for all",
            r"v' = (1−b)(\|g\|² − v); θ' = −a g/(√v + ε)",
            "½ from v = 0; 1 warm",
        ),
    ),
)
def scalar_rmsprop(
    learning_rate: Number | Schedule,
    decay: Number = 0.99,
    eps: Number = 1e-8,
    initial_scale: Number = 0.0,
    *,
    dt: Number = 1.0,
) -> Method:
    """Make scalar RMSProp, with its flow.

        transition   v+ = b v + (1-b) |g|^2,   theta+ = theta - a g / (sqrt(v+) + eps)      |g| over all parameters
        refined      b -> 1 - (1-b) dt,   a -> a dt
        flow         v' = (1-b)(|g|^2 - v),   theta' = -a g / (sqrt(v) + eps)

    Args:
        learning_rate: a > 0, about the length of a step, or a schedule step -> a.
        decay: b in [0, 1).
        eps: added outside the root, >= 0.
        initial_scale: v at the start, >= 0.
        dt: flow time of one update, with (1-b) dt <= 1.

    Raises:
        ValueError: a number outside its range.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> method = inercia.scalar_rmsprop(0.1, decay=0.75)
        >>> step = method.update(jnp.array([3.0, 4.0]), method.init(jnp.ones(2)))[0]
        >>> [round(float(u), 4) for u in step]  # -0.1 g / (5 / 2)
        [-0.12, -0.16]
    """
    check.positive("learning_rate", learning_rate)
    check.positive("dt", dt)
    check.in_unit_interval("decay", decay)
    check.refinable("decay", decay, dt)
    check.nonnegative("eps", eps)
    check.nonnegative("initial_scale", initial_scale)

    def norm_sq(grads: Params) -> Any:
        return sum(jnp.sum(abs_sq(g)) for g in jax.tree.leaves(grads))

    def step(grads: Params, a: Any, v: Any) -> Params:
        rate = a / (jnp.sqrt(v) + eps)
        return map_grads(lambda g: like(-rate, g) * g, grads)

    def init(params: Params) -> ScalarRmspropState:
        check.differentiable("params", params)
        kind = jnp.result_type(*(p.real.dtype for p in jax.tree.leaves(params)))
        return ScalarRmspropState(jnp.zeros([], jnp.int32), jnp.full((), initial_scale, kind))

    def update(
        grads: Params, state: ScalarRmspropState, params: Params = None, **extra: Any
    ) -> tuple[Params, ScalarRmspropState]:
        a, b = at(learning_rate, clock(state.count, dt)) * dt, like(refine(decay, dt), state.nu)
        nu = (b * state.nu + (1 - b) * norm_sq(grads)).astype(state.nu.dtype)
        return step(grads, a, nu), ScalarRmspropState(tick(state.count), nu)

    def flow(grads: Params, state: ScalarRmspropState, params: Params = None) -> tuple[Params, ScalarRmspropState]:
        nu_dot = (1 - decay) * (norm_sq(grads) - state.nu)
        theta_dot = step(grads, at(learning_rate, state.count), state.nu)
        return theta_dot, ScalarRmspropState(jnp.ones_like(state.count), nu_dot)

    return Method(init, update, flow, dt)

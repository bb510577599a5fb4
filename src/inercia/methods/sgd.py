"""Gradient descent on whatever gradient it is given: the full one (GD) or a batch's (SGD); with heavy-ball memory.

Nesterov's step uses b v+ + g in place of v+; its flow is the heavy ball's, because the extra term -(1-b) dt v + dt g
vanishes with dt. The sum form with rate a is the averaged (EMA) form of `inercia.momentum` with rate a / (1-b).

Sources: Polyak 1964; Nesterov 1983; Sutskever et al. 2013. Names, order and defaults are those of `optax.sgd`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from inercia.core import check
from inercia.core.linear_form import LinearForm, per_update
from inercia.core.method import Method, Number, Params, Schedule, factory
from inercia.core.transition import at, cast_like, clock, like, refine, tick, zeros_like
from inercia.core.tree import map_grads
from inercia.methods.smoothed import falling

__all__ = ["SgdState", "sgd"]


class SgdState(NamedTuple):
    """State of `sgd`."""

    count: jax.Array  # int32 scalar, updates made; in a flow, the time
    trace: Params  # decayed sum of gradients, like params; None without momentum


def _form(learning_rate, momentum, nesterov, dt, **_):
    if momentum is None:
        return LinearForm("GD", per_update(learning_rate, dt, dt))
    # dt enters twice: v+ = b v + dt g, theta+ = theta - a dt v+.
    rate = per_update(learning_rate, dt, dt * dt)
    return LinearForm("nesterov" if nesterov else "heavy ball", rate, refine(momentum, dt))


@factory(
    training_rate=0.1,
    edge={"learning_rate": 0.8},
    form=_form,
    rows=(
        ("sgd(a)", "θ⁺ = θ − a g", "θ' = −a g", "1"),
        ("sgd(a, momentum=b)", "v⁺ = b v + g; θ⁺ = θ − a v⁺", "v' = g − (1−b) v; θ' = −a v", "1"),
    ),
)
def sgd(
    learning_rate: Number | Schedule,
    momentum: Number | None = None,
    nesterov: bool = False,
    accumulator_dtype: Any = None,
    *,
    dt: Number = 1.0,
) -> Method:
    """Make (stochastic) gradient descent, as `optax.sgd`, with its flow.

        plain        transition   theta+ = theta - a g
                     flow         theta' = -a g
        momentum b   transition   v+ = b v + g,   theta+ = theta - a v+             (sum form)
                     refined      v+ = (1 - (1-b) dt) v + dt g,   a -> a dt
                     flow         v' = g - (1-b) v,   theta' = -a v

    Args:
        learning_rate: a > 0, or a schedule step -> a.
        momentum: decay b in [0, 1) of the sum of gradients; None for none.
        nesterov: whether the step looks ahead.
        accumulator_dtype: dtype of the sum; by default that of the params.
        dt: flow time of one update, in iterations, with (1-b) dt <= 1.

    Raises:
        ValueError: a <= 0 or not finite, b outside [0, 1), dt <= 0 or too large.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> method = inercia.sgd(0.5)
        >>> updates, state = method.update(jnp.array([2.0]), method.init(jnp.array([1.0])))
        >>> updates.tolist(), int(state.count)
        ([-1.0], 1)
    """
    check.positive("learning_rate", learning_rate)
    check.positive("dt", dt)
    if momentum is not None:
        check.in_unit_interval("momentum", momentum)
        check.refinable("momentum", momentum, dt)

    decay: Any = momentum

    def init(params: Params) -> SgdState:
        check.differentiable("params", params)
        trace = None if momentum is None else zeros_like(params, accumulator_dtype)
        return SgdState(jnp.zeros([], jnp.int32), trace)

    def update(grads: Params, state: SgdState, params: Params = None, **extra: Any) -> tuple[Params, SgdState]:
        a = at(learning_rate, clock(state.count, dt)) * dt
        count = tick(state.count)
        if momentum is None:
            return map_grads(lambda g: like(-a, g) * g, grads), SgdState(count, None)
        b = refine(decay, dt)

        def decayed_sum(g, v):
            return like(dt, g) * g + like(b, v) * v

        trace = map_grads(decayed_sum, grads, state.trace)
        step = map_grads(decayed_sum, grads, trace) if nesterov else trace
        updates = map_grads(lambda s: like(-a, s) * s, step)
        return updates, SgdState(count, cast_like(trace, state.trace))

    def flow(grads: Params, state: SgdState, params: Params = None) -> tuple[Params, SgdState]:
        a = at(learning_rate, state.count)
        if momentum is None:
            return map_grads(lambda g: -a * g, grads), SgdState(jnp.ones_like(state.count), None)
        theta_dot = map_grads(lambda v: -a * v, state.trace)
        trace_dot = map_grads(lambda g, v: g - (1 - decay) * v, grads, state.trace)
        return theta_dot, SgdState(jnp.ones_like(state.count), trace_dot)

    flow.lyapunov = falling(learning_rate, decay, lambda a, b: a / 2, lambda state: state.trace)  # pyright: ignore[reportFunctionMemberAccess]
    return Method(init, update, flow, dt)

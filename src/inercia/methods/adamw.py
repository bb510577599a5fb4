"""AdamW: Adam, and the weights decay on their own, outside its average.

Source: Loshchilov & Hutter 2019. Names, order and defaults are those of `optax.adamw`.
"""

from typing import Any

from inercia.core import check
from inercia.core.method import Method, Number, Params, Schedule, factory
from inercia.core.transition import at, clock, decay_weights
from inercia.methods.adam import AdamState, adam, adam_form

__all__ = ["adamw"]


@factory(
    training_rate=2e-3,
    form=adam_form,
    rows=(("adamw(a, weight_decay=w)", "Adam's, and − a w θ", "Adam's, and − a w θ", "1"),),
)
def adamw(
    learning_rate: Number | Schedule,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    eps_root: Number = 0.0,
    mu_dtype: Any = None,
    weight_decay: Number | Schedule = 1e-4,
    mask: Any = None,
    *,
    nesterov: bool = False,
    dt: Number = 1.0,
) -> Method:
    """Make AdamW, as `optax.adamw`, with its flow.

        transition   theta+ = theta + (Adam's step) - a w theta
        refined      a -> a dt; w enters through a alone
        flow         theta' = (Adam's flow) - a w theta

    Args:
        learning_rate: a, as in `adam`, like the five arguments that follow.
        b1: decay of the first moment.
        b2: decay of the second moment.
        eps: outside the root.
        eps_root: inside the root.
        mu_dtype: dtype of the first moment.
        weight_decay: w >= 0, or a schedule.
        mask: which weights decay: a tree of bools like the params, a prefix of one, or params -> tree; None for all.
        nesterov: whether the first moment looks ahead (NAdamW).
        dt: flow time of one update.

    Raises:
        ValueError: a number outside its range; from `update` when it is called without params.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> method, params = inercia.adamw(0.5, weight_decay=0.1), jnp.array([2.0])
        >>> round(float(method.update(jnp.array([8.0]), method.init(params), params)[0][0]), 4)  # -0.5 - 0.5 0.1 2
        -0.6
    """
    check.nonnegative("weight_decay", weight_decay)
    inner = adam(learning_rate, b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov, dt=dt)

    def update(grads: Params, state: AdamState, params: Params = None, **extra: Any) -> tuple[Params, Any]:
        time = clock(state.count, dt)
        a, w = at(learning_rate, time) * dt, at(weight_decay, time)
        updates, after = inner.update(grads, state, params)
        return decay_weights(updates, params, a, w, mask), after

    def flow(grads: Params, state: AdamState, params: Params = None) -> tuple[Params, AdamState]:
        a, w = at(learning_rate, state.count), at(weight_decay, state.count)
        theta_dot, state_dot = inner.flow(grads, state, params)
        return decay_weights(theta_dot, params, a, w, mask), state_dot

    return Method(inner.init, update, flow, dt)

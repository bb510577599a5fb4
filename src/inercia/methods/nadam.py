"""NAdam: Adam whose first moment looks one step ahead.

Near a cold start the look-ahead differs from Adam's flow by dt/t of the step, so that the gap closes as dt log(1/dt),
and at order 1 from a warm start.

Source: Dozat 2016. Names, order and defaults are those of `optax.nadam`.
"""

from typing import Any

from inercia.core.method import Method, Number, Schedule, factory
from inercia.methods.adam import adam, adam_form

__all__ = ["nadam"]


@factory(training_rate=2e-3, form=adam_form, rows=(("nadam(a)", "Adam's, with m̂ one step ahead", "Adam's", "1 warm"),))
def nadam(
    learning_rate: Number | Schedule,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    eps_root: Number = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
    dt: Number = 1.0,
) -> Method:
    """Make NAdam: `adam` with `nesterov=True` as its default, as `optax.nadam`.

        transition   Adam's, with mh = b1 m+ / (1 - b1^(k+2)) + (1-b1) g / (1 - b1^(k+1))
        flow         Adam's

    The arguments and errors are those of `adam`.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> method = inercia.nadam(0.5)
        >>> round(float(method.update(jnp.array([8.0]), method.init(jnp.ones(1)))[0][0]), 3)  # -a (b1/(1+b1) + 1)
        -0.737
    """
    return adam(learning_rate, b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov, dt=dt)

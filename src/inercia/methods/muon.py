"""Muon: a matrix moves along the polar factor of its momentum, and everything else by AdamW.

optax finds the polar factor roughly, by five steps of a Newton-Schulz polynomial p, whose singular values end within
about 0.7..1.2 instead of at 1. So the limit of its iterates is the flow along p(m), and that along the exact factor is
another one. With `smooth` = c > 0 both, update and flow, take the exact one, smoothed:

    S(M) = (M M^T + c^2 I)^{-1/2} M,   the gradient of K(M) = tr sqrt(M M^T + c^2 I)

and the flow has a Lyapunov function (`lyapunov`), derived in `polar_factor`.

It is built of `parts`, as optax's is of its own: partition, chain, scaling by shape, decay, rate.

Sources: Jordan et al. 2024; Liu et al. 2025. The update is made by optax's own code, `optax.contrib.muon` to the bit.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from inercia.core import check
from inercia.core.method import Method, Number, Params, Schedule, factory
from inercia.methods import parts
from inercia.methods.chains import chain, partition
from inercia.methods.polar_factor import Dimensions, labels, matrix_kinetic, scale_by_muon, scale_by_shape

__all__ = ["muon"]

#: Coefficients of optax's Newton-Schulz step.
_QUINTIC = (3.4445, -4.7750, 2.0315)
_PRECONDITIONINGS = ("frobenius", "spectral", "aol", "schatten")


@factory(
    training_rate=2e-2,
    rows=(
        (
            "muon(a)",
            "m⁺ as Adam's; matrices: θ⁺ = θ − a √max(1, n_out/n_in) p(m̂), p Newton–Schulz; the rest as AdamW",
            "m' = (1−b)(g − m); θ' = −a √max(1, n_out/n_in) p(m̂)",
            "1",
        ),
        ("muon(a, smooth=c)", "the same, p(M) = (M Mᵀ + c² I)^{−1/2} M, the polar factor", "the same", "1"),
    ),
)
def muon(
    learning_rate: Number | Schedule,
    ns_coeffs: Any = _QUINTIC,
    ns_steps: int = 5,
    beta: Number = 0.95,
    eps: Number = 1e-8,
    weight_decay: Number = 0.0,
    weight_decay_mask: Any = None,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    preconditioning: str = "frobenius",
    adam_b1: Number = 0.9,
    adam_b2: Number = 0.999,
    adam_eps_root: Number = 0.0,
    adam_weight_decay: Number = 0.0,
    adam_learning_rate: Number | Schedule | None = None,
    muon_weight_dimension_numbers: Dimensions = None,
    consistent_rms: Number | None = None,
    smooth: Number | None = None,
    dt: Number = 1.0,
) -> Method:
    """Make Muon, as `optax.contrib.muon`, with its flow.

        transition   m+ = b m + (1-b) g,   mh as Adam's (one step ahead with `nesterov`)
                     theta+ = theta - a (sqrt(max(1, n_out / n_in)) p(mh) + w theta),   p Newton-Schulz, or S for c > 0
        refined      a -> a dt,   b -> 1 - (1-b) dt
        flow         m' = (1-b)(g - m),   theta' = -a (sqrt(max(1, n_out / n_in)) p(mh) + w theta),
                     mh = m / (1 - e^{-(1-b) t});   params that are no matrices follow AdamW's

    Args:
        learning_rate: a > 0, or a schedule step -> a.
        ns_coeffs: of the Newton-Schulz polynomial, three numbers or as many a step, or optax's name of them, "dion".
        ns_steps: how often it is applied.
        beta: b in [0, 1).
        eps: added to denominators.
        weight_decay: w >= 0.
        weight_decay_mask: which matrices decay, as in optax.
        mu_dtype: dtype of the first moments.
        nesterov: whether they look ahead, AdamW's too.
        adaptive: whether p(mh) is multiplied by its inner product with mh, the dual norm.
        preconditioning: "frobenius", "spectral", "aol" or "schatten", what the polynomial starts from.
        adam_b1: of AdamW, as the four that follow.
        adam_b2: decay of its second moment.
        adam_eps_root: inside its root.
        adam_weight_decay: its decay of weights.
        adam_learning_rate: its rate; None for a.
        muon_weight_dimension_numbers: a tree of `optax.contrib.MuonDimensionNumbers` like the params or a prefix of
            it, or params -> tree: the axes of rows and columns; None where AdamW is meant. By default all matrices.
        consistent_rms: multiplies p(mh) by sqrt(max(n_in, n_out)) times this in place of the factor above.
        smooth: c > 0 takes the exact polar factor, smoothed, whatever the polynomial; None optax's polynomial.
        dt: flow time of one update, in iterations.

    Raises:
        ValueError: a number outside its range.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> method = inercia.muon(0.1, smooth=1e-3)
        >>> updates, _ = method.update(jnp.diag(jnp.array([3.0, 4.0])), method.init(jnp.eye(2)), jnp.eye(2))
        >>> abs(updates.round(3) + 0.0).tolist() == abs(jnp.float32(0.1) * jnp.eye(2)).tolist()
        True
    """
    check.one_of("preconditioning", preconditioning, _PRECONDITIONINGS)
    adam_rate = learning_rate if adam_learning_rate is None else adam_learning_rate
    dimensions = muon_weight_dimension_numbers
    of_matrices = {"adaptive": adaptive, "preconditioning": preconditioning, "dimensions": dimensions}
    matrices = chain(
        scale_by_muon(
            _coefficients(ns_coeffs), ns_steps, beta, eps, mu_dtype, nesterov=nesterov, smooth=smooth, **of_matrices
        ),
        scale_by_shape(consistent_rms, dimensions=dimensions),
        parts.add_decayed_weights(weight_decay, weight_decay_mask),
        parts.scale_by_learning_rate(learning_rate),
    )
    adamw = chain(
        parts.scale_by_adam(adam_b1, adam_b2, eps, adam_eps_root, mu_dtype, nesterov=nesterov),
        parts.add_decayed_weights(adam_weight_decay),
        parts.scale_by_learning_rate(adam_rate),
    )
    made = partition({"muon": matrices, "adam": adamw}, labels(dimensions), dt=dt)
    falls = matrix_kinetic(
        learning_rate, beta, weight_decay, weight_decay_mask, smooth or 0.0, dt, dimensions, consistent_rms
    )
    return _with_lyapunov(made, falls, labels(dimensions), None if smooth is None else adaptive)


def _with_lyapunov(made: Method, falls: Callable, labels: Callable, adaptive: bool | None) -> Method:
    """Return the method with H in its flow; `adaptive` is None where the factor is a polynomial's."""

    def flow(grads: Params, state: Any, params: Params = None) -> tuple[Params, Any]:
        return made.flow(grads, state, params)

    def lyapunov(loss: Any, params: Params, state: Any) -> Any:
        if adaptive is None:
            raise TypeError(
                "muon has a Lyapunov function with smooth=c > 0 alone: the exact polar factor, smoothed, is the "
                "gradient of a convex function, and Newton-Schulz's polynomial is not."
            )
        if adaptive:
            raise TypeError("muon has no Lyapunov function with adaptive=True: its direction is no gradient.")
        if "adam" in jax.tree.leaves(labels(params)):
            raise TypeError(
                "muon's Lyapunov function is of matrices, but some params are none and follow AdamW's flow, for which "
                "none is derived here: take the loss of the matrices alone (`restricted`)."
            )
        return loss + falls(params, state.inner_states["muon"].inner_state[0])

    flow.lyapunov = lyapunov  # pyright: ignore[reportFunctionMemberAccess]
    lyapunov.needs = "|w theta|_2 < sqrt(max(1, n_out / n_in))"  # pyright: ignore[reportFunctionMemberAccess]
    return Method(made.init, made.update, flow, made.dt)


def _coefficients(given: Any) -> Any:
    """Return the coefficients; of a name, those that optax gives to it."""
    if not isinstance(given, str):
        return given
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        state: Any = optax.contrib.muon(1.0, given).init(jnp.ones((1, 1)))
    return tuple(map(tuple, state.inner_states["muon"].inner_state[0].ns_coeffs.reshape(-1, 3).tolist()))

"""Muon: a matrix moves along the polar factor of its momentum, and everything else by AdamW.

optax finds the polar factor roughly, by five steps of a Newton-Schulz polynomial p, whose singular values end within
about 0.7..1.2 instead of at 1. So the limit of its iterates is the flow along p(m), and that along the exact factor is
another one. With `smooth` = c > 0 both, update and flow, take the exact one, smoothed:

    S(M) = (M M^T + c^2 I)^{-1/2} M,   the gradient of K(M) = tr sqrt(M M^T + c^2 I)

It is built of `parts`, as optax's is of its own: partition, chain, width scaling, decay, rate.

Sources: Jordan et al. 2024; Liu et al. 2025. The update is made by optax's own code, `optax.contrib.muon` to the bit.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from inercia.core import check
from inercia.core.method import Method, Number, Params, Schedule, factory
from inercia.core.transition import debiased, like, refine, times
from inercia.core.tree import map_grads
from inercia.methods import parts
from inercia.methods.chains import chain, partition

#: Coefficients of optax's Newton-Schulz step.
_QUINTIC = (3.4445, -4.7750, 2.0315)


def _dimensions(params: Params) -> Params:
    return jax.tree.map(lambda _: optax.contrib.MuonDimensionNumbers(), params)


def _labels(params: Params) -> Params:
    return jax.tree.map(lambda p: "muon" if p.ndim == 2 else "adam", params)


def _wide(signal: Params) -> Params:
    def scaled(s: jax.Array) -> jax.Array:
        return jnp.sqrt(jnp.maximum(1, s.shape[1] / s.shape[0])) * s

    return map_grads(scaled, signal)


def _polar(c: Number) -> Any:
    """Return M -> (M M^T + c^2 I)^{-1/2} M."""

    def of(M: jax.Array) -> jax.Array:
        U, s, Vt = jnp.linalg.svd(M, full_matrices=False)
        return (U * (s / jnp.sqrt(s**2 + like(c, M) ** 2)).astype(U.dtype)) @ Vt

    return of


@factory()
def scale_by_muon(
    ns_coeffs: Any = _QUINTIC,
    ns_steps: int = 5,
    beta: Number = 0.95,
    eps: Number = 1e-8,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
    smooth: Number | None = None,
    dt: Number = 1.0,
) -> Method:
    """Turn a signal of matrices into the polar factor of its average, as `optax.contrib.scale_by_muon`; see `muon`."""
    for judge, name, value in ((check.positive, "dt", dt), (check.in_unit_interval, "beta", beta)):
        judge(name, value)
    check.refinable("beta", beta, dt)
    if smooth is not None:
        check.positive("smooth", smooth)
    b = refine(beta, dt)

    def made(decay: Any, ahead: bool) -> Any:
        return optax.contrib.scale_by_muon(
            ns_coeffs, ns_steps, decay, eps, mu_dtype, nesterov=ahead, weight_dimension_numbers=_dimensions
        )

    def factor(m: Params, state: Any) -> Params:
        if smooth is not None:
            return map_grads(_polar(smooth), m)
        return made(0.0, False).update(m, state._replace(count=jnp.zeros([], jnp.int32)))[0]

    def update(grads: Params, state: Any, params: Params = None, **extra: Any) -> tuple[Params, Any]:
        signal, after = made(b, nesterov).update(grads, state)
        if smooth is not None:
            m = optax.tree.bias_correction(after.mu, b, after.count + (1 if nesterov else 0))
            if nesterov:
                now = optax.tree.bias_correction(grads, b, after.count)
                m = map_grads(lambda g, m: like(b, m) * m + like(1 - b, g) * g, now, m)
            signal = factor(m, state)
        return times(dt, signal), after

    def flow(grads: Params, state: Any, params: Params = None) -> tuple[Params, Any]:
        m = map_grads(lambda g, m: debiased(m, g, beta, state.count), grads, state.mu)
        m_dot = map_grads(lambda g, m: (1 - beta) * (g - m), grads, state.mu)
        still = jnp.zeros_like(state.ns_coeffs)
        return factor(m, state), state._replace(count=jnp.ones_like(state.count), mu=m_dot, ns_coeffs=still)

    return Method(made(b, nesterov).init, update, flow, dt)


@factory()
def scale_by_width(*, dt: Number = 1.0) -> Method:
    """Multiply each matrix of the signal, (n_in, n_out), by sqrt(max(1, n_out / n_in))."""
    check.positive("dt", dt)
    return Method(
        lambda params: optax.EmptyState(),
        lambda grads, state, params=None, **extra: (times(dt, _wide(grads)), state),
        lambda grads, state, params=None: (_wide(grads), state),
        dt,
    )


@factory(training_rate=2e-2)
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
    adam_b1: Number = 0.9,
    adam_b2: Number = 0.999,
    adam_eps_root: Number = 0.0,
    adam_weight_decay: Number = 0.0,
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
        learning_rate: a > 0, or a schedule step -> a; AdamW's too.
        ns_coeffs: of the Newton-Schulz polynomial.
        ns_steps: how often it is applied.
        beta: b in [0, 1).
        eps: added to denominators.
        weight_decay: w >= 0.
        weight_decay_mask: which matrices decay, as in optax.
        mu_dtype: dtype of the first moments.
        nesterov: whether they look ahead, AdamW's too.
        adam_b1: of AdamW, as the three that follow.
        adam_b2: decay of its second moment.
        adam_eps_root: inside its root.
        adam_weight_decay: its decay of weights.
        smooth: c > 0 takes the exact polar factor, smoothed; None optax's polynomial.
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
    rate = parts.scale_by_learning_rate(learning_rate)
    matrices = chain(
        scale_by_muon(ns_coeffs, ns_steps, beta, eps, mu_dtype, nesterov=nesterov, smooth=smooth),
        scale_by_width(),
        parts.add_decayed_weights(weight_decay, weight_decay_mask),
        rate,
    )
    adamw = chain(
        parts.scale_by_adam(adam_b1, adam_b2, eps, adam_eps_root, mu_dtype, nesterov=nesterov),
        parts.add_decayed_weights(adam_weight_decay),
        rate,
    )
    return partition({"muon": matrices, "adam": adamw}, _labels, dt=dt)

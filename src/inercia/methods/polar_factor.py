"""The polar factor of a matrix, roughly by a polynomial or exactly and smoothed: what `muon` is made of.

    S(M) = (M M^T + c^2 I)^{-1/2} M,   the gradient of K(M) = tr sqrt(M M^T + c^2 I)

Arrays of more axes are batches of matrices: `optax.contrib.MuonDimensionNumbers` names the axes of rows and of columns.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from inercia.core import check
from inercia.core.method import Method, Number, Params, factory
from inercia.core.transition import debiased, like, refine, times
from inercia.core.tree import map_grads

Dimensions = Any  # None, a tree of MuonDimensionNumbers and None like the params or a prefix of it, or params -> tree


def labels(dimensions: Dimensions) -> Callable[[Params], Params]:
    """Return params -> tree of "muon" for what is a matrix, or has dimensions, and "adam" for the rest."""
    if dimensions is None:
        return lambda params: jax.tree.map(lambda p: "muon" if p.ndim == 2 else "adam", params)

    def of(params: Params) -> Params:
        def label(d: Any, part: Params) -> Params:
            return jax.tree.map(lambda _: "adam" if d is None else "muon", part)

        given = dimensions(params) if callable(dimensions) else dimensions
        return jax.tree.map(label, given, params, is_leaf=_is_leaf)

    return of


def _is_leaf(d: Any) -> bool:
    return d is None or isinstance(d, (optax.contrib.MuonDimensionNumbers, optax.MaskedNode))


def _of_leaves(dimensions: Dimensions) -> Callable[[Params], Params]:
    """Return signal -> the dimensions of each of its leaves, where `partition` has masked the others."""
    if dimensions is None:
        return lambda signal: jax.tree.map(lambda _: optax.contrib.MuonDimensionNumbers(), signal)

    def of(signal: Params) -> Params:
        given = dimensions(signal) if callable(dimensions) else dimensions
        return jax.tree.map(lambda d, part: jax.tree.map(lambda _: d, part), given, signal, is_leaf=_is_leaf)

    return of


def _axes(x: jax.Array, d: Any) -> tuple[tuple[int, ...], ...]:
    """Return the axes of the batch, of the rows and of the columns."""
    rows, columns = (tuple(a % x.ndim for a in ((axes,) if isinstance(axes, int) else axes)) for axes in d)
    return tuple(a for a in range(x.ndim) if a not in rows + columns), rows, columns


def _polar(M: jax.Array, d: Any, c: Number) -> jax.Array:
    """Return (M M^T + c^2 I)^{-1/2} M of each matrix."""
    groups = _axes(M, d)
    order = sum(groups, ())
    turned = M.transpose(order)
    U, s, Vt = jnp.linalg.svd(turned.reshape([math.prod(M.shape[a] for a in g) for g in groups]), full_matrices=False)
    factors = (U * (s / jnp.sqrt(s**2 + like(c, M) ** 2)).astype(U.dtype)[..., None, :]) @ Vt
    return factors.reshape(turned.shape).transpose([order.index(a) for a in range(M.ndim)])


@factory()
def scale_by_muon(
    ns_coeffs: Any,
    ns_steps: int = 5,
    beta: Number = 0.95,
    eps: Number = 1e-8,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    preconditioning: str = "frobenius",
    dimensions: Dimensions = None,
    smooth: Number | None = None,
    dt: Number = 1.0,
) -> Method:
    """Turn a signal of matrices into the polar factor of its average, as `optax.contrib.scale_by_muon`; see `muon`."""
    for judge, name, value in ((check.positive, "dt", dt), (check.in_unit_interval, "beta", beta)):
        judge(name, value)
    check.refinable("beta", beta, dt)
    if smooth is not None:
        check.positive("smooth", smooth)
    b, of_leaves = refine(beta, dt), _of_leaves(dimensions)
    made_alike: Any = {"adaptive": adaptive, "preconditioning": preconditioning, "weight_dimension_numbers": of_leaves}

    def made(decay: Any, ahead: bool) -> Any:
        return optax.contrib.scale_by_muon(ns_coeffs, ns_steps, decay, eps, mu_dtype, nesterov=ahead, **made_alike)

    def factor(m: Params, state: Any) -> Params:
        if smooth is None:
            return made(0.0, False).update(m, state._replace(count=jnp.zeros([], jnp.int32)))[0]
        found = map_grads(lambda m, d: _polar(m, d, smooth), m, of_leaves(m))
        return map_grads(lambda u, m: jnp.sum(m.conj() * u) * u, found, m) if adaptive else found

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
def scale_by_shape(consistent_rms: Number | None = None, *, dimensions: Dimensions = None, dt: Number = 1.0) -> Method:
    """Multiply each matrix, (n_in, n_out), by sqrt(max(1, n_out / n_in)), or sqrt(max(n_in, n_out)) consistent_rms."""
    check.positive("dt", dt)

    def scaled(s: jax.Array, d: Any) -> jax.Array:
        n_in, n_out = (math.prod(s.shape[a] for a in axes) for axes in _axes(s, d)[1:])
        if consistent_rms is None:
            return jnp.sqrt(jnp.maximum(1, n_out / n_in)) * s
        return jnp.sqrt(jnp.maximum(n_in, n_out)) * consistent_rms * s

    def all_of(signal: Params) -> Params:
        return map_grads(scaled, signal, _of_leaves(dimensions)(signal))

    return Method(
        lambda params: optax.EmptyState(),
        lambda grads, state, params=None, **extra: (times(dt, all_of(grads)), state),
        lambda grads, state, params=None: (all_of(grads), state),
        dt,
    )

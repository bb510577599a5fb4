"""The polar factor of a matrix, roughly by a polynomial or exactly and smoothed: what `muon` is made of.

    S(M) = (M M^T + c^2 I)^{-1/2} M,   the gradient of K(M) = tr (sqrt(M M^T + c^2 I) - c I)

Muon's flow with it has a Lyapunov function. With A = a s, s the factor of the shape, W = w/s, G = 1-b,
D = 1 - e^{-G t}, the corrected moment n = m/D has n' = (G/D)(g - n), and theta' = -A (S(n) + W theta). Then

    H = f + K*(W theta)/W + (A D/G) Y,   Y = K*(W theta) + K(n) + W <n, theta> >= 0,   |W theta|_2 < 1
    H' = -A [(1 + A W D/G) Z - e^{-G t} Y] <= -A (D + A W D/G) Z <= 0,   Z = <q + n, S(n) + W theta>,   S(q) = W theta

K*(Y) = c tr (I - sqrt(I - Y^T Y)) is the conjugate; Y is the Bregman divergence of K from -q to n, Z the symmetric one,
so that 0 <= Y <= Z. For w = 0, H = f + (A D/G) K(n). The D of the correction costs nothing: D K(m/D) has no 1/D.
As c -> 0, K tends to the sum of singular values, which is within c of it for each, and S jumps where one of them
is 0: H stays, a smooth flow does not (it slides there), and iterates come near it only with steps of order c.

Arrays of more axes are batches of matrices: `optax.contrib.MuonDimensionNumbers` names the axes of rows and of columns.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from inercia.core import check
from inercia.core.method import Method, Number, Params, factory
from inercia.core.transition import chosen, clock, debiased, like, refine, times
from inercia.core.tree import map_grads
from inercia.methods.smoothed import constant

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


def shape_factor(shape: tuple[int, ...], groups: tuple[tuple[int, ...], ...], consistent_rms: Number | None) -> Any:
    """Return what the polar factors of matrices with these axes are multiplied by."""
    n_in, n_out = (math.prod(shape[a] for a in axes) for axes in groups[1:])
    if consistent_rms is None:
        return jnp.sqrt(jnp.maximum(1, n_out / n_in))
    return jnp.sqrt(jnp.maximum(n_in, n_out)) * consistent_rms


def matrix_kinetic(
    a: Any, b: Number, w: Any, mask: Any, c: Number, dt: Number, dimensions: Dimensions, consistent_rms: Number | None
) -> Callable[[Params, Any], Any]:
    """Return (params, state of `scale_by_muon`) -> H - f, the sum over matrices; nan where some |W theta|_2 >= 1."""

    def singular(M: jax.Array, groups: Any) -> jax.Array:
        turned = M.transpose(sum(groups, ()))
        return jnp.linalg.svd(turned.reshape([math.prod(M.shape[k] for k in g) for g in groups]), compute_uv=False)

    def of_leaf(D: Any, theta: jax.Array, m: jax.Array, d: Any, on: bool) -> jax.Array:
        groups = _axes(theta, d)
        s = shape_factor(theta.shape, groups, consistent_rms)
        A, W = a * s, (w if on else 0) / s
        young = (jnp.sqrt(singular(m, groups) ** 2 + (D * c) ** 2) - D * c).sum()  # D K(m / D)
        if not on or (check.is_concrete(w) and w == 0):
            return A / (1 - b) * young
        conjugate = c * (1 - jnp.sqrt(1 - (W * singular(theta, groups)) ** 2)).sum()
        return conjugate / W + A / (1 - b) * (young + D * conjugate + W * jnp.vdot(m, theta))

    def total(params: Params, state: Any) -> Any:
        constant(learning_rate=a, weight_decay=w)
        count = state.count
        time = clock(count, dt) if jnp.issubdtype(jnp.result_type(count), jnp.integer) else count
        D = -jnp.expm1(-(1 - b) * time)
        of_each = state.mu, _of_leaves(dimensions)(params), chosen(mask, params)
        parts = jax.tree.map(partial(of_leaf, D), params, *of_each)
        return sum(jax.tree.leaves(parts))

    return total


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
        return shape_factor(s.shape, _axes(s, d), consistent_rms) * s

    def all_of(signal: Params) -> Params:
        return map_grads(scaled, signal, _of_leaves(dimensions)(signal))

    return Method(
        lambda params: optax.EmptyState(),
        lambda grads, state, params=None, **extra: (times(dt, all_of(grads)), state),
        lambda grads, state, params=None: (all_of(grads), state),
        dt,
    )

"""The semidefinite complementarity problem of a central flow: the smallest oscillation that keeps a matrix positive.

    X >= 0,    M = A + B[X] >= 0,    <X, M> = 0        X, M symmetric k x k;  B symmetric and positive

These are the optimality conditions of  min <X, B[X]>/2 + <A, X>  over X >= 0. An interior-point method (Nesterov-Todd
scaling, Mehrotra's predictor and corrector) brings X and M near the solution, and Newton's method takes them there to
rounding: with Y = X - M, so that X and M are the positive and the negative part of Y, it solves A + B[Y+] = Y-.
For k = 1 the solution is max(0, -A/B). From the X of a problem nearby Newton's method alone takes a few steps; where
they do not end there, the interior-point method begins anew. Everything runs inside jit.

Where X and M share a null direction, as where equal critical eigenvalues turn independently of each other, those of a
sum of valleys, Newton's method cannot tell to which of them it belongs, and the interior point itself is the answer.

A symmetric matrix is written as the vector x of its upper triangle, column after column, off the diagonal times
sqrt 2; then <X, Y> = x . y, and B is a matrix.

Sources: Todd, Toh & Tutuncu 1998; Pang, Sun & Sun 2003 (Newton); Cohen et al. 2025 (the problem).
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

#: Relative errors at which the interior-point method hands over, and at which Newton's stops.
_NEAR, _THERE = 1e-8, 1e-12
_STEPS, _POLISH = 40, 15
#: Newton's steps from a solution nearby, and the error at which they have found this one.
_WARM, _FOUND = 8, 1e-10
#: Unknowns that LAPACK gets at once. 136 on two busy cores took it 15 ms instead of 0.1.
_BLOCK = 96


class Solution(NamedTuple):
    """X, and how well it solves the problem."""

    X: jax.Array  # (k, k), positive semidefinite
    error: jax.Array  # |A + B[X] - M| / |A|, with M >= 0, or <X, M> in units of A and X; nan where nothing was found


def triangle(k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows i <= columns j of the entries of `pack`, and their weights 1 or sqrt 2."""
    j, i = np.tril_indices(k)
    return i, j, np.where(i == j, 1.0, np.sqrt(2.0))


def pack(X: Any) -> jax.Array:
    """Write symmetric (..., k, k) as (..., k(k+1)/2), keeping the inner product."""
    i, j, weight = triangle(X.shape[-1])
    return jnp.asarray(X)[..., i, j] * weight


def unpack(x: Any) -> jax.Array:
    """Undo `pack`."""
    k = int(np.sqrt(2 * x.shape[-1]))
    i, j, weight = triangle(k)
    X = jnp.zeros((*x.shape[:-1], k, k), x.dtype).at[..., i, j].set(x / weight)
    return X.at[..., j, i].set(x / weight)


def complementarity(A: Any, B: Any, near: Any = None) -> Solution:
    """Solve for X; pure, for jit, vmap and scan.

    Args:
        A: (k, k), symmetric.
        B: (p, p), p = k(k+1)/2, symmetric and positive semidefinite, on packed matrices.
        near: (k, k), X of a problem nearby, to start from.

    Example:
        >>> jnp.round(complementarity(jnp.diag(jnp.array([-1.0, 2.0])), jnp.eye(3)).X, 4).tolist()
        [[1.0, 0.0], [0.0, 0.0]]
    """
    A, B = jnp.asarray(A), jnp.asarray(B)
    if len(A) == 1:
        x = jnp.where(A < 0, -A / B, 0.0)
        return Solution(x, jnp.where(jnp.isfinite(x[0, 0]), 0.0, jnp.nan))
    # In units in which B is equal on the squares of the axes, and B and A at most 1.
    i, j, _ = triangle(len(A))
    own = jnp.diagonal(B)[np.flatnonzero(i == j)]
    axes = jnp.where(own > 0, own, jnp.max(own)) ** -0.25
    both = jnp.outer(axes, axes)
    size = jnp.max(jnp.abs(A * both))
    a, b = pack(A * both) / size, B * jnp.outer(both[i, j], both[i, j])
    most = jnp.max(jnp.abs(b))
    b = b / most

    def attempt(y, X, lack, steps):
        x, error = _newton(a, b, y, steps)
        better = (lack < error) | jnp.isnan(error)
        return jnp.where(better, X, x), jnp.where(better, lack, error)

    def anew():
        X, M = _interior(a, b)
        return pack(X - M), pack(X), _lack(a, b, X, M), _POLISH

    def nearby(x):
        return x - (a + b @ x), x, jnp.inf, _WARM

    if near is None:
        x, error = attempt(*anew())
    else:
        # One loop of at most two turns, so that Newton's method is compiled once.
        start = pack(near / both) * (most / size)
        x, error, _ = jax.lax.while_loop(
            lambda carry: (carry[2] < 2) & ~(carry[1] < _FOUND),
            lambda carry: (*attempt(*jax.lax.cond(carry[2] == 0, partial(nearby, start), anew)), carry[2] + 1),
            (start, jnp.asarray(jnp.inf), jnp.asarray(0)),
        )
    return Solution(unpack(x) * both * (size / most), error)


def _interior(a, b):
    """Return X and M of relative error `_NEAR`."""
    one = jnp.eye(int(np.sqrt(2 * len(a))))
    basis = unpack(jnp.eye(len(a)))

    def shrinks(carry):
        *_, steps, error = carry
        return (error > _NEAR) & (steps < _STEPS)

    def advance(carry):
        X, M, steps, error = carry
        L, R = jnp.linalg.cholesky(X), jnp.linalg.cholesky(M)
        U, s, Vt = jnp.linalg.svd(R.T @ L)
        G, inverse = (L @ Vt.T) / jnp.sqrt(s), (R @ U).T / jnp.sqrt(s)[:, None]
        # In the basis G both X and M are diag(s); there the linear system is 1 + B.
        K = pack(G @ basis @ G.T)
        scaled = K @ b @ K.T
        missing = pack(G.T @ unpack(a + b @ pack(X) - pack(M)) @ G)
        factor = _cholesky(scaled + jnp.eye(len(a)))

        def direction(aim):
            half = _below(factor, pack(aim) - missing)
            d = jax.scipy.linalg.solve_triangular(factor, half, lower=True, trans=1)
            return unpack(d), unpack(scaled @ d + missing)

        def reach(D):  # the longest step that stays positive
            lowest = jnp.linalg.eigvalsh(D / jnp.sqrt(jnp.outer(s, s)))[0]
            return jnp.where(lowest < 0, -1 / jnp.minimum(lowest, -1e-30), jnp.inf)

        S, mean = jnp.diag(s), jnp.mean(s**2)
        dX, dM = direction(-S)
        step = jnp.minimum(1.0, jnp.minimum(reach(dX), reach(dM)))
        centre = (jnp.vdot(S + step * dX, S + step * dM) / len(s) / mean) ** 3 * mean
        curve = (dX @ dM + dM @ dX) / (s[:, None] + s[None, :])
        dX, dM = direction(centre * jnp.diag(1 / s) - S - curve)
        step = jnp.minimum(1.0, 0.99 * jnp.minimum(reach(dX), reach(dM)))
        X, M = G @ (S + step * dX) @ G.T, inverse.T @ (S + step * dM) @ inverse
        X, M = (X + X.T) / 2, (M + M.T) / 2
        after = _lack(a, b, X, M)
        # Rounding ends it where B is nearly singular; the point before is kept.
        lost = ~jnp.isfinite(after) | (after > 100 * error)
        return (jnp.where(lost, carry[0], X), jnp.where(lost, carry[1], M), steps + 1, jnp.where(lost, 0.0, after))

    X, M, *_ = jax.lax.while_loop(shrinks, advance, (one, one, 0, jnp.inf))
    return X, M


def _cholesky(S):
    """Return L with L L^T = S, by blocks too small for LAPACK's threads: they spin while others have the cores."""
    half = len(S) // 2
    if len(S) <= _BLOCK:
        return jnp.linalg.cholesky(S)
    first = _cholesky(S[:half, :half])
    across = _below(first, S[:half, half:])
    last = _cholesky(S[half:, half:] - across.T @ across)
    return jnp.block([[first, jnp.zeros_like(across)], [across.T, last]])


def _below(L, r):
    """Return L^{-1} r for a lower triangle L, by the same blocks."""
    half = len(L) // 2
    if len(L) <= _BLOCK:
        return jax.scipy.linalg.solve_triangular(L, r, lower=True)
    first = _below(L[:half, :half], r[:half])
    return jnp.concatenate([first, _below(L[half:, half:], r[half:] - L[half:, :half] @ first)])


def _lack(a, b, X, M):
    """Return by how much X > 0 and M > 0 miss the conditions."""
    return jnp.maximum(jnp.vdot(X, M) / (1 + jnp.max(jnp.abs(X))), jnp.max(jnp.abs(a + b @ pack(X) - pack(M))))


def _newton(a, b, y, most):
    """Return x and its relative error: Newton's method on A + B[Y+] = Y- from y, the best point on its way."""
    basis = unpack(jnp.eye(len(a)))

    def parts(y):
        lam, Q = jnp.linalg.eigh(unpack(y))
        plus = pack((Q * jnp.maximum(lam, 0)) @ Q.T)
        residual = a + b @ plus - (plus - y)
        return plus, residual, jnp.linalg.norm(residual) / jnp.linalg.norm(a), lam, Q

    def unfinished(carry):  # a step may lead away before the next ones bring it back
        *_, error, steps = carry
        return (error > _THERE) & (steps < most)

    def advance(carry):
        y, best, error, steps = carry
        _, residual, _, lam, Q = parts(y)
        size, up = jnp.abs(lam), jnp.maximum(lam, 0)
        total = size[:, None] + size
        share = (up[:, None] + up) / jnp.where(total > 0, total, 1.0)  # the slope of Y -> Y+, in the eigenbasis
        slope = pack(Q @ (share * (Q.T @ basis @ Q)) @ Q.T).T
        y = y - jnp.linalg.solve(b @ slope + jnp.eye(len(a)) - slope, residual)
        plus, _, after, *_ = parts(y)
        better = after < error
        return y, jnp.where(better, plus, best), jnp.where(better, after, error), steps + 1

    plus, _, error, *_ = parts(y)
    _, x, error, _ = jax.lax.while_loop(unfinished, advance, (y, plus, error, 0))
    return x, error

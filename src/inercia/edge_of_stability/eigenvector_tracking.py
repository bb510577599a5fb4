"""The leading eigenvectors of a symmetric matrix that changes a little from step to step, and a check of their number.

    basis = the vectors of the step before,   then repeat:  Rayleigh and Ritz on it,  basis += residuals of those that
                                                            are needed and not yet converged

The basis is kept from iteration to iteration, so that it is a block Krylov space; only where it is full it is cut back
to the Ritz vectors (a thick restart). Residuals are made orthonormal by two rounds of projection and SVQB (Stathopoulos
& Wu 2002), which drops those that the basis holds already. Rows that are zero stand for none, so that the number of
vectors may change inside a compiled loop; products are taken a few rows at a time, and only of rows that are there.

An eigenvector that is orthogonal to the basis is never met by its residuals. `probe` looks for it on its own: a short
Lanczos run in the complement of the rows, from a random vector.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

#: Rows of one product, and how often a basis may be extended by as many before it is cut back.
CHUNK, EXTENSIONS = 4, 3
#: Vectors tracked beside those asked for: the last of a block converges by its gap to the first outside.
GUARD = 2
#: Length below which a projected unit vector counts as one of the basis' own, and its square, for SVQB.
_DEPENDENT = 1e-8
#: Lanczos steps of a probe.
_STEPS = 16


class _Basis(NamedTuple):
    """Orthonormal rows or zeros, their images, and where the next go."""

    rows: jax.Array  # (b, n)
    images: jax.Array  # (b, n)
    filled: jax.Array


class _Ritz(NamedTuple):
    values: jax.Array  # (k,), decreasing; -inf for none
    rows: jax.Array  # (k, n)
    images: jax.Array  # (k, n)
    residual: jax.Array  # (k,), relative to the largest |value|; 0 for none


class Tracked(NamedTuple):
    """Leading eigenpairs."""

    values: jax.Array  # (k,), decreasing; -inf where there is none
    rows: jax.Array  # (k, n), orthonormal; 0 where there is none
    residual: jax.Array  # (k,), relative to the largest |value|
    iterations: jax.Array


def track(product: Callable, rows: jax.Array, allowed: Callable, iterations: Any, active: Any = None) -> Tracked:
    """Bring orthonormal rows that were eigenvectors of a symmetric operator to those of a slightly changed one.

    Args:
        product: (c, n) -> (c, n), the operator on rows, for any number c of rows.
        rows: (k, n), orthonormal or 0; n >= k + CHUNK * EXTENSIONS.
        allowed: values (k,) -> (k,) residuals, relative to the largest |eigenvalue|, at which to stop; inf for those
            that need not converge.
        iterations: at most; each takes one product of CHUNK rows.
        active: how many of the rows to start from; all by default.

    Returns:
        Tracked; pure, for jit and scan.
    """
    k, size = rows.shape
    chunk = min(CHUNK, k)
    space = -(-k // chunk) * chunk + chunk * EXTENSIONS
    active = jnp.asarray(k if active is None else active)

    def unfinished(carry):
        _, ritz, used = carry
        return (ritz.residual > allowed(ritz.values)).any() & (used < iterations)

    def extend(carry):
        basis, ritz, used = carry
        basis = jax.lax.cond(basis.filled + chunk > space, partial(_restarted, space), lambda ritz: basis, ritz)
        # The needed first, the largest of the others for company: a product takes CHUNK rows in any case.
        bounds = allowed(ritz.values)
        first, converged = ritz.residual > bounds, ritz.residual <= jnp.min(bounds)
        chosen = jnp.argsort(jnp.where(first, 0, jnp.where(converged, 2, 1)))[:chunk]
        apart = ritz.images[chosen] - _finite(ritz.values[chosen])[:, None] * ritz.rows[chosen]
        fresh = _orthonormal(apart, basis.rows)
        basis = _Basis(
            jax.lax.dynamic_update_slice_in_dim(basis.rows, fresh, basis.filled, 0),
            jax.lax.dynamic_update_slice_in_dim(basis.images, product(fresh), basis.filled, 0),
            basis.filled + chunk,
        )
        return basis, _rayleigh_ritz(basis, k), used + 1

    start = jnp.zeros((space, size), rows.dtype).at[:k].set(rows * (jnp.arange(k) < active)[:, None])
    chunks = (active + chunk - 1) // chunk

    def image(n, images):
        part = product(jax.lax.dynamic_slice_in_dim(start, n * chunk, chunk))
        return jax.lax.dynamic_update_slice_in_dim(images, part, n * chunk, 0)

    basis = _Basis(start, jax.lax.fori_loop(0, chunks, image, jnp.zeros_like(start)), chunks * chunk)
    _, ritz, used = jax.lax.while_loop(unfinished, extend, (basis, _rayleigh_ritz(basis, k), jnp.zeros((), int)))
    return Tracked(ritz.values, ritz.rows, ritz.residual, used)


def _finite(values):
    return jnp.where(jnp.isneginf(values), 0.0, values)


def _rayleigh_ritz(basis: _Basis, k: int) -> _Ritz:
    """Return the k leading Ritz pairs."""
    there = jnp.sum(basis.rows**2, axis=1) > 0.5
    between = basis.rows @ basis.images.T
    below = -2 * (1 + jnp.max(jnp.sum(jnp.abs(between), axis=1)))  # Gershgorin: under every Ritz value
    values, mix = jnp.linalg.eigh((between + between.T) / 2 + jnp.diag(jnp.where(there, 0.0, below)))
    values, mix = values[::-1][:k], mix[:, ::-1][:, :k].T
    found = jnp.arange(k) < there.sum()
    mix = jnp.where(found[:, None], mix, 0.0)
    rows, images = mix @ basis.rows, mix @ basis.images
    size = jnp.max(jnp.where(found, jnp.abs(values), 0.0))
    residual = jnp.linalg.norm(images - values[:, None] * rows, axis=1) / jnp.where(size > 0, size, 1.0)
    return _Ritz(jnp.where(found, values, -jnp.inf), rows, images, jnp.where(found, residual, 0.0))


def _restarted(space: int, ritz: _Ritz) -> _Basis:
    """Return a basis of the Ritz vectors alone."""
    k, size = ritz.rows.shape
    empty = jnp.zeros((space, size), ritz.rows.dtype)
    return _Basis(empty.at[:k].set(ritz.rows), empty.at[:k].set(ritz.images), jnp.asarray(k))


def _orthonormal(rows: jax.Array, basis: jax.Array) -> jax.Array:
    """Return orthonormal rows that span what the rows add to the basis, and zeros for what they do not add."""
    for _ in range(2):
        rows = _apart(rows, basis)
        squares, mix = jnp.linalg.eigh(rows @ rows.T)
        adds = squares > _DEPENDENT
        rows = (mix * jnp.where(adds, jnp.where(adds, squares, 1.0) ** -0.5, 0.0)).T @ rows
    return rows


def _apart(rows, basis):
    """Return unit rows orthogonal to the basis, and zeros for rows that it holds already."""
    rows = _unit(rows)
    return _unit(rows - (rows @ basis.T) @ basis, _DEPENDENT)


def _unit(rows, least=0.0):
    length = jnp.linalg.norm(rows, axis=1, keepdims=True)
    return jnp.where(length > least, rows / jnp.where(length > least, length, 1.0), 0.0)


@jax.jit
def random_rows(rows: jax.Array, seed: Any) -> jax.Array:
    """Return orthonormal rows with random ones in place of those that are 0."""
    if not len(rows):
        return rows
    fresh = jax.random.normal(jax.random.key(seed), rows.shape, rows.dtype) / rows.shape[1] ** 0.5
    absent = jnp.sum(rows**2, axis=1, keepdims=True) < 0.5
    Q, R = jnp.linalg.qr(jnp.where(absent, fresh, rows)[jnp.argsort(absent[:, 0])].T)
    return (Q * jnp.where(jnp.diag(R) < 0, -1.0, 1.0)).T  # rows that were orthonormal stay what they are


def probe(product: Callable, rows: jax.Array, start: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the largest Ritz value, and its unit vector (n,), of a short Lanczos run in the complement of the rows.

    The value is a lower bound of the largest eigenvalue there, and close to it where that one stands apart.

    Args:
        product: (c, n) -> (c, n), the operator on rows.
        rows: (k, n), orthonormal or 0.
        start: (n,), random.
    """

    def step(n, carry):
        basis, images, vector = carry
        others = jnp.concatenate([rows, basis])
        vector = _apart(_apart(vector[None], others), others)
        image = product(vector)[0]
        return basis.at[n].set(vector[0]), images.at[n].set(image), image

    empty = jnp.zeros((min(_STEPS, rows.shape[1]), rows.shape[1]), rows.dtype)
    basis, images, _ = jax.lax.fori_loop(0, len(empty), step, (empty, empty, start))
    found = _rayleigh_ritz(_Basis(basis, images, jnp.asarray(0)), 1)
    return found.values[0], found.rows[0]

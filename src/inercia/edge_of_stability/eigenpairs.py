"""The leading eigenpairs of the Hessian of a loss, plain or preconditioned, each with a certificate.

    H u = lambda P u,   u_i^T P u_j = delta_ij           the preconditioned problem; with u = P^{-1/2} v that of
                                                         P^{-1/2} H P^{-1/2}, symmetric

P is diagonal and positive, see `preconditioner`; without it P = 1. Up to `DENSE` parameters the matrix is formed and
solved exactly, beyond by LOBPCG (Knyazev 2001), warm-started where a subspace is given. The residual |H u - lambda P u|
certifies every pair. All is float64.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inercia.core import check, tree
from inercia.core.convolutions import fast_convolutions
from inercia.core.method import Params
from inercia.core.path import Path
from inercia.core.precision import in_float64
from inercia.edge_of_stability.eigenvector_tracking import GUARD, random_rows, track
from inercia.edge_of_stability.hessian import hessian_on_rows

#: Parameters up to which the Hessian is formed.
DENSE = 1000
#: Size of H u over the largest one, below which it is rounding.
_ROUNDED = 1e-9
#: Parameters per eigenvalue from which vectors are followed along a run; below, the Hessian is formed at each point.
FOLLOWED = 8


class CurvatureError(RuntimeError):
    """The eigenvalues did not converge as far as was asked, or are not finite.

    Attributes:
        spectrum: what was found of them, or None.
        path: the points of a run before it had to stop, or None.
    """

    def __init__(self, message: str, spectrum: "Spectrum | None" = None, path: Path | None = None) -> None:
        super().__init__(message)
        self.spectrum, self.path = spectrum, path


class Spectrum(NamedTuple):
    """The largest eigenvalues and their vectors; float64."""

    values: Any  # (k,), decreasing
    vectors: Params  # tree like params, each leaf (k, ...); u_i^T P u_j = delta_ij
    residual: Any  # (k,), |H u - lambda P u| / |H u| (absolute where H u = 0)
    iterations: Any  # of the solver; 0 where the matrix was formed


def curvature(
    loss: Any,
    params: Params,
    k: int = 1,
    *,
    preconditioner: Params | None = None,
    start: Params | None = None,
    tol: float = 1e-6,
    iterations: int = 200,
    seed: int = 0,
) -> Spectrum:
    """Compute the k largest eigenvalues of the Hessian, or of the preconditioned Hessian.

    Args:
        loss: params -> scalar, twice differentiable; for data that do not fit at once, `in_chunks`.
        params: where; computed in float64 whatever its precision.
        k: how many; below P / 5 where P, the number of parameters, exceeds `DENSE`.
        preconditioner: P, a tree like params of positive numbers; see `preconditioner`.
        start: vectors of an earlier `Spectrum` to start from.
        tol: largest relative residual that is accepted.
        iterations: at most.
        seed: of the random start.

    Raises:
        ValueError: k that is too large, a preconditioner that is not positive, a loss that is not one real number.
        TypeError: integer or complex params.
        CurvatureError: the Hessian is not finite here, or the residual stayed above tol.

    Example:
        >>> result = curvature(lambda x: (x[0] ** 2 + 3 * x[1] ** 2) / 2, jnp.ones(2), k=2)
        >>> result.values.round(6).tolist(), result.vectors.round(6).__abs__().tolist()
        ([3.0, 1.0], [[0.0, 1.0], [1.0, 0.0]])
    """
    k, iterations = check.integer("k", k), check.integer("iterations", iterations)
    check.real("params", params)
    check.positive("tol", tol)
    with jax.enable_x64(True):
        theta = tree.float64(params)
        loss = in_float64(loss, theta)
        check.loss_of(loss, theta)
        z = tree.vector(theta)
        check_k(k, z.size)
        scale = np.ones_like(z) if preconditioner is None else tree.vector(tree.float64(preconditioner))
        if scale.shape != z.shape or not (np.isfinite(scale) & (scale > 0)).all():
            raise ValueError("preconditioner must be a tree like params of finite numbers above 0.")
        root = np.sqrt(scale)
        if z.size <= DENSE:
            values, columns, residual, used = *_of_matrix(np.asarray(_matrix(loss, theta, root)), root, k), 0
        else:
            begin = np.random.default_rng(seed).standard_normal((z.size, k))
            if start is not None:
                rows = [np.reshape(leaf, (len(leaf), -1)) for leaf in jax.tree.leaves(tree.float64(start))]
                begin = root[:, None] * np.concatenate(rows, axis=1).T
            values, columns, used = lobpcg(loss, theta, root, begin, iterations, 0.02 * tol / z.size)
            if not np.isfinite(values).all():  # a Hessian that is zero, or of low rank, breaks its basis down
                values, columns, used = _tracked(loss, theta, root, begin, iterations, 0.1 * tol)
            columns = np.asarray(columns) / root[:, None]
            residual = residuals(loss, theta, scale, values, columns)
    vectors = tree.of_vectors(columns.T, theta)
    found = Spectrum(np.asarray(values), vectors, np.asarray(residual), int(used))
    if not np.isfinite(found.values).all():
        raise CurvatureError("the Hessian is not finite at these params.", found)
    if not (found.residual <= tol).all():
        raise CurvatureError(
            f"the eigenvalues converged to {found.residual.max():.1e} only, and tol = {tol:g} was asked: allow more "
            f"than {iterations} iterations, or start from a subspace.",
            found,
        )
    return found


def check_k(k: int, size: int) -> None:
    """Raise unless so many eigenvalues can be computed of a matrix of this size."""
    if k > size:
        raise ValueError(f"k must be at most the number of parameters {size}, but it is {k}.")
    if size > DENSE and 5 * k >= size:
        raise ValueError(f"k must be below P / 5 = {size / 5:g} for LOBPCG, but it is {k}.")


def dense_rows(product: Callable, size: int, k: int) -> tuple[jax.Array, jax.Array]:
    """Return the k largest eigenvalues of a symmetric operator on rows, and their vectors as rows, from its matrix."""
    values, vectors = jnp.linalg.eigh(product(jnp.eye(size)))
    return values[::-1][:k], vectors[:, ::-1][:, :k].T


@partial(jax.jit, static_argnums=0)
@fast_convolutions
def _matrix(loss, theta, root):
    """Return P^{-1/2} H P^{-1/2}; by symmetry its rows are its columns."""
    return hessian_on_rows(loss, theta, root)(jnp.eye(root.size))


def _of_matrix(A: np.ndarray, root: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the k largest eigenvalues of A = P^{-1/2} H P^{-1/2}, the vectors u as columns, and their residuals."""
    if not np.isfinite(A).all():
        return np.full(k, np.nan), np.full((len(A), k), np.nan), np.full(k, np.nan)
    values, vectors = np.linalg.eigh((A + A.T) / 2)
    values, vectors = values[::-1][:k], vectors[:, ::-1][:, :k]
    image = root[:, None] * (A @ vectors)  # H u
    apart = np.linalg.norm(image - root[:, None] * vectors * values, axis=0)
    size = np.linalg.norm(image, axis=0)
    size = np.maximum(size, _ROUNDED * size.max())
    return values, vectors / root[:, None], apart / np.where(size > 0, size, 1.0)


@partial(jax.jit, static_argnums=(0, 3))
@fast_convolutions
def dense_eigenpairs(loss, theta, root, k):
    """Return the k largest eigenvalues, their vectors as columns, and 0 iterations, from the matrix itself."""
    values, rows = dense_rows(hessian_on_rows(loss, theta, root), root.size, k)
    return values, rows.T, 0


@partial(jax.jit, static_argnums=(0, 4, 5))
@fast_convolutions
def lobpcg(loss, theta, root, begin, iterations, tol):
    """Return the largest eigenvalues, their vectors as columns, and iterations, from the columns `begin` on."""
    from jax.experimental.sparse.linalg import lobpcg_standard  # noqa: PLC0415  loads scipy.sparse

    rows = hessian_on_rows(loss, theta, root)
    return lobpcg_standard(lambda columns: rows(columns.T).T, begin, iterations, tol)


@partial(jax.jit, static_argnums=0)
def _tracked(loss, theta, root, begin, iterations, tol):
    """Return what `lobpcg` returns, by `track`."""
    k = begin.shape[1]
    rows = random_rows(jnp.zeros((k + GUARD, len(begin))).at[:k].set(jnp.linalg.qr(begin)[0].T), 0)
    found = track(hessian_on_rows(loss, theta, root), rows, tol, iterations, lambda values: jnp.arange(k + GUARD) < k)
    return found.values[:k], found.rows[:k].T, found.iterations


def first_rows(loss: Any, theta: Params, root: jax.Array, k: int, iterations: int) -> jax.Array:
    """Return the k leading eigenvectors, as rows, for `track` to start from."""
    if root.size <= DENSE:
        return dense_eigenpairs(loss, theta, root, k)[1].T
    begin = jax.random.normal(jax.random.key(0), (root.size, k), root.dtype)
    return _tracked(loss, theta, root, begin, iterations, 1e-4)[1].T


@partial(jax.jit, static_argnums=0)
def residuals(loss, theta, scale, values, columns):
    """Return |H u - lambda P u| / |H u| of each column, where H u is not 0 to rounding beside the largest of them."""
    image = hessian_on_rows(loss, theta)(columns.T).T
    apart = jnp.linalg.norm(image - scale[:, None] * columns * values, axis=0)
    size = jnp.linalg.norm(image, axis=0)
    size = jnp.maximum(size, _ROUNDED * jnp.max(size))
    return apart / jnp.where(size > 0, size, 1.0)

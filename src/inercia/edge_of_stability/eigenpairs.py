"""The leading eigenpairs of the Hessian of a loss, plain or preconditioned, each with a certificate.

    H u = lambda P u,   u_i^T P u_j = delta_ij           the preconditioned problem; with u = P^{-1/2} v that of
                                                         P^{-1/2} H P^{-1/2}, symmetric

P is diagonal and positive, see `preconditioner`; without it P = 1. Up to `DENSE` parameters the matrix is formed and
solved exactly, beyond by restarted Lanczos steps, warm-started where a subspace is given. The residual
|H u - lambda P u| certifies every pair. All is float64.
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
from inercia.edge_of_stability.hessian import hessian_on_rows, hessian_on_vectors, judged
from inercia.edge_of_stability.lanczos import ROUNDED, Leading, leading

#: Parameters up to which the Hessian is formed.
DENSE = 1000
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
    iterations: Any  # Hessian products; 0 where the matrix was formed


def curvature(
    loss: Any,
    params: Params,
    k: int = 1,
    *,
    preconditioner: Params | None = None,
    start: Params | None = None,
    tol: float = 1e-6,
    iterations: int = 1000,
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
        iterations: Hessian products at most; at least k are made.
        seed: of the random start.

    Raises:
        ValueError: k that is too large, a preconditioner that is not positive, params that are not finite, a loss that
            is not one real number.
        TypeError: integer or complex params.
        CurvatureError: the Hessian is not finite here, or the residual stayed above tol.

    Example:
        >>> result = curvature(lambda x: (x[0] ** 2 + 3 * x[1] ** 2) / 2, jnp.ones(2), k=2)
        >>> result.values.round(6).tolist(), result.vectors.round(6).__abs__().tolist()
        ([3.0, 1.0], [[0.0, 1.0], [1.0, 0.0]])
    """
    k, iterations = check.integer("k", k), check.integer("iterations", iterations)
    check.positive("tol", tol)
    with jax.enable_x64(True):
        loss, theta = judged(loss, params)
        z = tree.vector(theta)
        check_k(k, z.size)
        scale = np.ones_like(z)
        if preconditioner is not None:
            if not _is_like(preconditioner, theta):
                raise ValueError("preconditioner must be a tree like params, with their structure and shapes.")
            scale = tree.vector(tree.float64(preconditioner))
        if not (np.isfinite(scale) & (scale > 0)).all():
            raise ValueError("preconditioner must be a tree like params of finite numbers above 0.")
        root = np.sqrt(scale)
        if z.size <= DENSE:
            values, columns, residual, used = *_of_matrix(np.asarray(_matrix(loss, theta, root)), root, k), 0
        else:
            if start is not None and not _is_like(start, theta, rows=True):
                raise ValueError(
                    "start must be the vectors of a Spectrum, its field `vectors`: a tree like params, each leaf with "
                    "one more axis in front, of at least 1."
                )
            begin = None if start is None else root * _as_rows(start)
            found = _leading(loss, theta, root, k, tol, iterations, start=begin, seed=seed, weight=root)
            values, residual, used = found.values, found.residual, found.products
            columns = (np.asarray(found.rows) / root).T
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
    if not size:
        raise ValueError("params must hold at least one number, but all of their arrays are empty.")
    if k > size:
        raise ValueError(f"k must be at most the number of parameters {size}, but it is {k}.")
    if size > DENSE and 5 * k >= size:
        raise ValueError(f"k must be below P / 5 = {size / 5:g} beyond {DENSE} parameters, but it is {k}.")


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
    scale = np.abs(A).max() or 1.0  # whose square may be too large for float64, or too small
    image = root[:, None] * ((A / scale) @ vectors)  # H u
    apart = np.linalg.norm(image - root[:, None] * vectors * (values / scale), axis=0)
    size = np.linalg.norm(image, axis=0)
    size = np.maximum(size, ROUNDED * size.max())
    return values, vectors / root[:, None], apart / np.where(size > 0, size, 1.0)


@partial(jax.jit, static_argnums=(0, 3))
@fast_convolutions
def dense_eigenpairs(loss, theta, root, k):
    """Return the k largest eigenvalues, their vectors as columns, and 0 iterations, from the matrix itself."""
    values, rows = dense_rows(hessian_on_rows(loss, theta, root), root.size, k)
    return values, rows.T, 0


def _leading(loss: Any, theta: Params, root: np.ndarray, k: int, tol: float, most: int, **options: Any) -> Leading:
    return leading(hessian_on_vectors(loss, theta, root), root.size, k, tol, most, **options)


def _is_like(given: Any, theta: Params, rows: bool = False) -> bool:
    """Whether a tree has the structure and shapes of params, with one more axis in front where it has rows."""
    if jax.tree.structure(given) != jax.tree.structure(theta):
        return False
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(given)]
    many = {shape[:1] for shape in shapes} if rows else {()}
    if len(many) != 1 or many == {(0,)} or (rows and many == {()}):
        return False
    return shapes == [(*next(iter(many)), *leaf.shape) for leaf in jax.tree.leaves(theta)]


def _as_rows(vectors: Params) -> np.ndarray:
    """Return vectors of an earlier spectrum as rows."""
    leaves = jax.tree.leaves(tree.float64(vectors))
    return np.concatenate([np.reshape(leaf, (len(leaf), -1)) for leaf in leaves], axis=1)


def first_rows(loss: Any, theta: Params, root: jax.Array, k: int, iterations: int) -> jax.Array:
    """Return the k leading eigenvectors, as rows, for `track` to start from."""
    if root.size <= DENSE:
        return dense_eigenpairs(loss, theta, root, k)[1].T
    return jnp.asarray(_leading(loss, theta, np.asarray(root), k, 1e-4, iterations, rounded=1.0).rows)

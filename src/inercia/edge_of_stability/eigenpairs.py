"""The leading eigenpairs of the Hessian of a loss, plain or preconditioned, each with a certificate.

    H u = lambda P u,   u_i^T P u_j = delta_ij           the preconditioned problem; with u = P^{-1/2} v that of
                                                         P^{-1/2} H P^{-1/2}, symmetric

P is diagonal and positive, see `preconditioner`; without it P = 1. Up to `DENSE` parameters the matrix is formed and
solved exactly, beyond by LOBPCG (Knyazev 2001), warm-started where a subspace is given. The residual |H u - lambda P u|
certifies every pair. All is float64.

Along a run the matrix changes a little from step to step. `follow` then brings the vectors of the step before to the
new ones by Rayleigh and Ritz on them and on their residuals, k products an iteration and one or two iterations a step
(LOBPCG spends three times as much, and checks its bases again at each).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.sparse.linalg import lobpcg_standard
from jax.flatten_util import ravel_pytree

from inercia.core import check, tree
from inercia.core.method import Params
from inercia.edge_of_stability.hessian import hessian_on_rows

#: Parameters up to which the Hessian is formed.
DENSE = 1000
#: Parameters per eigenvalue from which vectors are followed along a run; below, the Hessian is formed at each point.
FOLLOWED = 8


class CurvatureError(RuntimeError):
    """The eigenvalues are not known as well as was asked, or not finite; `spectrum` holds what there is, or None."""

    def __init__(self, message: str, spectrum: "Spectrum | None") -> None:
        super().__init__(message)
        self.spectrum = spectrum


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
        check.loss_of(loss, theta)
        z, rebuild = ravel_pytree(theta)
        check_k(k, z.size)
        scale = jnp.ones_like(z) if preconditioner is None else ravel_pytree(tree.float64(preconditioner))[0]
        if scale.shape != z.shape or not bool((jnp.isfinite(scale) & (scale > 0)).all()):
            raise ValueError("preconditioner must be a tree like params of finite numbers above 0.")
        root = jnp.sqrt(scale)
        if z.size <= DENSE:
            values, columns, used = dense_eigenpairs(loss, theta, root, k)
        else:
            begin = jax.random.normal(jax.random.key(seed), (z.size, k), z.dtype)
            if start is not None:
                begin = root[:, None] * jax.vmap(lambda v: ravel_pytree(v)[0])(tree.float64(start)).T
            values, columns, used = lobpcg(loss, theta, root, begin, iterations, 0.02 * tol / z.size)
        columns = columns / root[:, None]
        residual = residuals(loss, theta, scale, values, columns)
        values, vectors, residual = tree.to_numpy((values, jax.vmap(rebuild)(columns.T), residual))
    found = Spectrum(values, vectors, residual, int(used))
    if not np.isfinite(found.values).all():
        raise CurvatureError("the Hessian is not finite at these params.", found)
    if not (found.residual <= tol).all():
        raise CurvatureError(
            f"the eigenvalues are known to {found.residual.max():.1e} only, and tol = {tol:g} was asked: allow more "
            f"than {iterations} iterations, or start from a subspace.",
            found,
        )
    return found


def follow(product: Callable, rows: jax.Array, tol: float, iterations: int, needed: Any) -> tuple:
    """Bring orthonormal rows that were eigenvectors of a symmetric operator to those of a slightly changed one.

    Args:
        product: (k, n) -> (k, n), the operator on rows.
        rows: (k, n) with n >= 2 k.
        tol: residual, relative to the largest eigenvalue, at which to stop.
        iterations: at most; each takes k products.
        needed: mask (k,) of those that must reach tol, or a function of the values that gives it.

    Returns:
        Values (k,), decreasing; rows; residuals (k,), relative to the largest |value|; iterations. Pure, for jit and
        scan.
    """

    def ritz(basis, image):
        between = basis @ image.T
        values, mix = jnp.linalg.eigh((between + between.T) / 2)
        mix = mix[:, ::-1][:, : len(rows)].T
        basis, image = mix @ basis, mix @ image
        values = values[::-1][: len(rows)]
        apart = image - values[:, None] * basis
        return values, basis, image, apart, jnp.linalg.norm(apart, axis=1) / jnp.max(jnp.abs(values))

    def unfinished(carry):
        (values, *_, residual), used = carry
        must = needed(values) if callable(needed) else needed
        return ((residual > tol) & must).any() & (used < iterations)

    def improve(carry):
        (_, basis, image, apart, _), used = carry
        for _ in range(2):  # twice is enough: orthonormal, and orthogonal to the basis, to rounding
            apart = jnp.linalg.qr((apart - (apart @ basis.T) @ basis).T)[0].T
        return ritz(jnp.concatenate([basis, apart]), jnp.concatenate([image, product(apart)])), used + 1

    first = ritz(rows, product(rows))
    (values, basis, _, _, residual), used = jax.lax.while_loop(unfinished, improve, (first, 0))
    return values, basis, residual, used


def check_k(k: int, size: int) -> None:
    """Raise unless so many eigenvalues can be computed of a matrix of this size."""
    if k > size:
        raise ValueError(f"k must be at most the number of parameters {size}, but it is {k}.")
    if size > DENSE and 5 * k >= size:
        raise ValueError(f"k must be below P / 5 = {size / 5:g} for LOBPCG, but it is {k}.")


@partial(jax.jit, static_argnums=(0, 3))
def dense_eigenpairs(loss, theta, root, k):
    """Return the k largest eigenvalues, their vectors as columns, and 0 iterations, from the matrix itself."""
    values, vectors = jnp.linalg.eigh(hessian_on_rows(loss, theta, root)(jnp.eye(len(root))))
    return values[::-1][:k], vectors[:, ::-1][:, :k], 0


@partial(jax.jit, static_argnums=(0, 4, 5))
def lobpcg(loss, theta, root, begin, iterations, tol):
    """Return the largest eigenvalues, their vectors as columns, and iterations, from the columns `begin` on."""
    rows = hessian_on_rows(loss, theta, root)
    return lobpcg_standard(lambda columns: rows(columns.T).T, begin, iterations, tol)


def first_eigenvectors(loss, theta, root, k):
    """Return the k leading eigenvectors, as rows, for `follow` to start from."""
    if root.size <= DENSE:
        return dense_eigenpairs(loss, theta, root, k)[1].T
    begin = jax.random.normal(jax.random.key(0), (root.size, k), root.dtype)
    return lobpcg(loss, theta, root, begin, 100, 1e-4 / root.size)[1].T


@partial(jax.jit, static_argnums=0)
def residuals(loss, theta, scale, values, columns):
    """Return |H u - lambda P u| / |H u| of each column, absolute where H u = 0."""
    image = hessian_on_rows(loss, theta)(columns.T).T
    apart = jnp.linalg.norm(image - scale[:, None] * columns * values, axis=0)
    size = jnp.linalg.norm(image, axis=0)
    return apart / jnp.where(size > 0, size, 1.0)

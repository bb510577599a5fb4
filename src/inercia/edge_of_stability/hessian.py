"""Curvature: the Hessian of a loss, as an operator, and its top eigenpairs, plain or preconditioned.

    H v = d/de grad f(theta + e v)                       forward over reverse; no matrix
    H u = lambda P u,   u_i^T P u_j = delta_ij           the preconditioned problem; with u = P^{-1/2} v that of
                                                         P^{-1/2} H P^{-1/2}, symmetric

P is diagonal and positive, see `precondition`; without it P = 1. Up to `DENSE` parameters the matrix is formed and
solved exactly, beyond by LOBPCG (Knyazev 2001), warm-started where a subspace is given. The residual |H u - lambda P u|
certifies every pair. All is float64.

Along a run the matrix changes a little from step to step. `follow` then brings the vectors of the step before to the
new ones by Rayleigh and Ritz on them and on their residuals, k products an iteration and one or two iterations a step
(LOBPCG spends three times as much, and checks its bases again at each).

The trace and the density of all eigenvalues come from random vectors: Hutchinson's estimate, and the quadrature that
each Lanczos run holds (stochastic Lanczos quadrature; Ubaru, Chen & Saad 2017; Ghorbani et al. 2019).
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
from inercia.edge_of_stability.preconditioning import preconditioner, rule
from inercia.flows.iteration import Observer

#: Parameters up to which the Hessian is formed.
DENSE = 1000
#: Parameters per eigenvalue from which vectors are followed along a run; below, the Hessian is formed at each point.
FOLLOWED = 8
#: Vectors followed beside those asked for: the last of a block converges by its gap to the first outside.
GUARD = 2


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


def hvp(loss: Any, params: Params, vector: Params) -> Params:
    """Return the product of the Hessian of `loss` at `params` with `vector`, a tree like params; pure, mappable.

    Example:
        >>> hvp(lambda x: x @ jnp.diag(jnp.array([1.0, 3.0])) @ x / 2, jnp.zeros(2), jnp.ones(2)).tolist()
        [1.0, 3.0]
    """
    return jax.jvp(jax.grad(loss), (params,), (vector,))[1]


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


def sharpness(method: Any, loss: Any, k: int = 1, *, tol: float = 1e-3, iterations: int = 300) -> Observer:
    """Make an observer of the k largest eigenvalues of the preconditioned Hessian along a run of a method.

    For gradient descent they are learning rate times sharpness. Where the largest reaches `rule(method).bound`, 2 for
    gradient descent, the run is at its edge of stability. P is that of the update made at the point. The vectors of
    one point start the search at the next.

    Args:
        method: the one that is iterated: sgd, momentum, rmsprop, scalar_rmsprop or adam.
        loss: params -> scalar, the one that is iterated; for data that do not fit at once, `in_chunks`.
        k: how many.
        tol: largest residual, relative to the largest eigenvalue. An eigenvalue is known at least as well, and, apart
            from others, to about its square.
        iterations: at most, at a point.

    Returns:
        For `iterate(..., observe={"sharpness": ...})`, where it gives (points, k) float64.

    Raises:
        ValueError: a method without a known preconditioner, k that is too large.
        CurvatureError: from `iterate`, eigenvalues that are not finite or not known to tol, with the first such time.

    Example:
        >>> import inercia
        >>> method, loss = inercia.sgd(0.5), inercia.quadratic(np.diag([1.0, 3.0]))
        >>> watch = {"sharpness": inercia.sharpness(method, loss)}
        >>> inercia.iterate(method, loss, jnp.ones(2), 2, observe=watch).observed["sharpness"].round(6).tolist()
        [[1.5], [1.5], [1.5]]
    """
    k, iterations = check.integer("k", k), check.integer("iterations", iterations)
    check.positive("tol", tol)
    rule(method)

    def here(params, state):
        grads = jax.grad(loss)(params)
        after = method.update(grads, state, params)[1]
        return jnp.sqrt(ravel_pytree(preconditioner(method, after, params))[0])

    def init(params, state):
        root = here(params, state)
        _check_size(k, root.size)
        return _start(loss, params, root, k + GUARD) if root.size >= FOLLOWED * k else ()

    def observe(params, state, memory):
        root = here(params, state)
        if root.size < FOLLOWED * k:
            values, _, _ = _dense(loss, params, root, k)
            return (values, jnp.zeros_like(values)), ()
        first = jnp.arange(k + GUARD) < k
        values, rows, residual, _ = follow(_on_rows(loss, params, root), memory, tol, iterations, first)
        return (values[:k], residual[:k]), rows

    def finish(times, seen):
        values, residual = seen
        bad = ~np.isfinite(values).all(axis=1) | ~(residual <= tol).all(axis=1)
        if bad.any():
            n = int(np.argmax(bad))
            why = (
                f"known to {residual[n].max():.1e} only, and tol = {tol:g} was asked: allow more iterations"
                if np.isfinite(values[n]).all()
                else "not finite"
            )
            found = Spectrum(values[n], None, residual[n], iterations)
            raise CurvatureError(f"at time {times[n]:g} the eigenvalues of the Hessian are {why}.", found)
        return values

    return Observer(init, observe, finish)


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
        _check_size(k, z.size)
        scale = jnp.ones_like(z) if preconditioner is None else ravel_pytree(tree.float64(preconditioner))[0]
        if scale.shape != z.shape or not bool((jnp.isfinite(scale) & (scale > 0)).all()):
            raise ValueError("preconditioner must be a tree like params of finite numbers above 0.")
        root = jnp.sqrt(scale)
        if z.size <= DENSE:
            values, columns, used = _dense(loss, theta, root, k)
        else:
            begin = jax.random.normal(jax.random.key(seed), (z.size, k), z.dtype)
            if start is not None:
                begin = root[:, None] * jax.vmap(lambda v: ravel_pytree(v)[0])(tree.float64(start)).T
            values, columns, used = _sparse(loss, theta, root, begin, iterations, 0.02 * tol / z.size)
        columns = columns / root[:, None]
        residual = _residual(loss, theta, scale, values, columns)
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


def in_chunks(loss: Any, batch: Any, rows: int) -> Callable[[Params], jax.Array]:
    """Return params -> mean loss over the batch, computed and differentiated `rows` rows at a time, in bounded memory.

    Args:
        loss: (params, batch) -> mean over the batch's rows.
        batch: tree of arrays, rows first.
        rows: must divide their number.

    Example:
        >>> mean = in_chunks(lambda p, x: jnp.mean(p * x), jnp.arange(6.0), 2)
        >>> float(mean(2.0)), round(float(jax.grad(mean)(2.0)), 4)
        (5.0, 2.5)
    """
    total = len(jax.tree.leaves(batch)[0])
    if total % check.integer("rows", rows):
        raise ValueError(f"rows must divide the number of rows of the batch, but it is {rows} and they are {total}.")
    chunks = jax.tree.map(lambda leaf: jnp.reshape(leaf, (total // rows, rows, *leaf.shape[1:])), batch)

    part = jax.checkpoint(loss)

    def mean(params):
        return jax.lax.map(partial(part, params), chunks).mean()

    return mean


def trace(loss: Any, params: Params, samples: int = 64, seed: int = 0) -> tuple[float, float]:
    """Estimate the trace of the Hessian by random signs (Hutchinson); return it and its standard error.

    Example:
        >>> trace(lambda x: x @ x, jnp.ones(5), samples=4)  # exact for a diagonal Hessian
        (10.0, 0.0)
    """
    samples = check.integer("samples", samples, 2)
    with jax.enable_x64(True):
        each = np.asarray(_hutchinson(loss, tree.float64(params), jax.random.key(seed), samples))
    return float(each.mean()), float(each.std(ddof=1) / np.sqrt(samples))


def density(
    loss: Any, params: Params, order: int = 40, samples: int = 8, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Estimate the density of the Hessian's eigenvalues by stochastic Lanczos quadrature.

    Args:
        loss: params -> scalar.
        params: where.
        order: steps of each Lanczos run, at most the number of parameters.
        samples: random vectors.
        seed: of the vectors.

    Returns:
        Nodes and weights, (samples * order,) each, sorted; the weights sum to 1. The share of eigenvalues below x is
        about the sum of the weights of the nodes below x.

    Example:
        >>> nodes, weights = density(lambda x: x[0] ** 2 - x[1] ** 2, jnp.ones(2), order=2)
        >>> round(float(nodes.min()), 6), round(float(nodes.max()), 6), round(float(weights.sum()), 6)
        (-2.0, 2.0, 1.0)
    """
    order, samples = check.integer("order", order), check.integer("samples", samples)
    with jax.enable_x64(True):
        theta = tree.float64(params)
        size = ravel_pytree(theta)[0].size
        if order > size:
            raise ValueError(f"order must be at most the number of parameters {size}, but it is {order}.")
        nodes, weights = tree.to_numpy(_quadrature(loss, theta, jax.random.key(seed), order, samples))
    sort = np.argsort(nodes.ravel())
    return nodes.ravel()[sort], weights.ravel()[sort] / samples


def _check_size(k: int, size: int) -> None:
    if k > size:
        raise ValueError(f"k must be at most the number of parameters {size}, but it is {k}.")
    if size > DENSE and 5 * k >= size:
        raise ValueError(f"k must be below P / 5 = {size / 5:g} for LOBPCG, but it is {k}.")


def _on_rows(loss, theta, root=None):
    """Return the operator P^{-1/2} H P^{-1/2} on rows (k, n)."""
    z, rebuild = ravel_pytree(theta)
    linear = jax.vmap(jax.linearize(jax.grad(lambda z: loss(rebuild(z))), z)[1])
    return linear if root is None else lambda rows: linear(rows / root) / root


@partial(jax.jit, static_argnums=(0, 3))
def _dense(loss, theta, root, k):
    values, vectors = jnp.linalg.eigh(_on_rows(loss, theta, root)(jnp.eye(len(root))))
    return values[::-1][:k], vectors[:, ::-1][:, :k], 0


@partial(jax.jit, static_argnums=(0, 4, 5))
def _sparse(loss, theta, root, begin, iterations, tol):
    rows = _on_rows(loss, theta, root)
    return lobpcg_standard(lambda columns: rows(columns.T).T, begin, iterations, tol)


def _start(loss, theta, root, k):
    """Return the k leading eigenvectors, as rows, for `follow` to start from."""
    if root.size <= DENSE:
        return _dense(loss, theta, root, k)[1].T
    begin = jax.random.normal(jax.random.key(0), (root.size, k), root.dtype)
    return _sparse(loss, theta, root, begin, 100, 1e-4 / root.size)[1].T


@partial(jax.jit, static_argnums=0)
def _residual(loss, theta, scale, values, columns):
    image = _on_rows(loss, theta)(columns.T).T
    apart = jnp.linalg.norm(image - scale[:, None] * columns * values, axis=0)
    size = jnp.linalg.norm(image, axis=0)
    return apart / jnp.where(size > 0, size, 1.0)


@partial(jax.jit, static_argnums=(0, 3))
def _hutchinson(loss, theta, key, samples):
    z = ravel_pytree(theta)[0]
    operator = _on_rows(loss, theta)

    def one(key):
        signs = jax.random.rademacher(key, (1, z.size), z.dtype)
        return jnp.vdot(signs, operator(signs))

    return jax.lax.map(one, jax.random.split(key, samples))


@partial(jax.jit, static_argnums=(0, 3, 4))
def _quadrature(loss, theta, key, order, samples):
    size = ravel_pytree(theta)[0].size
    operator = _on_rows(loss, theta)

    def one(key):
        first = jax.random.normal(key, (size,), float)
        first = first / jnp.linalg.norm(first)

        def step(carry, n):
            basis, v = carry
            basis = basis.at[n].set(v)
            w = operator(v[None])[0]
            alpha = v @ w
            for _ in range(2):  # twice is enough (Kahan): the basis stays orthogonal to rounding
                w = w - basis.T @ (basis @ w)
            beta = jnp.linalg.norm(w)
            exhausted = beta < 1e-12 * (1 + jnp.abs(alpha))  # an invariant subspace: what follows has no weight
            return (basis, jnp.where(exhausted, 0.0, w / jnp.where(exhausted, 1.0, beta))), (
                alpha,
                jnp.where(exhausted, 0.0, beta),
            )

        _, (alphas, betas) = jax.lax.scan(step, (jnp.zeros((order, size)), first), jnp.arange(order))
        tridiagonal = jnp.diag(alphas) + jnp.diag(betas[:-1], 1) + jnp.diag(betas[:-1], -1)
        nodes, vectors = jnp.linalg.eigh(tridiagonal)
        return nodes, vectors[0] ** 2

    return jax.lax.map(one, jax.random.split(key, samples))

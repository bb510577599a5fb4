"""The trace of a Hessian and the density of its eigenvalues, from products with random vectors.

    tr H = E[s^T H s],   s random signs                                        (Hutchinson)
    tr H = tr Q^T H Q + E[x^T H x],   Q spans H Omega, x random in its complement        (Hutch++, XTrace)
    density: each Lanczos run from a random vector holds a Gauss quadrature    (stochastic Lanczos quadrature)

Sources: Hutchinson 1989; Meyer, Musco, Musco & Woodruff 2021; Epperly, Tropp & Webber 2024; Ubaru, Chen & Saad 2017;
Ghorbani, Krishnan & Xiao 2019.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from inercia.core import check, tree
from inercia.core.convolutions import fast_convolutions
from inercia.core.method import Params
from inercia.edge_of_stability.eigenpairs import CurvatureError
from inercia.edge_of_stability.hessian import hessian_on_rows, judged


def trace(
    loss: Any, params: Params, samples: int = 64, seed: int = 0, *, method: str = "hutchinson"
) -> tuple[float, float]:
    """Estimate the trace of the Hessian; return it and its standard error.

    Args:
        loss: params -> scalar, or `gauss_newton`, `empirical_fisher`.
        params: where.
        samples: Hessian products, at least 2; of "xtrace" 4.
        seed: of the random vectors.
        method: "hutchinson", random signs; or "xtrace", which takes out the range that half of the products span:
            better the faster the eigenvalues decay, and exact where fewer than samples / 2 of them are not 0. Its
            standard error is an estimate, since its samples share their products.

    Raises:
        ValueError: too few samples, params that are none or not finite, a loss that is not one real number.
        TypeError: integer or complex params.
        CurvatureError: a Hessian that is not finite here.

    Example:
        >>> trace(lambda x: x @ x, jnp.ones(5), samples=4)  # exact for a diagonal Hessian
        (10.0, 0.0)
    """
    check.one_of("method", method, ("hutchinson", "xtrace"))
    samples = check.integer("samples", samples, 4 if method == "xtrace" else 2)
    key = check.key(check.integer("seed", seed, -(2**63)))
    with jax.enable_x64(True):
        loss, theta = judged(loss, params)
        if method == "xtrace":
            each = _exchangeable(loss, theta, samples // 2, seed)
        else:
            each = np.asarray(_random_quadratic_forms(loss, theta, key, samples))
    scale = _require_finite(each) or 1.0  # whose square, or sum, may be beyond what float64 holds
    mean, error = (each / scale).mean(), (each / scale).std(ddof=1) / np.sqrt(len(each)) if len(each) > 1 else 0.0
    return float(scale * mean), float(scale * error)


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

    Raises:
        ValueError: an order above the number of parameters, params that are not finite, a loss that is not one real
            number.
        TypeError: integer or complex params.
        CurvatureError: a Hessian that is not finite here.

    Example:
        >>> nodes, weights = density(lambda x: x[0] ** 2 - x[1] ** 2, jnp.ones(2), order=2)
        >>> round(float(nodes.min()), 6), round(float(nodes.max()), 6), round(float(weights.sum()), 6)
        (-2.0, 2.0, 1.0)
    """
    order, samples = check.integer("order", order), check.integer("samples", samples)
    key = check.key(check.integer("seed", seed, -(2**63)))
    with jax.enable_x64(True):
        loss, theta = judged(loss, params)
        size = tree.vector(theta).size
        if order > size:
            raise ValueError(f"order must be at most the number of parameters {size}, but it is {order}.")
        nodes, weights = tree.to_numpy(_lanczos_quadratures(loss, theta, key, order, samples))
    _require_finite(nodes)
    sort = np.argsort(nodes.ravel())
    return nodes.ravel()[sort], weights.ravel()[sort] / samples


def _require_finite(numbers: np.ndarray) -> float:
    """Return the largest of them, or raise unless all are finite."""
    if not np.isfinite(numbers).all():
        raise CurvatureError("the Hessian is not finite at these params, or too large for float64.")
    return float(np.abs(numbers).max(initial=0.0))


def _exchangeable(loss: Any, theta: Params, count: int, seed: int) -> np.ndarray:
    """Return XTrace's estimates, each with one vector outside of the range that the others span.

    With Y = H Omega = Q R and s_i the direction of Q's span that omega_i alone adds, orthogonal to the other columns of
    R, the others span Q (1 - s_i s_i^T); what is left of omega_i is scaled to the length of its complement.
    """
    size = tree.vector(theta).size
    count = min(count, size)
    if not count:
        return np.zeros(1)
    omega = np.random.default_rng(seed).standard_normal((count, size))
    omega *= np.sqrt(size) / np.linalg.norm(omega, axis=1, keepdims=True)
    images = np.asarray(_products(loss, theta, omega))
    scale = _require_finite(images) or 1.0
    images = images / scale
    Q, R = np.linalg.qr(images.T)
    inside = Q.T @ (np.asarray(_products(loss, theta, Q.T)).T / scale)
    diagonal = np.diag(R)
    floor = 1e-13 * np.abs(diagonal).max() or 1.0
    R = R + np.diag(np.where(np.abs(diagonal) < floor, floor, 0.0))  # of low rank, any direction does
    S = np.linalg.inv(R).T
    S /= np.linalg.norm(S, axis=0)
    shadow = Q.T @ omega.T
    shadow -= S * (S * shadow).sum(axis=0)  # of omega_i in the span of the others
    outside = (omega.T * images.T).sum(axis=0) - 2 * (shadow * R).sum(axis=0) + (shadow * (inside @ shadow)).sum(axis=0)
    left = size - (shadow**2).sum(axis=0)
    return scale * (np.trace(inside) - (S * (inside @ S)).sum(axis=0) + outside * (size - count + 1) / left)


@partial(jax.jit, static_argnums=0)
@fast_convolutions
def _products(loss, theta, rows):
    operator = hessian_on_rows(loss, theta)
    return jax.lax.map(lambda row: operator(row[None])[0], rows)


@partial(jax.jit, static_argnums=(0, 3))
@fast_convolutions
def _random_quadratic_forms(loss, theta, key, samples):
    z = ravel_pytree(theta)[0]
    operator = hessian_on_rows(loss, theta)

    def one(key):
        signs = jax.random.rademacher(key, (1, z.size), z.dtype)
        return jnp.vdot(signs, operator(signs))

    return jax.lax.map(one, jax.random.split(key, samples))


@partial(jax.jit, static_argnums=(0, 3, 4))
@fast_convolutions
def _lanczos_quadratures(loss, theta, key, order, samples):
    size = ravel_pytree(theta)[0].size
    operator = hessian_on_rows(loss, theta)

    def one(key):
        first = jax.random.normal(key, (size,), float)
        first = first / jnp.linalg.norm(first)

        def step(carry, n):
            basis, v, longest = carry
            basis = basis.at[n].set(v)
            w = operator(v[None])[0]
            alpha, longest = v @ w, jnp.maximum(longest, _length(w))
            for _ in range(2):  # twice is enough (Kahan): the basis stays orthogonal to rounding
                w = w - basis.T @ (basis @ w)
            beta = _length(w)
            exhausted = beta <= 1e-12 * longest  # an invariant subspace: what follows has no weight
            return (basis, jnp.where(exhausted, 0.0, w / jnp.where(exhausted, 1.0, beta)), longest), (
                alpha,
                jnp.where(exhausted, 0.0, beta),
            )

        _, (alphas, betas) = jax.lax.scan(step, (jnp.zeros((order, size)), first, 0.0), jnp.arange(order))
        tridiagonal = jnp.diag(alphas) + jnp.diag(betas[:-1], 1) + jnp.diag(betas[:-1], -1)
        nodes, vectors = jnp.linalg.eigh(tridiagonal)
        return nodes, vectors[0] ** 2

    return jax.lax.map(one, jax.random.split(key, samples))


def _length(v: jax.Array) -> jax.Array:
    """Return the length of a vector whose squares float64 may not hold."""
    largest = jnp.max(jnp.abs(v))
    largest = jnp.where(largest > 0, largest, 1.0)
    return largest * jnp.linalg.norm(v / largest)

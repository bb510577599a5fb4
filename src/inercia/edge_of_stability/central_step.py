"""The equations of `central_flow` over a few substeps, from eigenvectors that are computed once for all of them.

At a point the eigenvectors U of the critical eigenvalues and the turning of their curvature are computed,

    T_ij = grad <u_i, H u_j>,

and from there the projected Hessian is carried linearly: U^T H U += T . dw at each substep of explicit Euler, while P
and the gradient are always those of the point. The linear prediction of the eigenvalues is compared with those found at
the next point, and that decides how far it may be carried (`central_loop`).

Where nothing is critical a substep needs no eigenvectors; there, and along the stable flow, it is divided further where
the flow is stiff.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from inercia.core.method import Params
from inercia.edge_of_stability.averaged_method import AveragedMethod, Moment, in_closed_form
from inercia.edge_of_stability.averaged_update import Read, as_averaged
from inercia.edge_of_stability.complementarity_problem import complementarity, pack, triangle, unpack
from inercia.edge_of_stability.hessian import turnings

#: Largest length of a substep times the largest eigenvalue, in units of a bound of 2: explicit Euler needs less than 2.
_REACH = 0.5
#: Curvature over its bound at which the stable flow is stopped: it would take ever more substeps.
STIFF = 50.0


class Flow(NamedTuple):
    """What does not change along a flow."""

    method: Any
    loss: Any
    stable: bool
    k: int = 1  # eigenvalues that may be critical at once
    rows: int = 0  # eigenvectors that are tracked; 0 where the Hessian is formed at each substep
    read: Read | None = None  # what was read off the method's update; None where it is in closed form

    @property
    def averaged(self) -> AveragedMethod:
        """How the method answers to the mean and the variance of its gradients."""
        own = in_closed_form(self.method) if self.read is None else as_averaged(self.read)
        assert own is not None
        return own

    @property
    def bound(self) -> float:
        """The largest stable eigenvalue of P^{-1} H."""
        return self.averaged.bound if self.read is None else self.read.bound


class Frozen(NamedTuple):
    """What is computed at a point and kept over an interval; p = k (k + 1) / 2 pairs, as in `pack`."""

    count: jax.Array  # eigenvalues that are critical
    T: jax.Array  # (p, n); 0 for pairs that are not critical
    products: jax.Array  # (p, n), u_i u_j elementwise, U^T P U = 1; (p, 1), summed, where P is one number
    effect: jax.Array  # (p, p), of X on the slack a substep ahead
    response: jax.Array  # of nu' to variances


class Step(NamedTuple):
    """What a substep found at its start."""

    loss: jax.Array
    eigenvalues: jax.Array  # (k,), critical ones as predicted, decreasing; -inf for none
    X: jax.Array  # (k, k)
    error: jax.Array  # of X


def vector_loss(flow: Flow, theta: Params) -> Any:
    """Return the loss as a function of one vector."""
    _, rebuild = ravel_pytree(theta)
    return lambda w: flow.loss(rebuild(w))


@partial(jax.jit, static_argnums=0)
def first_moment(flow: Flow, theta: Params) -> Moment:
    """Return the flow at time 0."""
    w, _ = ravel_pytree(theta)
    g, own = jax.grad(vector_loss(flow, theta))(w), flow.averaged
    return Moment(w, own.start(g), own.first_nu(theta, g), jnp.zeros(()))


def freeze(
    flow: Flow, f: Any, at: Moment, values: jax.Array, rows: jax.Array, count: Any, length: Any
) -> tuple[Frozen, jax.Array]:
    """Compute what an interval needs of the critical eigenvectors, and U^T H U, packed.

    Args:
        flow: what does not change.
        f: the loss of a vector.
        at: the point.
        values: (k,), eigenvalues of P^{-1} H, decreasing.
        rows: (k, n), eigenvectors of P^{-1/2} H P^{-1/2}, orthonormal.
        count: how many of them are critical, at most k.
        length: of a substep, in updates.
    """
    own, c = flow.averaged, flow.bound
    i, j, weight = (jnp.asarray(part) for part in triangle(flow.k))
    scale = own.scale(at.nu, at.time)
    U = jnp.where((jnp.arange(flow.k) < count)[:, None], rows / jnp.sqrt(scale), 0.0)
    T = weight[:, None] * turnings(f, at.w, U, count)  # the critical pairs come first in the triangle
    if len(scale) > 1:
        products = weight[:, None] * U[i] * U[j]
    else:
        products = jnp.where((i == j) & (i < count), 1.0, 0.0)[:, None] / scale
    response, by_moments = at.nu, 0.0
    if own.moments:
        response = own.response(at, jax.grad(f)(at.w))
        nu_of = c**2 * response * jax.vmap(own.variances)(products * scale**2)
        by_moments = c * products @ own.slope(at.nu, at.time, nu_of).T
    effect = length * (by_moments + 0.5 * (T / scale) @ T.T / own.period)
    hessian = pack(jnp.diag(jnp.where(jnp.arange(flow.k) < count, values, 0.0)))
    return Frozen(count, T, products, (effect + effect.T) / 2, response), hessian


def substep(
    flow: Flow, f: Any, frozen: Frozen, at: Moment, hessian: jax.Array, before: jax.Array, length: Any, divisions: Any
) -> tuple[Moment, jax.Array, Step]:
    """Advance by one substep.

    Args:
        flow: what does not change.
        f: the loss of a vector.
        frozen: what was computed at the interval's start.
        at: the point.
        hessian: (p,), U^T H U, packed, as predicted.
        before: (k, k), X of the substep before, in the same vectors; any other will do.
        length: of the substep, in updates.
        divisions: into which it is divided where nothing is critical.

    Returns:
        The next point, the Hessian there, and what was found here.
    """
    own, c = flow.averaged, flow.bound
    divisions = jnp.where(frozen.count > 0, 1, divisions)
    part = length / divisions
    loss, grad = jax.value_and_grad(f)(at.w)
    scale = own.scale(at.nu, at.time)
    stable = _stable_rates(flow, at, grad, scale, part)

    def oscillation():
        still = (at.nu, at.time), (stable.nu, jnp.ones_like(at.time))
        scale_rate = jax.jvp(own.scale, *still)[1]
        metric = frozen.products @ scale
        ahead = c * (metric + length * frozen.products @ scale_rate) - hessian - length * frozen.T @ stable.w
        X, error = _solve(frozen.count, _filled(flow.k, frozen.count, ahead, c), frozen.effect, before)
        x = pack(X)
        nu = c**2 * frozen.response * own.variances((x @ frozen.products) * scale**2)
        w = -0.5 * (x @ frozen.T) / scale / own.period
        return w, nu, X, error, _eigenvalues(flow.k, frozen.count, hessian, metric)

    def none():
        k = flow.k
        return 0 * at.w, 0 * at.nu, jnp.zeros((k, k)), jnp.zeros(()), jnp.full((k,), -jnp.inf)

    w, nu, X, error, eigenvalues = none() if flow.stable else jax.lax.cond(frozen.count > 0, oscillation, none)
    step = part * (stable.w + w)
    there = Moment(at.w + step, stable.m, at.nu + part * (stable.nu + nu), at.time + part)
    hessian = hessian if flow.stable else hessian + frozen.T @ step

    def further(_, at):
        rates = _stable_rates(flow, at, jax.grad(f)(at.w), own.scale(at.nu, at.time), part)
        return Moment(at.w + part * rates.w, rates.m, at.nu + part * rates.nu, at.time + part)

    there = jax.lax.fori_loop(1, divisions, further, there)
    return there, hessian, Step(loss, eigenvalues, X, error)


def _stable_rates(flow: Flow, at: Moment, grad: jax.Array, scale: jax.Array, length: Any) -> Moment:
    """Return w' and nu' without oscillation, and m after `length`."""
    own = flow.averaged
    m, along = own.direction(at.m, grad, at.time, length)
    w = -along / scale / own.period
    if own.still is not None:
        w = w + own.still(at)
    return Moment(w, m, own.nu_rate(at, grad), at.time)


def divisions(flow: Flow, largest: jax.Array, substeps: Any) -> jax.Array:
    """Return into how many parts a substep without oscillation is divided, where the flow is stiff."""
    stiff = jnp.ceil(2 * jnp.clip(jnp.nan_to_num(largest / flow.bound), 0, STIFF) / _REACH)
    return jnp.maximum(jnp.ceil(stiff / substeps).astype(int), 1)


def _filled(k: int, count: jax.Array, x: jax.Array, value: float) -> jax.Array:
    """Return x with `value` on the diagonal where nothing is critical."""
    i, j, _ = triangle(k)
    return jnp.where((i == j) & (i >= count), value, x)


def predicted_eigenvalues(flow: Flow, frozen: Frozen, at: Moment, hessian: jax.Array) -> jax.Array:
    """Return the critical eigenvalues (k,) of P^{-1} H as predicted at a point, decreasing; -inf for none."""
    return _eigenvalues(flow.k, frozen.count, hessian, frozen.products @ flow.averaged.scale(at.nu, at.time))


def _eigenvalues(k: int, count: jax.Array, hessian: jax.Array, metric: jax.Array) -> jax.Array:
    """Return the eigenvalues of U^T H U against U^T P U."""
    L = jnp.linalg.cholesky(unpack(_filled(k, count, metric, 1.0)))
    half = jax.scipy.linalg.solve_triangular(L, unpack(hessian), lower=True)
    both = jax.scipy.linalg.solve_triangular(L, half.T, lower=True)
    below = -2 * (1 + jnp.max(jnp.abs(both)))
    values = jnp.linalg.eigvalsh((both + both.T) / 2 + jnp.diag(jnp.where(jnp.arange(k) < count, 0.0, below)))
    return jnp.where(jnp.arange(k) < count, values[::-1], -jnp.inf)


def _solve(count: jax.Array, slack: jax.Array, effect: jax.Array, near: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return X and its error, solved in as few dimensions as hold what is critical."""
    k = unpack(slack).shape[0]

    def within(size):
        p = size * (size + 1) // 2
        found = complementarity(unpack(slack[:p]), effect[:p, :p], near[:size, :size])
        return jnp.zeros((k, k)).at[:size, :size].set(found.X), found.error

    sizes = [size for size in (1, 8, 12, 16, 24) if size < k] + [k]
    return jax.lax.switch(jnp.searchsorted(jnp.asarray(sizes), count), [partial(within, size) for size in sizes])

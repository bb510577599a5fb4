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
import numpy as np
from jax.flatten_util import ravel_pytree

from inercia.core.linear_form import linear_form
from inercia.core.method import Params
from inercia.edge_of_stability.complementarity_problem import complementarity, pack, triangle, unpack
from inercia.edge_of_stability.hessian import turning
from inercia.edge_of_stability.preconditioning import Rule, rule

#: Eigenvalues above this share of the bound take part in the oscillation.
CRITICAL = 0.97
#: Largest length of a substep times the largest eigenvalue, in units of a bound of 2: explicit Euler needs less than 2.
_REACH = 0.5
#: Curvature over its bound at which the stable flow is stopped: it would take ever more substeps.
STIFF = 50.0


class Memory(NamedTuple):
    """How the first moment forgets."""

    rate: float  # r
    start: float  # m(0) / g(theta_0)
    corrected: bool  # whether it is divided by what a constant gradient of 1 would give


class Flow(NamedTuple):
    """What does not change along a flow."""

    method: Any
    loss: Any
    stable: bool
    k: int = 1  # eigenvalues that may be critical at once
    rows: int = 0  # eigenvectors that are tracked; 0 where the Hessian is formed at each substep

    @property
    def rule(self) -> Rule:
        """How the method scales its steps."""
        return rule(self.method)

    @property
    def memory(self) -> Memory | None:
        """How the method averages its gradients, or None."""
        form = linear_form(self.method)
        if form is None or not form.beta:
            return None
        b = form.beta
        lost = (1 if form.kind == "explicit" else b) / (1 - b)  # updates
        corrected = form.second_moment is not None and form.second_moment.corrected
        return Memory(-float(np.log(b)), 1 + float(np.log(b)) * lost, corrected)


class Moment(NamedTuple):
    """The flow at a time."""

    w: jax.Array  # (n,)
    m: jax.Array  # (n,), (0,) for none
    nu: jax.Array  # (n,), (1,) for one of all, (0,) for none
    time: jax.Array  # updates


class Frozen(NamedTuple):
    """What is computed at a point and kept over an interval; p = k (k + 1) / 2 pairs, as in `pack`."""

    count: jax.Array  # eigenvalues that are critical
    T: jax.Array  # (p, n); 0 for pairs that are not critical
    products: jax.Array  # (p, n), u_i u_j elementwise, U^T P U = 1; (p, 1), summed, where P is one number
    effect: jax.Array  # (p, p), of X on the slack a substep ahead


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


def scale_at(own: Rule, nu: jax.Array, time: Any) -> jax.Array:
    """Return P, (n,) or (1,) where it is one number, at nu and time; an update scales by what holds in its middle."""
    return jnp.reshape(jnp.asarray(own.scale(nu if own.decay is not None else None, time + 0.5), float), (-1,))


def _mean_square(own: Rule, squares: jax.Array) -> jax.Array:
    """Return what nu is a mean of: the squares (n,), their sum (1,), or nothing (0,)."""
    if own.decay is None:
        return squares[:0]
    return jnp.sum(squares, keepdims=True) if own.scalar else squares


def _rate(own: Rule) -> float:
    """Return (1-b2)/b2."""
    return 0.0 if own.decay is None else (1 - own.decay) / own.decay


def _direction(flow: Flow, m: jax.Array, g: jax.Array, time: Any, length: Any) -> tuple[jax.Array, jax.Array]:
    """Return m after `length`, and what the stable flow moves along."""
    memory = flow.memory
    if memory is None:
        return m, g
    fading = jnp.exp(-memory.rate * length)
    m = fading * m + (1 - fading) * g
    constant = 1 - (1 - memory.start) * jnp.exp(-memory.rate * (time + length))
    return m, m / constant if memory.corrected else m


@partial(jax.jit, static_argnums=0)
def first_moment(flow: Flow, theta: Params) -> Moment:
    """Return the flow at time 0."""
    w, rebuild = ravel_pytree(theta)
    g = jax.grad(vector_loss(flow, theta))(w)
    nu = g[:0]
    if flow.rule.decay is not None:  # half of the first update's change
        before = flow.method.init(theta)
        after = flow.method.update(rebuild(g), before, theta)[1]
        before, after = (jnp.atleast_1d(ravel_pytree(state.nu)[0]) for state in (before, after))
        nu = before + (after - before) / (1 + jnp.sqrt(flow.rule.decay))
    m = g[:0] if flow.memory is None else flow.memory.start * g
    return Moment(w, m, nu, jnp.zeros(()))


def freeze(flow: Flow, f: Any, at: Moment, values: jax.Array, rows: jax.Array, length: Any) -> tuple[Frozen, jax.Array]:
    """Compute what an interval needs of the critical eigenvectors, and U^T H U, packed.

    Args:
        flow: what does not change.
        f: the loss of a vector.
        at: the point.
        values: (k,), eigenvalues of P^{-1} H, decreasing.
        rows: (k, n), eigenvectors of P^{-1/2} H P^{-1/2}, orthonormal.
        length: of a substep, in updates.
    """
    own, c = flow.rule, flow.rule.bound
    i, j, weight = (jnp.asarray(part) for part in triangle(flow.k))
    scale = scale_at(own, at.nu, at.time)
    count = (values > CRITICAL * c).sum()
    U = jnp.where((jnp.arange(flow.k) < count)[:, None], rows / jnp.sqrt(scale), 0.0)

    def third(pair, T):  # the critical pairs come first in the triangle
        return T.at[pair].set(weight[pair] * turning(f, at.w, U[i[pair]], U[j[pair]]))

    T = jax.lax.fori_loop(0, count * (count + 1) // 2, third, jnp.zeros((len(i), at.w.size)))
    if len(scale) > 1:
        products = weight[:, None] * U[i] * U[j]
    else:
        products = jnp.where((i == j) & (i < count), 1.0, 0.0)[:, None] / scale
    nu_of = _rate(own) * c**2 * jax.vmap(partial(_mean_square, own))(products * scale**2)
    if own.decay is None:
        scale_of = jnp.zeros_like(products)
    else:  # P is elementwise
        slope = jax.jvp(lambda nu: scale_at(own, nu, at.time), (at.nu,), (jnp.ones_like(at.nu),))[1]
        scale_of = nu_of * slope
    effect = length * (c * products @ scale_of.T + 0.5 * (T / scale) @ T.T)
    hessian = pack(jnp.diag(jnp.where(jnp.arange(flow.k) < count, values, 0.0)))
    return Frozen(count, T, products, (effect + effect.T) / 2), hessian


def substep(
    flow: Flow, f: Any, frozen: Frozen, at: Moment, hessian: jax.Array, length: Any, divisions: Any
) -> tuple[Moment, jax.Array, Step]:
    """Advance by one substep.

    Args:
        flow: what does not change.
        f: the loss of a vector.
        frozen: what was computed at the interval's start.
        at: the point.
        hessian: (p,), U^T H U, packed, as predicted.
        length: of the substep, in updates.
        divisions: into which it is divided where nothing is critical.

    Returns:
        The next point, the Hessian there, and what was found here.
    """
    own, c = flow.rule, flow.rule.bound
    divisions = jnp.where(frozen.count > 0, 1, divisions)
    part = length / divisions
    loss, grad = jax.value_and_grad(f)(at.w)
    scale = scale_at(own, at.nu, at.time)
    stable = _stable_rates(flow, at, grad, scale, part)

    def oscillation():
        still = (at.nu, at.time), (stable.nu, jnp.ones_like(at.time))
        scale_rate = jax.jvp(partial(scale_at, own), *still)[1]
        metric = frozen.products @ scale
        ahead = c * (metric + length * frozen.products @ scale_rate) - hessian - length * frozen.T @ stable.w
        X, error = _solve(frozen.count, _filled(flow.k, frozen.count, ahead, c), frozen.effect)
        x = pack(X)
        nu = _rate(own) * c**2 * _mean_square(own, (x @ frozen.products) * scale**2)
        return -0.5 * (x @ frozen.T) / scale, nu, X, error, _eigenvalues(flow.k, frozen.count, hessian, metric)

    def none():
        k = flow.k
        return 0 * at.w, 0 * at.nu, jnp.zeros((k, k)), jnp.zeros(()), jnp.full((k,), -jnp.inf)

    w, nu, X, error, eigenvalues = none() if flow.stable else jax.lax.cond(frozen.count > 0, oscillation, none)
    step = part * (stable.w + w)
    there = Moment(at.w + step, stable.m, at.nu + part * (stable.nu + nu), at.time + part)
    hessian = hessian if flow.stable else hessian + frozen.T @ step

    def further(_, at):
        rates = _stable_rates(flow, at, jax.grad(f)(at.w), scale_at(own, at.nu, at.time), part)
        return Moment(at.w + part * rates.w, rates.m, at.nu + part * rates.nu, at.time + part)

    there = jax.lax.fori_loop(1, divisions, further, there)
    return there, hessian, Step(loss, eigenvalues, X, error)


def _stable_rates(flow: Flow, at: Moment, grad: jax.Array, scale: jax.Array, length: Any) -> Moment:
    """Return w' and nu' without oscillation, and m after `length`."""
    own = flow.rule
    m, along = _direction(flow, at.m, grad, at.time, length)
    return Moment(-along / scale, m, _rate(own) * (_mean_square(own, grad**2) - at.nu), at.time)


def divisions(flow: Flow, largest: jax.Array, substeps: Any) -> jax.Array:
    """Return into how many parts a substep without oscillation is divided, where the flow is stiff."""
    stiff = jnp.ceil(2 * jnp.clip(jnp.nan_to_num(largest / flow.rule.bound), 0, STIFF) / _REACH)
    return jnp.maximum(jnp.ceil(stiff / substeps).astype(int), 1)


def _filled(k: int, count: jax.Array, x: jax.Array, value: float) -> jax.Array:
    """Return x with `value` on the diagonal where nothing is critical."""
    i, j, _ = triangle(k)
    return jnp.where((i == j) & (i >= count), value, x)


def predicted_eigenvalues(flow: Flow, frozen: Frozen, at: Moment, hessian: jax.Array) -> jax.Array:
    """Return the critical eigenvalues (k,) of P^{-1} H as predicted at a point, decreasing; -inf for none."""
    return _eigenvalues(flow.k, frozen.count, hessian, frozen.products @ scale_at(flow.rule, at.nu, at.time))


def _eigenvalues(k: int, count: jax.Array, hessian: jax.Array, metric: jax.Array) -> jax.Array:
    """Return the eigenvalues of U^T H U against U^T P U."""
    L = jnp.linalg.cholesky(unpack(_filled(k, count, metric, 1.0)))
    half = jax.scipy.linalg.solve_triangular(L, unpack(hessian), lower=True)
    both = jax.scipy.linalg.solve_triangular(L, half.T, lower=True)
    below = -2 * (1 + jnp.max(jnp.abs(both)))
    values = jnp.linalg.eigvalsh((both + both.T) / 2 + jnp.diag(jnp.where(jnp.arange(k) < count, 0.0, below)))
    return jnp.where(jnp.arange(k) < count, values[::-1], -jnp.inf)


def _solve(count: jax.Array, slack: jax.Array, effect: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return X and its error, solved in as few dimensions as hold what is critical."""
    k = unpack(slack).shape[0]

    def within(size):
        p = size * (size + 1) // 2
        found = complementarity(unpack(slack[:p]), effect[:p, :p])
        return jnp.zeros((k, k)).at[:size, :size].set(found.X), found.error

    sizes = [size for size in (1, 8, 12, 16, 24) if size < k] + [k]
    return jax.lax.switch(jnp.searchsorted(jnp.asarray(sizes), count), [partial(within, size) for size in sizes])

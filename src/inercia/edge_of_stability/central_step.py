"""One update of a central flow: explicit Euler substeps, with the oscillation X where something is critical.

The equations are those of `central_flow`. Far below the bound an update needs no eigenvectors on its way; there, and
along the stable flow, the substeps are shortened where the flow is stiff.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from inercia.core.method import Params, refine
from inercia.edge_of_stability.complementarity_problem import complementarity, pack, triangle, unpack
from inercia.edge_of_stability.eigenpairs import FOLLOWED, dense_eigenpairs, first_eigenvectors, follow
from inercia.edge_of_stability.preconditioning import Rule, rule

#: Eigenvalues above this share of the bound take part in the oscillation.
CRITICAL = 0.97
#: Where the largest is below this share, the step needs no eigenvectors on its way.
_FAR = 0.9
#: Largest length of a substep times the largest eigenvalue, in units of a bound of 2: explicit Euler needs less than 2.
_REACH = 0.5
#: Curvature over its bound at which the stable flow is stopped: it would take ever more substeps.
STIFF = 50.0
#: Residual of an eigenvector, relative to the largest eigenvalue, and iterations allowed for it.
TOL, ITERATIONS = 1e-3, 50


class Memory(NamedTuple):
    """How the first moment forgets."""

    rate: float  # r
    start: float  # m(0) / g(theta_0)
    corrected: bool  # whether it is divided by what a constant gradient of 1 would give


class Flow(NamedTuple):
    """What does not change along a flow."""

    method: Any
    loss: Any
    k: int
    stable: bool

    @property
    def rule(self) -> Rule:
        """How the method scales its steps."""
        return rule(self.method)

    @property
    def memory(self) -> Memory | None:
        """How the method averages its gradients, or None."""
        hyper, name = self.method.hyper, self.method.name
        b = {"momentum": hyper.get("beta"), "sgd": hyper.get("momentum"), "adam": hyper.get("b1")}.get(name)
        b = None if b is None else refine(b, self.method.dt)
        if not b:
            return None
        lost = (1 if hyper.get("scheme") == "explicit" else b) / (1 - b)  # updates
        return Memory(-float(np.log(b)), 1 + float(np.log(b)) * lost, name == "adam")


class Point(NamedTuple):
    """The flow at a time, and what is known there."""

    w: jax.Array  # (n,)
    m: jax.Array  # (n,), (0,) for none
    nu: jax.Array  # (n,), (1,) for one of all, (0,) for none
    time: jax.Array  # updates
    loss: jax.Array
    grad: jax.Array  # (n,)
    values: jax.Array  # (k,), eigenvalues of P^{-1} H, decreasing
    rows: jax.Array  # (k, n), orthonormal eigenvectors of P^{-1/2} H P^{-1/2}
    residual: jax.Array  # (k,)
    X: jax.Array  # (k, k), mean over the update that led here; in a record, over the one that follows
    error: jax.Array  # of X, the largest since the record before


def _loss_of_vector(flow: Flow, theta: Params) -> Any:
    _, rebuild = ravel_pytree(theta)
    return lambda w: flow.loss(rebuild(w))


def _mean_square(own: Rule, squares: jax.Array) -> jax.Array:
    """Return what nu is a mean of: the squares (n,), their sum (1,), or nothing (0,)."""
    if own.decay is None:
        return squares[:0]
    return jnp.sum(squares, keepdims=True) if own.whole else squares


def _rate(own: Rule) -> float:
    """Return (1-b2)/b2."""
    return 0.0 if own.decay is None else (1 - own.decay) / own.decay


def preconditioner_at(own: Rule, nu: jax.Array, time: Any, size: int) -> jax.Array:
    """Return P (n,) at nu and time; an update scales by what holds in its middle."""
    return jnp.broadcast_to(own.scale(nu if own.decay is not None else None, time + 0.5), (size,))


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
def _initial_moments(flow, theta):
    """Return w, m, nu and P^{1/2} at the start."""
    w, _ = ravel_pytree(theta)
    g = jax.grad(_loss_of_vector(flow, theta))(w)
    nu = g[:0]
    if flow.rule.decay is not None:  # half of the first update's way
        before = flow.method.init(theta)
        after = flow.method.update(ravel_pytree(theta)[1](g), before, theta)[1]
        before, after = (jnp.atleast_1d(ravel_pytree(state.nu)[0]) for state in (before, after))
        nu = before + (after - before) / (1 + jnp.sqrt(flow.rule.decay))
    m = g[:0] if flow.memory is None else flow.memory.start * g
    return w, m, nu, jnp.sqrt(preconditioner_at(flow.rule, nu, 0, w.size))


def start(flow: Flow, theta: Params) -> Point:
    """Return the point at time 0, with its leading eigenpairs."""
    w, m, nu, root = _initial_moments(flow, theta)
    dense = root.size < FOLLOWED * flow.k
    rows = jnp.zeros((flow.k, 0)) if dense else first_eigenvectors(flow.loss, theta, root, flow.k)
    return evaluate(flow, theta, w, m, nu, jnp.zeros(()), rows, jnp.zeros((flow.k, flow.k)), jnp.zeros(()))


@partial(jax.jit, static_argnums=0)
def evaluate(flow, theta, w, m, nu, time, rows, X, error):
    """Compute loss, gradient and leading eigenpairs at a new point."""
    f = _loss_of_vector(flow, theta)
    root = jnp.sqrt(preconditioner_at(flow.rule, nu, time, w.size))
    if rows.shape[1] == 0:
        value, grad = jax.value_and_grad(f)(w)
        values, columns, _ = dense_eigenpairs(f, w, root, flow.k)
        return Point(w, m, nu, time, value, grad, values, columns.T[:, :0], 0 * values, X, error)
    (value, grad), linear = jax.linearize(jax.value_and_grad(f), w)
    product = jax.vmap(lambda row: linear(row / root)[1] / root)
    values, rows, residual, _ = follow(product, rows, TOL, ITERATIONS, partial(must_converge, flow.rule.bound))
    return Point(w, m, nu, time, value, grad, values, rows, residual, X, error)


def must_converge(bound, values):
    """Return which eigenvectors must be known well: those that may soon be critical, and the first."""
    return (values > _FAR * bound) | (jnp.arange(len(values)) == 0)


def _substep_with_oscillation(flow, theta, length, here):
    """Make one substep with the oscillation."""
    own, c = flow.rule, flow.rule.bound
    f = _loss_of_vector(flow, theta)
    size, k = here.w.size, flow.k
    scale = preconditioner_at(own, here.nu, here.time, size)
    rows = here.rows if here.rows.shape[1] else dense_eigenpairs(f, here.w, jnp.sqrt(scale), k)[1].T
    U = rows / jnp.sqrt(scale)
    i, j, weight = triangle(k)

    # The stable part, and how it moves P.
    m, along = _direction(flow, here.m, here.grad, here.time, length)
    w_stable = -along / scale
    nu_stable = _rate(own) * (_mean_square(own, here.grad**2) - here.nu)
    _, scale_stable = jax.jvp(
        lambda nu, t: preconditioner_at(own, nu, t, size), (here.nu, here.time), (nu_stable, jnp.ones_like(here.time))
    )

    # grad <u_i, H u_j> for the critical pairs, which come first in the triangle.
    critical = here.values > CRITICAL * c
    count = critical.sum()
    gradient = jax.grad(f)

    def third(n, turns):
        u, v = U[jnp.asarray(i)[n]], U[jnp.asarray(j)[n]]
        turn = jax.jvp(lambda w: jax.jvp(gradient, (w,), (u,))[1], (here.w,), (v,))[1]
        return turns.at[n].set(jnp.asarray(weight)[n] * turn)

    turns = jax.lax.fori_loop(0, count * (count + 1) // 2, third, jnp.zeros((len(i), size)))
    both = critical[i] & critical[j]
    products = (weight * both)[:, None] * U[i] * U[j]

    # What X does to w and nu, and both to the slack c U^T P U - U^T H U.
    w_of = -0.5 * turns / scale
    nu_of = _rate(own) * c**2 * jax.vmap(partial(_mean_square, own))(products * scale**2)
    scale_of = jax.vmap(lambda v: jax.jvp(lambda nu: preconditioner_at(own, nu, here.time, size), (here.nu,), (v,))[1])(
        nu_of
    )
    slack = pack(jnp.diag(c - here.values)) + length * (c * products @ scale_stable - turns @ w_stable)
    effect = length * (c * products @ scale_of.T - turns @ w_of.T)
    X, error = _solve_for_oscillation(count, slack, (effect + effect.T) / 2)
    x = pack(X)
    return (
        here.w + length * (w_stable + x @ w_of),
        m,
        here.nu + length * (nu_stable + x @ nu_of),
        here.time + length,
        here.rows,
        X,
        error,
    )


def _solve_for_oscillation(count, slack, effect):
    """Solve for X; only where something is critical, and in closed form where one direction is."""
    k = unpack(slack).shape[0]
    none = jnp.zeros((k, k))

    def one():
        one = complementarity(slack[:1, None], effect[:1, :1])
        return none.at[0, 0].set(one.X[0, 0]), one.error

    branches = [lambda: (none, jnp.zeros(())), one, lambda: tuple(complementarity(unpack(slack), effect))]
    return jax.lax.switch(jnp.minimum(count, 2), branches[: k + 1])


def _stable_substep(flow, theta, length, here):
    """Make one substep without oscillation."""
    own = flow.rule
    scale = preconditioner_at(own, here.nu, here.time, here.w.size)
    grad = jax.grad(_loss_of_vector(flow, theta))(here.w)
    nu = here.nu + length * _rate(own) * (_mean_square(own, grad**2) - here.nu)
    m, along = _direction(flow, here.m, grad, here.time, length)
    return here._replace(w=here.w - length * along / scale, m=m, nu=nu, time=here.time + length)


def advance_one_update(flow, theta, substeps, here):
    """Advance by one update; X becomes its mean on the way and error the largest."""
    largest = here.values[0] / flow.rule.bound
    # Far below the bound no eigenvectors are needed on the way; far above, the stable flow is stiff.
    coasts = jnp.asarray(True) if flow.stable else largest < _FAR
    stiff = jnp.ceil(2 * jnp.clip(jnp.nan_to_num(largest), 0, STIFF) / _REACH).astype(int)
    short = jnp.maximum(substeps, stiff)

    def coast(here):
        there = jax.lax.fori_loop(0, short, lambda _, point: _stable_substep(flow, theta, 1 / short, point), here)
        return there.w, there.m, there.nu, there.time, here.rows, 0 * here.X, 0 * here.error

    def substep(_, carry):
        here, X, error = carry
        moved = (
            coast(here)
            if flow.stable
            else jax.lax.cond(coasts, coast, partial(_substep_with_oscillation, flow, theta, 1 / substeps), here)
        )
        there = evaluate(flow, theta, *moved)
        return there, X + there.X / substeps, jnp.maximum(error, there.error)

    begun = (here, jnp.zeros_like(here.X), jnp.zeros_like(here.error))
    there, X, error = jax.lax.fori_loop(0, jnp.where(coasts, 1, substeps), substep, begun)
    if flow.stable:  # given up
        lost = jnp.where(largest > STIFF, jnp.nan, 0.0)
        there = there._replace(w=there.w + lost, loss=there.loss + lost, values=there.values + lost)
    return there._replace(X=X, error=error)


@partial(jax.jit, static_argnums=(0, 3))
def integrate_central(flow, theta, here, points, every, substeps):
    """Return the points recorded every so many updates, leading axis = time."""

    def point(here, n):
        def update(i, carry):
            there, X, error = carry
            there = advance_one_update(flow, theta, substeps, there)
            return there, jnp.where(i == 0, there.X, X), jnp.where(i == 0, there.error, jnp.maximum(error, there.error))

        # The last point is only left for its X.
        updates = jnp.where(n == points, 1, every)
        there, X, error = jax.lax.fori_loop(0, updates, update, (here, here.X, here.error))
        return there, here._replace(X=X, error=error, rows=here.rows[:0], grad=here.grad[:0])

    return jax.lax.scan(point, here, jnp.arange(points + 1))[1]

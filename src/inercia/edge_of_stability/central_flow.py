"""The central flow: continuous time at the edge of stability.

A step that is too large for the curvature makes the iterates oscillate, theta_k = w_k + delta_k, along the
eigenvectors U whose eigenvalue stands at the bound c of the method (2 for gradient descent; see `precondition`). The
oscillation is no error that a flow may leave out: averaged over it, the gradient also points towards smaller curvature,

    E[grad f(w + delta)] = g(w) + (1/2) grad <Sigma, H(w)>,        Sigma = E[delta delta^T] = U X U^T,

and that is what holds the curvature at the bound. The central flow follows the average w, time counted in updates, with
the one covariance X under which the curvature does not cross the bound, and feels nothing where it is below:

    w'  = -P^{-1} [ g + (1/2) sum_ij X_ij grad <u_i, H u_j> ]
    nu' = ((1-b2)/b2) [ g^2 + c^2 diag(P Sigma P) - nu ]                 H U = c P U at the edge; nu as it is used
    0 <= X,    0 <= M = A + B[X],    <X, M> = 0                          M: the slack c - U^T H U a step ahead

with H U = P U Lambda, U^T P U = 1. A is the slack under the stable flow (X = 0) and B the effect of X upon it. The loss
of the iterates is, on average, f + <H, Sigma>/2 = f + (c/2) tr X.

For gradient descent, scalar RMSProp and RMSProp these are the equations of Cohen et al. 2025. For momentum and Adam
they are ours, by the same average. Where theta_{k+1} = theta_k - P^{-1} m_{k+1}, the mean of m is an average of
E[grad f(w + delta)] over the last 1/(1-b) updates. Its first part, the gradient, keeps that memory; its second, the
oscillation's, changes slowly and acts at once:

    w'  = -P^{-1} [ m + (1/2) sum_ij X_ij grad <u_i, H u_j> ]
    m'  = r (g - m),      r = -log b,      m(0) = (1 - r b/(1-b)) g(theta_0);      Adam: m/m(t) of a constant gradient

with the bound c = (2+2b)/(1-b). r matches the decay of m from update to update, and m(0) the way that is lost while m
fills from zero, b/(1-b) P^{-1} g. The lecture's order is one update later, m(0) = (1 - r/(1-b)) g, and its bound is
c = 1; it oscillates by turning, and a turning delta has a covariance just as well.

Source: Cohen, Damian, Talwalkar, Kolter & Lee 2025, Understanding optimization in deep learning with central flows.
"""

import warnings
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from inercia.core import check, tree
from inercia.core.linear_form import linear_form
from inercia.core.method import Params
from inercia.core.path import Path
from inercia.edge_of_stability.complementarity_problem import complementarity, pack, triangle, unpack
from inercia.edge_of_stability.hessian import FOLLOWED, CurvatureError, Spectrum, _check_size, _dense, _start, follow
from inercia.edge_of_stability.preconditioning import Rule, rule
from inercia.flows.iteration import diverged_at
from inercia.flows.smoothness import nonsmooth_in_loss

#: Eigenvalues above this share of the bound take part in the oscillation.
CRITICAL = 0.97
#: Where the largest is below this share, the step needs no eigenvectors on its way.
_FAR = 0.9
#: Largest length of a substep times the largest eigenvalue, in units of a bound of 2: explicit Euler needs less than 2.
_REACH = 0.5
#: Curvature over its bound at which the stable flow is given up: it would take ever more substeps.
STIFF = 50.0
#: Residual of an eigenvector, relative to the largest eigenvalue, and iterations allowed for it.
_TOL, _ITERATIONS = 1e-3, 50


def central(
    method: Any,
    loss: Any,
    params: Params,
    steps: int,
    *,
    k: int = 6,
    substeps: int = 4,
    every: int = 1,
    stable: bool = False,
) -> Path:
    """Integrate the central flow of a method, which goes on where the plain flow leaves the iterates.

    Args:
        method: sgd (also with momentum, without nesterov), momentum, rmsprop, scalar_rmsprop or adam, of inercia; the
            learning rate may be a schedule.
        loss: params -> scalar, three times differentiable; for data that do not fit at once, `in_chunks`.
        params: where the method starts; computed in float64 whatever its precision.
        steps: length in updates of the method.
        k: eigenvalues that are followed, in 1..10; more than are ever critical at once.
        substeps: explicit Euler steps per update; more where the stable flow is stiff.
        every: updates between recorded points; must divide steps.
        stable: leave the oscillation out (X = 0): the stable flow, for comparison. It is given up, with `diverged` set
            and nan from there, where its curvature exceeds the bound `STIFF` times.

    Returns:
        Path: 1 + steps / every points. `loss` is f(w), `state` a `CentralState`; `observed` has "sharpness" (n, k),
        eigenvalues of P^{-1} H, comparable with the bound; "residual" (n, k) of their eigenvectors, relative to the
        largest; "X" (n, k, k), the mean over the update that follows; "mean_loss" (n,), the predicted mean loss of the
        iterates; "bound" (n,).

    Raises:
        ValueError: a method without a known central flow, k out of range, every that does not divide steps, a loss
            that is not one real number.
        TypeError: integer or complex params.
        CurvatureError: a curvature that is not finite, eigenvectors that were lost, or an X that could not be found,
            with the time.

    Warns:
        InerciaWarning: a loss that is not smooth, since the central flow needs its third derivatives; k eigenvalues
            that are all critical, so that k is too small.

    Example:
        >>> import inercia
        >>> valley = lambda x: (1 + x[0] ** 2) * x[1] ** 2 / 2 + 0.002 * (x[0] - 3) ** 2  # its walls close in
        >>> method, start = inercia.sgd(0.5), jnp.array([1.7, 0.1])
        >>> flow = inercia.central(method, valley, start, 400, k=2)
        >>> path = inercia.iterate(method, valley, start, 400)
        >>> round(float(flow.params[-1, 0]), 2), round(float(path.params[200:, 0].mean()), 2)  # 1 + x^2 = 2 / 0.5
        (1.73, 1.73)
    """
    steps, every = check.recorded(steps, every)
    k, substeps = check.integer("k", k), check.integer("substeps", substeps)
    if k > 10:
        raise ValueError(f"k must be at most 10, but it is {k}.")
    own = rule(method)
    form = linear_form(method)
    decayed = getattr(method, "hyper", {}).get("weight_decay")
    if decayed or form is None or form.kind == "nesterov" or (form.kind == "heavy ball" and form.second_moment):
        raise ValueError("no central flow is given for nesterov, weight decay, or a sum of preconditioned steps.")
    check.real("params", params)
    with jax.enable_x64(True):
        theta = tree.float64(params)
        check.loss_of(loss, theta)
        z, _ = ravel_pytree(theta)
        _check_size(k, z.size)
        _warn_of_bends(loss, theta)
        flow = _Flow(method, loss, k, stable)
        carry = _begin(flow, theta)
        points = tree.to_numpy(_run(flow, theta, carry, steps // every, every, substeps))
        trees = jax.vmap(ravel_pytree(theta)[1])
        nu = None if own.decay is None else points.nu[:, 0] if own.whole else trees(points.nu)
        m = None if flow.memory is None else trees(points.m)
        rebuilt, state = tree.to_numpy((trees(points.w), CentralState(m, nu)))
    times = every * np.arange(1 + steps // every) * float(method.dt)
    diverged = diverged_at(times, points.loss) if stable else None
    _judge(flow, times, points, len(times) if diverged is None else int(np.searchsorted(times, diverged)))
    observed = {
        "sharpness": points.values,
        "residual": points.residual,
        "X": points.X,
        "mean_loss": points.loss + 0.5 * own.bound * np.trace(points.X, axis1=1, axis2=2),
        "bound": np.full(len(times), own.bound),
    }
    return Path(times, rebuilt, state, points.loss, diverged, observed=observed)


class CentralState(NamedTuple):
    """Moments along a central flow, leading axis = time; None where the method has none."""

    m: Params  # of the gradient, like params
    nu: Params  # of its square, like params; (n,) where the method has one for all


class _Memory(NamedTuple):
    """How the first moment forgets."""

    rate: float  # r
    start: float  # m(0) / g(theta_0)
    corrected: bool  # whether it is divided by what a constant gradient of 1 would give


class _Flow(NamedTuple):
    """What does not change along a flow."""

    method: Any
    loss: Any
    k: int
    stable: bool

    @property
    def rule(self) -> Rule:
        return rule(self.method)

    @property
    def memory(self) -> _Memory | None:
        form = linear_form(self.method)
        if form is None or not form.beta:
            return None
        b = form.beta
        lost = (1 if form.kind == "explicit" else b) / (1 - b)  # updates
        corrected = form.second_moment is not None and form.second_moment.corrected
        return _Memory(-float(np.log(b)), 1 + float(np.log(b)) * lost, corrected)


class _Point(NamedTuple):
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


def _losses(flow: _Flow, theta: Params) -> Any:
    _, rebuild = ravel_pytree(theta)
    return lambda w: flow.loss(rebuild(w))


def _averaged(own: Rule, squares: jax.Array) -> jax.Array:
    """Return what nu is a mean of: the squares (n,), their sum (1,), or nothing (0,)."""
    if own.decay is None:
        return squares[:0]
    return jnp.sum(squares, keepdims=True) if own.whole else squares


def _rate(own: Rule) -> float:
    """Return (1-b2)/b2."""
    return 0.0 if own.decay is None else (1 - own.decay) / own.decay


def _scale(own: Rule, nu: jax.Array, time: Any, size: int) -> jax.Array:
    """Return P (n,) at nu and time; an update scales by what holds in its middle."""
    return jnp.broadcast_to(own.scale(nu if own.decay is not None else None, time + 0.5), (size,))


def _direction(flow: _Flow, m: jax.Array, g: jax.Array, time: Any, length: Any) -> tuple[jax.Array, jax.Array]:
    """Return m after `length`, and what the stable flow moves along."""
    memory = flow.memory
    if memory is None:
        return m, g
    fading = jnp.exp(-memory.rate * length)
    m = fading * m + (1 - fading) * g
    constant = 1 - (1 - memory.start) * jnp.exp(-memory.rate * (time + length))
    return m, m / constant if memory.corrected else m


@partial(jax.jit, static_argnums=0)
def _start_of(flow, theta):
    """Return w, m, nu and P^{1/2} at the start."""
    w, _ = ravel_pytree(theta)
    g = jax.grad(_losses(flow, theta))(w)
    nu = g[:0]
    if flow.rule.decay is not None:  # half of the first update's way
        before = flow.method.init(theta)
        after = flow.method.update(ravel_pytree(theta)[1](g), before, theta)[1]
        before, after = (jnp.atleast_1d(ravel_pytree(state.nu)[0]) for state in (before, after))
        nu = before + (after - before) / (1 + jnp.sqrt(flow.rule.decay))
    m = g[:0] if flow.memory is None else flow.memory.start * g
    return w, m, nu, jnp.sqrt(_scale(flow.rule, nu, 0, w.size))


def _begin(flow: _Flow, theta: Params) -> _Point:
    w, m, nu, root = _start_of(flow, theta)
    dense = root.size < FOLLOWED * flow.k
    rows = jnp.zeros((flow.k, 0)) if dense else _start(flow.loss, theta, root, flow.k)
    return _arrive(flow, theta, w, m, nu, jnp.zeros(()), rows, jnp.zeros((flow.k, flow.k)), jnp.zeros(()))


@partial(jax.jit, static_argnums=0)
def _arrive(flow, theta, w, m, nu, time, rows, X, error):
    """Look around at a new point: loss, gradient, leading eigenpairs."""
    f = _losses(flow, theta)
    root = jnp.sqrt(_scale(flow.rule, nu, time, w.size))
    if rows.shape[1] == 0:
        value, grad = jax.value_and_grad(f)(w)
        values, columns, _ = _dense(f, w, root, flow.k)
        return _Point(w, m, nu, time, value, grad, values, columns.T[:, :0], 0 * values, X, error)
    (value, grad), linear = jax.linearize(jax.value_and_grad(f), w)
    product = jax.vmap(lambda row: linear(row / root)[1] / root)
    values, rows, residual, _ = follow(product, rows, _TOL, _ITERATIONS, partial(_needed, flow.rule.bound))
    return _Point(w, m, nu, time, value, grad, values, rows, residual, X, error)


def _needed(bound, values):
    """Return which eigenvectors must be known well: those that may soon be critical, and the first."""
    return (values > _FAR * bound) | (jnp.arange(len(values)) == 0)


def _ride(flow, theta, length, here):
    """Make one substep with the oscillation."""
    own, c = flow.rule, flow.rule.bound
    f = _losses(flow, theta)
    size, k = here.w.size, flow.k
    scale = _scale(own, here.nu, here.time, size)
    rows = here.rows if here.rows.shape[1] else _dense(f, here.w, jnp.sqrt(scale), k)[1].T
    U = rows / jnp.sqrt(scale)
    i, j, weight = triangle(k)

    # The stable part, and how it moves P.
    m, along = _direction(flow, here.m, here.grad, here.time, length)
    w_stable = -along / scale
    nu_stable = _rate(own) * (_averaged(own, here.grad**2) - here.nu)
    _, scale_stable = jax.jvp(
        lambda nu, t: _scale(own, nu, t, size), (here.nu, here.time), (nu_stable, jnp.ones_like(here.time))
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
    nu_of = _rate(own) * c**2 * jax.vmap(partial(_averaged, own))(products * scale**2)
    scale_of = jax.vmap(lambda v: jax.jvp(lambda nu: _scale(own, nu, here.time, size), (here.nu,), (v,))[1])(nu_of)
    slack = pack(jnp.diag(c - here.values)) + length * (c * products @ scale_stable - turns @ w_stable)
    effect = length * (c * products @ scale_of.T - turns @ w_of.T)
    X, error = _balanced(count, slack, (effect + effect.T) / 2)
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


def _balanced(count, slack, effect):
    """Solve for X; only where something is critical, and in closed form where one direction is."""
    k = unpack(slack).shape[0]
    none = jnp.zeros((k, k))

    def one():
        one = complementarity(slack[:1, None], effect[:1, :1])
        return none.at[0, 0].set(one.X[0, 0]), one.error

    branches = [lambda: (none, jnp.zeros(())), one, lambda: tuple(complementarity(unpack(slack), effect))]
    return jax.lax.switch(jnp.minimum(count, 2), branches[: k + 1])


def _coast(flow, theta, length, here):
    """Make one substep without oscillation."""
    own = flow.rule
    scale = _scale(own, here.nu, here.time, here.w.size)
    grad = jax.grad(_losses(flow, theta))(here.w)
    nu = here.nu + length * _rate(own) * (_averaged(own, grad**2) - here.nu)
    m, along = _direction(flow, here.m, grad, here.time, length)
    return here._replace(w=here.w - length * along / scale, m=m, nu=nu, time=here.time + length)


def _update(flow, theta, substeps, here):
    """Advance by one update; X becomes its mean on the way and error the largest."""
    largest = here.values[0] / flow.rule.bound
    # Far below the bound no eigenvectors are needed on the way; far above, the stable flow is stiff.
    coasts = jnp.asarray(True) if flow.stable else largest < _FAR
    stiff = jnp.ceil(2 * jnp.clip(jnp.nan_to_num(largest), 0, STIFF) / _REACH).astype(int)
    short = jnp.maximum(substeps, stiff)

    def coast(here):
        there = jax.lax.fori_loop(0, short, lambda _, point: _coast(flow, theta, 1 / short, point), here)
        return there.w, there.m, there.nu, there.time, here.rows, 0 * here.X, 0 * here.error

    def substep(_, carry):
        here, X, error = carry
        moved = (
            coast(here) if flow.stable else jax.lax.cond(coasts, coast, partial(_ride, flow, theta, 1 / substeps), here)
        )
        there = _arrive(flow, theta, *moved)
        return there, X + there.X / substeps, jnp.maximum(error, there.error)

    begun = (here, jnp.zeros_like(here.X), jnp.zeros_like(here.error))
    there, X, error = jax.lax.fori_loop(0, jnp.where(coasts, 1, substeps), substep, begun)
    if flow.stable:  # given up
        lost = jnp.where(largest > STIFF, jnp.nan, 0.0)
        there = there._replace(w=there.w + lost, loss=there.loss + lost, values=there.values + lost)
    return there._replace(X=X, error=error)


@partial(jax.jit, static_argnums=(0, 3))
def _run(flow, theta, here, points, every, substeps):
    def point(here, n):
        def update(i, carry):
            there, X, error = carry
            there = _update(flow, theta, substeps, there)
            return there, jnp.where(i == 0, there.X, X), jnp.where(i == 0, there.error, jnp.maximum(error, there.error))

        # The last point is only left for its X.
        updates = jnp.where(n == points, 1, every)
        there, X, error = jax.lax.fori_loop(0, updates, update, (here, here.X, here.error))
        return there, here._replace(X=X, error=error, rows=here.rows[:0], grad=here.grad[:0])

    return jax.lax.scan(point, here, jnp.arange(points + 1))[1]


def _judge(flow: _Flow, times: np.ndarray, points: _Point, until: int) -> None:
    """Raise where the flow was lost before point `until`; warn where k is too small."""
    points = jax.tree.map(lambda leaf: leaf[:until], points)
    sound = np.isfinite(points.loss) & np.isfinite(points.values).all(axis=1)
    lost = (~(points.residual <= _TOL) & np.asarray(jax.vmap(partial(_needed, flow.rule.bound))(points.values))).any(
        axis=1
    )
    unsolved = ~(points.error <= 1e-6)
    for bad, why in (
        (~sound, "the loss or its curvature is not finite: take a smaller learning rate, or start elsewhere"),
        (lost, "the eigenvectors were lost: take a larger k, or more substeps"),
        (unsolved, "no oscillation holds the curvature at its bound: take more substeps, or a smaller learning rate"),
    ):
        if bad.any():
            n = int(np.argmax(bad))
            found = Spectrum(points.values[n], None, points.residual[n], _ITERATIONS)
            raise CurvatureError(f"the central flow ended at time {times[n]:g}: {why}.", found)
    full = points.values[:, -1] > CRITICAL * flow.rule.bound
    if full.any() and points.w.shape[1] > flow.k and not flow.stable:
        warnings.warn(
            f"all {flow.k} eigenvalues that are followed are critical at time {times[np.argmax(full)]:g}: take a "
            "larger k.",
            check.InerciaWarning,
            stacklevel=3,
        )


def _warn_of_bends(loss: Any, theta: Params) -> None:
    found = nonsmooth_in_loss(loss, theta)
    if found:
        warnings.warn(
            f"the loss is not smooth ({', '.join(found)}): its third derivatives, by which the central flow turns, "
            "vanish almost everywhere; take a smooth activation, as swish or tanh.",
            check.InerciaWarning,
            stacklevel=3,
        )

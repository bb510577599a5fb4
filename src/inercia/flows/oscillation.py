"""Flows of iterates that oscillate with period two: the rod flow and the edge flow of any smooth update.

Write an update as z+ = z + G(z), z = params and moments, and z+- = c +- d, G+- = G(z+-).

    rod    c_k = (z_{k+1} + z_k)/2,  d_k = (z_{k+1} - z_k)/2;   exactly
           c_{k+1} - c_k = (G+ + G-)/2,   S_{k+1} - S_k = A = (G+ G+^T + G- G-^T)/4 - 2 S,   S = d d^T
           flow   c' = (G+ + G-)/2 - (DG+ + DG-)(G+ + G-)/8,   e' = A e/|e|^2 - (e.A e) e/(2 |e|^4)   (S = e e^T)
    edge   z_k = c_k + (-1)^k e_k;   exactly   c+ = c + (G+ + G-)/2,   e+ = -e - (G+ - G-)/2
           flow   c' as in the rod,   e' = -2 e - (G+ - G-)/2

Where G depends on the number of the update, by a schedule or a correction of averages, it is that of update t - 1/2, in
whose middle the flow stands at t, the first where that is negative.

The rod contains the drift, so that below the edge of stability e turns into the half-step and stays there: it may miss
the edge. The edge flow leaves the drift out. It needs no eigenvectors and no third derivatives; its e = r u is
integrated as u' = -(Q - k u), (ln r)' = -2 - k, Q = (G+ - G-)/(2 r), k = u.Q, and r does not fall below a floor, which
stands for the rounding that wakes real iterates and decides how far they overshoot the edge. A rod of rank 2 and more
meets singular equations, and is not offered. c' is of second order in z+ - z: a memory of few updates costs accuracy.
Pairs that turn, as those of the lecture's order do, are no oscillation of period two, and refused; `central` has them.

Sources: arXiv 2602.01480, 2605.06821 (rod); Marion, arXiv 2606.18080 (edge); equations derived here anew.
"""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from inercia.core import check, tree
from inercia.core.linear_form import linear_form
from inercia.core.method import Params, State
from inercia.core.path import Path
from inercia.core.precision import in_float64
from inercia.flows.increment_map import Increment, positive_moments
from inercia.flows.integration import integrate
from inercia.flows.smoothness import jumps

#: Amplitude over the size of z, below which the difference quotient Q is its limit, a derivative.
_SMALL = 1e-5


class OscillationState(NamedTuple):
    """State of `rod` and `edge_flow`."""

    count: Any  # the time
    inner: State  # the method's state at the centre; counters hold the time
    half: Any  # (like params, list of moments): the half-step d of the rod, the oscillation e of the edge flow
    log_size: Any  # while it is integrated: log of |e| in the edge flow; None in the rod


class Pair(NamedTuple):
    """The flow of c and e, as `integrate` takes it."""

    increment: Increment
    floor: float | None  # of |e| in the edge flow; None: the rod

    def __call__(self, grads: Params, state: OscillationState, params: Params) -> tuple[Params, OscillationState]:
        """Return d params/dt and d state/dt."""
        G, dt = self.increment, getattr(self.increment.method, "dt", 1.0)
        z, rebuild = tree.ravel_real((params, G.split(state.inner)))
        e, _ = tree.ravel_real(state.half)
        at = partial(G, params, state.inner, count=jnp.maximum(state.count / dt - 0.5, 0.0))
        e_dot, size_dot, d = self._along(at, z, e, state.log_size)
        both = at(z + d) + at(z - d)
        bent = sum(jax.jvp(at, (z + s * d,), (both,))[1] for s in (1, -1))
        theta_dot, moments_dot = rebuild((both / 2 - bent / 8) / dt)
        one = jnp.ones_like(state.count)
        size_dot = None if size_dot is None else size_dot / dt
        return theta_dot, OscillationState(one, G.joined(state.inner, moments_dot, one), rebuild(e_dot / dt), size_dot)

    def _along(self, at: Any, z: jax.Array, e: jax.Array, log_size: Any) -> tuple:
        """Return e', (ln r)' and the half-distance d of the pair, per update."""
        if self.floor is None:
            plus, minus = at(z + e), at(z - e)
            n = e @ e + 1e-300
            Ae = ((plus @ e) * plus + (minus @ e) * minus) / 4 / n - 2 * e  # A e / |e|^2
            return Ae - (Ae @ e) * e / (2 * n), None, e
        u = e / jnp.linalg.norm(e)
        r = jnp.maximum(jnp.exp(log_size), self.floor)  # a long step may fall below, and is called back
        Q = (at(z + r * u) - at(z - r * u)) / (2 * r)
        Q = jnp.where(r < _SMALL * (1 + jnp.linalg.norm(z)), jax.jvp(at, (z,), (u,))[1], Q)
        k = u @ Q
        below = jnp.log(self.floor) - log_size
        return -(Q - k * u), jnp.where(below >= 0, jnp.maximum(-2 - k, 0) + below, -2 - k), r * u


def rod(
    method: optax.GradientTransformation,
    loss: Any,
    params: Params,
    steps: int,
    *,
    every: int = 1,
    rtol: float = 1e-6,
    atol: float = 1e-9,
    progress: bool = False,
) -> Path:
    """Solve the rod flow: the mean of two successive iterates, and half their difference.

        c' = (G+ + G-)/2 - (DG+ + DG-)(G+ + G-)/8,   e' = A e/|e|^2 - (e.A e) e/(2 |e|^4)
        A = (G+ G+^T + G- G-^T)/4 - 2 e e^T

    Args:
        method: a method or any optax transformation whose update is smooth and not random.
        loss: params -> scalar.
        params: where the iterates start.
        steps: number of updates that are stood for.
        every: updates between recorded points; must divide steps.
        rtol: relative tolerance of the solver, DOP853.
        atol: absolute tolerance.
        progress: whether to show a bar.

    Returns:
        Path: on the axis of `iterate`: c_k, mean of iterates k and k+1, stands at (k + 1/2) dt, so that the flow starts
        half an update late, and the first point is the start of the iterates. `state.half` is e; `observed` has
        "amplitude", its length in the params, and "mean_loss", of both ends.

    Raises:
        ValueError: an update that jumps, the explicit scheme, counters that do not count every update.
        TypeError: an update that draws random numbers; integer params.
        IntegrationError: the solver gave up; its path is of the flow alone, from dt / 2 on.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> path = inercia.rod(inercia.sgd(0.5), lambda x: (x**2).sum() / 2, jnp.array([1.0]), 4)
        >>> path.params[:, 0].round(2).tolist()
        [1.0, 0.55, 0.29, 0.16, 0.08]
    """
    start = _start(method, loss, params, check.recorded(steps, every))
    with jax.enable_x64(True):
        first = start.z + _increment(start.increment, start.params, start.state, start.z, 0.0)
        centre, half = (start.rebuild(v) for v in ((first + start.z) / 2, (first - start.z) / 2))
    times = np.concatenate([[start.dt / 2], start.times[1:]])
    return _solved(start, None, centre, half, None, times, {"rtol": rtol, "atol": atol, "progress": progress})


def edge_flow(
    method: optax.GradientTransformation,
    loss: Any,
    params: Params,
    steps: int,
    *,
    every: int = 1,
    floor: float | None = None,
    seed: int = 0,
    rtol: float = 1e-6,
    atol: float = 1e-9,
    progress: bool = False,
) -> Path:
    """Solve the edge flow: the average of iterates that oscillate, z_k = c + (-1)^k e, and their oscillation.

        c' = (G+ + G-)/2 - (DG+ + DG-)(G+ + G-)/8,   e' = -2 e - (G+ - G-)/2

    Args:
        method: a method or any optax transformation whose update is smooth and not random.
        loss: params -> scalar.
        params: where the iterates start.
        steps: number of updates that are stood for.
        every: updates between recorded points; must divide steps.
        floor: length below which the oscillation does not fall, and at which it starts; by default the rounding of the
            params, machine epsilon times their norm, which imitates real iterates.
        seed: of the direction in which it starts, at least 0.
        rtol: relative tolerance of the solver, DOP853.
        atol: absolute tolerance.
        progress: whether to show a bar.

    Returns:
        Path: c on the axis of `iterate`. `state.half` is e; `observed` has "amplitude", its length in the params, and
        "mean_loss", of both ends.

    Raises:
        ValueError: a floor that is not positive; and as `rod`, like TypeError and IntegrationError.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> path = inercia.edge_flow(inercia.sgd(0.5), lambda x: (x**2).sum() / 2, jnp.array([1.0]), 4)
        >>> bool(abs(path.params[-1, 0] - 0.5**4) < 0.02)
        True
    """
    start = _start(method, loss, params, check.recorded(steps, every))
    seed = check.integer("seed", seed, 0)
    floor = _rounding(np.asarray(start.z)) if floor is None else floor
    check.positive("floor", floor)
    with jax.enable_x64(True):
        u = jnp.asarray(np.random.default_rng(seed).normal(size=start.z.shape))
        half, log_size = start.rebuild(u / jnp.linalg.norm(u)), jnp.log(jnp.asarray(float(floor)))
    tight = {"rtol": rtol, "atol": atol, "progress": progress}
    return _solved(start, float(floor), start.rebuild(start.z), half, log_size, start.times, tight)


def _rounding(z: np.ndarray) -> float:
    """Return machine epsilon times the length of params and moments, or of 1 where they are 0."""
    check.finite("params", z)
    largest = float(np.abs(z).max(initial=0.0)) or 1.0
    return np.finfo(float).eps * largest * (float(np.linalg.norm(z / largest)) or 1.0)


class _Start(NamedTuple):
    increment: Increment
    params: Params
    state: State
    z: jax.Array
    rebuild: Any
    times: np.ndarray
    dt: float


_increment = partial(jax.jit, static_argnums=0)(lambda G, params, state, z, count: G(params, state, z, count))


def _start(method: Any, loss: Any, params: Params, length: tuple[int, int]) -> _Start:
    check.optimizer(method)
    if not check.is_concrete(params):
        raise TypeError("rod and edge_flow cannot be traced by jit, vmap or grad: call them with numbers.")
    check.differentiable("params", params)
    dt, (steps, every) = float(getattr(method, "dt", 1.0)), length
    with jax.enable_x64(True):
        theta = tree.float64(params)
        loss = in_float64(loss, theta)
        check.loss_of(loss, theta)
        state = method.init(theta)
        dtypes = [jnp.asarray(s).dtype for s in jax.tree.leaves(state)]
        if any(jnp.issubdtype(d, jax.dtypes.prng_key) for d in dtypes):
            raise TypeError("rod and edge flow are of one map, but this update draws random numbers: see `diffuse`.")
        if getattr(linear_form(method), "kind", None) == "explicit":
            raise ValueError("rod and edge flow have period two, but pairs of the explicit scheme turn: use central.")
        if rough := jumps(method, theta):
            raise ValueError(f"rod and edge flow need a smooth update, but this one jumps ({', '.join(rough)}).")
        counters = tuple(bool(jnp.issubdtype(d, jnp.integer)) for d in dtypes)
        increment = Increment(method, loss, counters, positive_moments(method, loss, theta, state, counters))
        state = tree.float64(jax.tree.map(lambda s: jnp.asarray(s, float), state))
        z, rebuild = tree.ravel_real((theta, increment.split(state)))
    return _Start(increment, theta, state, z, rebuild, dt * every * np.arange(1 + steps // every), dt)


def _solved(
    start: _Start, floor: float | None, centre: Any, half: Any, size: Any, times: np.ndarray, options: dict
) -> Path:
    G, (params, moments) = start.increment, centre
    with jax.enable_x64(True):
        time = jnp.asarray(times[0])
        begin = OscillationState(time, G.joined(start.state, moments, time), half, size)
    path = integrate(Pair(G, floor), G.loss, params, times, state=begin, **options)
    half = path.state.half
    if size is not None:
        factor = np.exp(path.state.log_size) / tree.distance(half, jax.tree.map(np.zeros_like, half))
        half = jax.tree.map(lambda h: h * factor.reshape(-1, *[1] * (h.ndim - 1)), half)
    amplitude = tree.distance(half[0], jax.tree.map(np.zeros_like, half[0]))
    with jax.enable_x64(True):
        mean = np.asarray(_mean_loss(G.loss, path.params, half[0]))
    state = path.state._replace(half=half, log_size=None)
    path = replace(path, state=state, observed={"amplitude": amplitude, "mean_loss": mean})
    if floor is not None:
        return path
    first = jax.tree.map(lambda rows, z0: np.concatenate([np.asarray(z0)[None], rows[1:]]), path.params, start.params)
    with jax.enable_x64(True):
        loss = np.concatenate([[float(G.loss(start.params))], path.loss[1:]])
    return replace(path, times=start.times, params=first, loss=loss)


@partial(jax.jit, static_argnums=0)
def _mean_loss(loss, params, half):
    plus, minus = (jax.tree.map(lambda p, h, s=s: p + s * h, params, half) for s in (1, -1))
    return (jax.lax.map(loss, plus) + jax.lax.map(loss, minus)) / 2

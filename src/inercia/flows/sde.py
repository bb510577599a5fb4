"""The noise of batches in continuous time: the stochastic differential equation of a method.

The data are cut into N_b fixed batches and each update draws one at random (the `partition` sampler). With g_j the
gradient of batch j, g their mean and Sigma = mean_j (g_j - g)(g_j - g)^T, in iterations' time, s = a dt:

    SGD        d theta = -a g dt' + a sqrt(dt) Sigma^{1/2} dW                                        weak order 1
               d theta = -a grad(f + (s/4) |g|^2) dt' + a sqrt(dt) Sigma^{1/2} dW                    weak order 2
    momentum   d m = (1-b)(g - m) dt' + (1-b) sqrt(dt) Sigma^{1/2} dW,   d theta = -a m dt'          weak order 1
    RMSProp    d theta = -a (g dt' + sqrt(dt) Sigma^{1/2} dW) / (sqrt v + eps)                       weak order 1
               d v = (1-b)(g^2 + diag Sigma - v) dt'
    Adam       m as momentum's, v as RMSProp's, each with its b,   d theta = -a mh / (sqrt vh + eps) dt'
    sign       d theta = -a mean_j S(g_j) dt' + a sqrt(dt) Cov_j(S(g_j))^{1/2} dW,   S(z) = z / sqrt(z^2 + c^2)

All are one equation: the mean over the batches of the method's flow, and its covariance (`stochastic_flow`). The g^2 in
v, which Malladi et al. leave out, is no part of the limit of large noise, but of one update in the mean.

Sources: Li, Tai & E 2019 (stochastic modified equations); Malladi, Lyu, Panigrahi & Arora 2022 (RMSProp, Adam);
Compagnoni et al. 2024 (sign descent).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from inercia.core import check, tree
from inercia.core.linear_form import linear_form
from inercia.core.method import Method, NoFlow, Params, State
from inercia.core.optimizer_state import start_state
from inercia.flows.iteration import diverged_at
from inercia.flows.stochastic_flow import StochasticFlow, count_of_batches, stochastic_flow
from inercia.flows.vector_field import clocks, with_clock


class Diffusion(NamedTuple):
    """Sample paths of a stochastic differential equation; NumPy float64."""

    times: np.ndarray  # (n,), in iterations
    params: Params  # tree of (paths, n, ...)
    state: State  # likewise; counters show the time
    diverged: float | None  # first of the times at which a path was not finite; None when there is none


def diffuse(
    method: optax.GradientTransformation,
    loss: Callable,
    params: Params,
    batches: Any,
    times: Any,
    key: Any,
    paths: int = 1,
    *,
    order: int = 1,
    substeps: int = 16,
    noise: float = 1.0,
    state: State | None = None,
) -> Diffusion:
    """Sample the stochastic differential equation of a method on randomly drawn fixed batches.

    Args:
        method: a method with a flow, as `sgd`, `momentum`, `rmsprop`, `adam`, `adamw`, `sign_sgd(smooth=)`, chains.
        loss: (params, batch) -> scalar.
        params: common start, float64 inside.
        batches: tree of arrays whose leading axis is that of the N_b batches.
        times: increasing, in iterations, from where the state's clock stands (0 when fresh), by multiples of
            dt / substeps.
        key: `jax.random.key`, or a seed.
        paths: number of independent sample paths.
        order: weak order, 1 or 2 (2 for sgd).
        substeps: Euler-Maruyama steps per update; their own weak error is 1/substeps of the first order's.
        noise: factor of the gradients' covariance: 1/kappa for batches kappa times as large, l with `svag`.
        state: common start of the state; by default `method.init(params)`.

    Returns:
        Diffusion: leaves (paths, len(times), ...).

    Raises:
        ImportError: diffrax is missing (the extra `diffrax`).
        ValueError: a method whose equation does not exist from this start, another order, times off the grid, batches
            of unequal number, noise other than 1 for an update that is not linear in the gradient.
        TypeError: a method without a flow.

    Adaptive methods hold the gradients of all batches at once, `paths` times N_b times the params. From a cold start
    Adam's first 1/(1-b1) updates scatter more than the iterates, whose first averages are of few gradients; the
    error is of first order too, and a warm `state` avoids it.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> loss = lambda x, c: (x - c) ** 2 / 2
        >>> sample = inercia.diffuse(inercia.sgd(0.1), loss, 1.0, jnp.array([-1.0, 1.0]), [0.0, 10.0], 0, paths=5)
        >>> sample.params.shape
        (5, 2)
    """
    diffrax, lineax = _diffrax()
    method = _checked_method(method, order)
    paths, substeps = check.integer("paths", paths), check.integer("substeps", substeps)
    check.nonnegative("noise", noise)
    h = method.dt / substeps
    times, n_batches = _checked(times, h, batches)
    if (key := check.key(key)) is None:
        raise TypeError("diffuse needs a key, for example key=0: it fixes the noise.")
    check.some_params(params)
    with jax.enable_x64(True):
        theta = tree.float64(params)
        batches = tree.float64(batches)
        check.loss_of(loss, theta, tree.row(batches, 0))
        start = _start(method, theta, state, times[0])
        equation = stochastic_flow(method, loss, theta, start, batches)._replace(noise=float(noise), order=order)
        _check_start(equation, start)

        def diffusion(t, z, _):
            operator = partial(equation.scattered, z)
            return lineax.FunctionLinearOperator(operator, jax.ShapeDtypeStruct((n_batches,), jnp.float64))

        def sample(key):
            path = diffrax.UnsafeBrownianPath((n_batches,), key)
            drift = diffrax.ODETerm(lambda t, z, _: equation.drift(z))
            passed = times - times[0]
            solution = diffrax.diffeqsolve(
                diffrax.MultiTerm(drift, diffrax.ControlTerm(diffusion, path)), diffrax.Euler(), 0.0, passed[-1], h,
                tree.ravel_real((theta, start))[0], saveat=diffrax.SaveAt(ts=passed), adjoint=diffrax.ForwardMode(),
                max_steps=None, throw=False,
            )  # fmt: skip
            return jax.vmap(equation.rebuild)(solution.ys)

        sampled = tree.to_numpy(jax.jit(jax.vmap(sample))(jax.random.split(key, paths)))
    moved, states = jax.tree.map(lambda leaf: np.moveaxis(leaf, 1, 0), sampled)
    return Diffusion(times, sampled[0], sampled[1], diverged_at(times, moved, states, np.zeros(len(times))))


def _start(method: Method, theta: Params, state: State | None, time: float) -> State:
    """Return the state in float64, its counters turned into the clock, which must show `time`."""
    begin = start_state(method, theta, state)
    counters = clocks(method, theta, begin)
    shown = [float(n) * float(method.dt) for n, c in zip(jax.tree.leaves(begin), counters, strict=True) if c]
    for clock in shown or [0.0]:
        if abs(clock - time) > 1e-9 * max(1.0, abs(time)):
            raise ValueError(f"times must start where the state's clock stands, at {clock:g}, but it is {time:g}.")
    floats = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf, jnp.float64)), begin)
    return tree.float64(with_clock(floats, counters, lambda n: n * float(method.dt)))


def _checked_method(method: Any, order: int) -> Method:
    """Return the method, or raise unless it has a flow whose Euler steps its updates are, and the order."""
    check.optimizer(method)
    name = getattr(method, "name", "") or type(method).__name__
    if not isinstance(method, Method):
        raise TypeError(
            f"diffuse takes the mean and the covariance of a method's flow over the batches, but {name} is a "
            "transformation without one: take a method of inercia, or a chain of its parts."
        )
    if isinstance(method.flow, NoFlow):
        raise TypeError(f"diffuse needs a flow, but {method.flow.reason} Take smooth > 0.")
    if hasattr(method.flow, "project"):
        raise ValueError(
            f"diffuse takes updates for steps of a flow, but the state of {name} jumps, as a maximum does."
        )
    form = linear_form(method)
    if order == 2 and form is not None and not form.constant:
        raise ValueError("diffuse of order 2 needs constant hyperparameters, but one is a schedule.")
    plain = form is not None and form.kind == "GD" and form.second_moment is None
    if order != 1 and not (order == 2 and plain):
        raise ValueError(f"order must be 1, or 2 for sgd without momentum, but it is {order} for {name}.")
    if form is not None and form.second_moment is not None and form.second_moment.centered:
        raise ValueError(
            "diffuse assumes a second moment that stays above 0, but centered takes |m|^2 from it, and m has noise: "
            "use centered=False."
        )
    return method


def _check_start(equation: StochasticFlow, start: State) -> None:
    """Raise where the equation has no solution from the start, or is not given by the covariance alone."""
    method = equation.method
    form = linear_form(method)
    second = None if form is None else form.second_moment
    averages = jax.tree.leaves(getattr(start, "nu", None))
    if second is not None and not second.corrected and any(float(jnp.min(leaf)) <= 0 for leaf in averages):
        raise ValueError(
            f"diffuse needs a second moment above 0, but that of {method.name} starts at 0, where dW / sqrt(t) has "
            "infinite variance: use bias_correction=True, a positive initial scale, or state=..."
        )
    if equation.noise != 1 and not equation.linear[: equation.size].all():
        raise ValueError(
            f"noise scales the covariance, but the step of {method.name} is not linear in the gradient and sees its "
            "whole distribution: give the batches themselves, and noise=1."
        )


def _checked(times: Any, h: float, batches: Any) -> tuple[np.ndarray, int]:
    """Return the times, h times integers apart, and the number of batches."""
    times = check.increasing("times", times)
    steps = (times - times[0]) / h
    if np.abs(steps - np.round(steps)).max() > 1e-6:
        raise ValueError(f"times must lie multiples of dt / substeps = {h:g} apart, but they are {times}.")
    if () in map(np.shape, jax.tree.leaves(batches)):
        raise TypeError("batches must be a tree of arrays (N_b, rows, ...), but one of them has no axes.")
    for leaf in jax.tree.leaves(batches):
        check.finite("batches", leaf)
    return times, count_of_batches(batches)


def _diffrax() -> tuple[Any, Any]:
    try:
        import diffrax  # noqa: PLC0415  an extra
        import lineax  # noqa: PLC0415
    except ImportError:
        raise ImportError("diffuse needs diffrax: install it with pip install 'inercia[diffrax]'.") from None
    return diffrax, lineax

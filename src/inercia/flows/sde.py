"""The noise of batches in continuous time: the stochastic differential equations of SGD and momentum.

The data are cut into N_b fixed batches and each update draws one at random (the `partition` sampler). With g_j the
gradient of batch j, g their mean and Sigma = mean_j (g_j - g)(g_j - g)^T, in iterations' time, s = a dt:

    SGD        d theta = -a g dt' + a sqrt(dt) Sigma^{1/2} dW                                        weak order 1
               d theta = -a grad(f + (s/4) |g|^2) dt' + a sqrt(dt) Sigma^{1/2} dW                    weak order 2
    momentum   d m = (1-b)(g - m) dt' + (1-b) sqrt(dt) Sigma^{1/2} dW,   d theta = -a m dt'          weak order 1

The exact square root needs no matrix: Sigma^{1/2} dW = (1/sqrt N_b) sum_j (g_j - g) dB_j with N_b independent Brownian
motions, which is the gradient of the batch losses weighted by dB_j - mean dB: one reverse pass.

Source: Li, Tai & E 2019 (stochastic modified equations).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inercia.core import check, tree
from inercia.core.linear_form import linear_form
from inercia.core.method import Method, Params


class Diffusion(NamedTuple):
    """Sample paths of a stochastic differential equation; NumPy float64."""

    times: np.ndarray  # (n,), in iterations
    params: Params  # tree of (paths, n, ...)


def diffuse(
    method: Method,
    loss: Callable,
    params: Params,
    batches: Any,
    times: Any,
    key: Any,
    paths: int = 1,
    *,
    order: int = 1,
    substeps: int = 16,
) -> Diffusion:
    """Sample the stochastic differential equation of a method on randomly drawn fixed batches.

    Args:
        method: `sgd` without momentum, or `momentum`; constant hyperparameters.
        loss: (params, batch) -> scalar.
        params: common start, float64 inside.
        batches: tree of arrays whose leading axis is that of the N_b batches.
        times: increasing, in iterations, from 0; multiples of dt / substeps.
        key: `jax.random.key`, or a seed.
        paths: number of independent sample paths.
        order: weak order, 1 or 2 (2 for sgd).
        substeps: Euler-Maruyama steps per update; their own weak error is 1/substeps of the first order's.

    Returns:
        Diffusion: `params` leaves (paths, len(times), ...).

    Raises:
        ImportError: diffrax is missing (the extra `diffrax`).
        ValueError: another method, schedules, another order, times off the grid, batches of unequal
            number.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> loss = lambda x, c: (x - c) ** 2 / 2
        >>> sample = inercia.diffuse(inercia.sgd(0.1), loss, 1.0, jnp.array([-1.0, 1.0]), [0.0, 10.0], 0, paths=5)
        >>> sample.params.shape
        (5, 2)
    """
    diffrax, lineax = _diffrax()
    a, c, dt = _constants(method, order)
    paths, substeps = check.integer("paths", paths), check.integer("substeps", substeps)
    times, n_batches = _checked(times, dt / substeps, batches)
    if (key := check.key(key)) is None:
        raise TypeError("diffuse needs a key, for example key=0: it fixes the noise.")
    check.some_params(params)
    with jax.enable_x64(True):
        theta = tree.float64(params)
        batches = tree.float64(batches)
        check.loss_of(loss, theta, tree.row(batches, 0))
        flat, rebuild = tree.ravel_real(theta)

        def batch_losses(z):
            return jax.vmap(lambda batch: loss(rebuild(z), batch))(batches)

        equation = _Equation(batch_losses, n_batches, a, c, dt, order)

        def diffusion(t, y, _):
            operator = partial(equation.noise, *y)
            return lineax.FunctionLinearOperator(operator, jax.ShapeDtypeStruct((n_batches,), jnp.float64))

        def sample(key):
            path = diffrax.UnsafeBrownianPath((n_batches,), key)
            drift = diffrax.ODETerm(lambda t, y, _: equation.drift(*y))
            start = (flat, jnp.zeros_like(flat) if c is not None else jnp.zeros(0))
            solution = diffrax.diffeqsolve(
                diffrax.MultiTerm(drift, diffrax.ControlTerm(diffusion, path)), diffrax.Euler(), 0.0, times[-1],
                dt / substeps, start, saveat=diffrax.SaveAt(ts=times), adjoint=diffrax.ForwardMode(), max_steps=None,
            )  # fmt: skip
            return jax.vmap(rebuild)(solution.ys[0])

        sampled = jax.jit(jax.vmap(sample))(jax.random.split(key, paths))
        return Diffusion(times, tree.to_numpy(sampled))


class _Equation(NamedTuple):
    """Drift and noise on (z, m), z the params as a vector; m is empty without momentum."""

    batch_losses: Callable  # z -> (N_b,)
    n_batches: int
    a: Any
    c: Any  # 1-b; None without momentum
    dt: Any
    order: int

    def gradient(self, z: jax.Array) -> jax.Array:
        return jax.grad(lambda z: self.batch_losses(z).mean())(z)

    def drift(self, z: jax.Array, m: jax.Array) -> tuple[jax.Array, jax.Array]:
        g = self.gradient(z)
        if self.c is not None:
            return -self.a * m, self.c * (g - m)
        if self.order == 2:
            g = g + self.a * self.dt / 2 * jax.jvp(self.gradient, (z,), (g,))[1]
        return -self.a * g, m

    def noise(self, z: jax.Array, m: jax.Array, dB: jax.Array) -> tuple[jax.Array, jax.Array]:
        weights = (dB - dB.mean()) / jnp.sqrt(self.n_batches)
        pushed = jnp.sqrt(self.dt) * jax.grad(lambda z: weights @ self.batch_losses(z))(z)
        return (-self.a * pushed, m) if self.c is None else (0 * z, self.c * pushed)


def _checked(times: Any, h: float, batches: Any) -> tuple[np.ndarray, int]:
    """Return the times, on the grid of h from 0, and the number of batches."""
    times = check.increasing("times", times)
    if times[0] != 0 or np.abs(times / h - np.round(times / h)).max() > 1e-6:
        raise ValueError(f"times must start at 0 and be multiples of dt / substeps = {h:g}, but they are {times}.")
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(batches)]
    if () in shapes:
        raise TypeError("batches must be a tree of arrays (N_b, rows, ...), but one of them has no axes.")
    for leaf in jax.tree.leaves(batches):
        check.finite("batches", leaf)
    counts = {shape[0] for shape in shapes}
    if len(counts) != 1 or counts == {0}:
        raise ValueError(f"batches must share one leading axis of at least 1, but theirs are {sorted(counts)}.")
    return times, counts.pop()


def _constants(method: Method, order: int) -> tuple[float, float | None, float]:
    """Return a, 1-b (None without momentum) and dt."""
    form = linear_form(method)
    name = getattr(method, "name", "") or type(method).__name__
    if form is None or form.second_moment is not None or form.kind not in ("GD", "semi-implicit", "explicit"):
        raise ValueError(f"diffuse takes sgd without momentum, and momentum, but the method is {name}.")
    if not form.constant:
        raise ValueError("diffuse needs constant hyperparameters, but one is a schedule.")
    plain, dt = form.kind == "GD", method.dt
    if order != 1 and not (order == 2 and plain):
        raise ValueError(f"order must be 1, or 2 for sgd, but it is {order} for {name}.")
    a: Any = form.learning_rate
    return a / dt, None if plain else (1 - form.beta) / dt, dt


def _diffrax() -> tuple[Any, Any]:
    try:
        import diffrax  # noqa: PLC0415  an extra
        import lineax  # noqa: PLC0415
    except ImportError:
        raise ImportError("diffuse needs diffrax: install it with pip install 'inercia[diffrax]'.") from None
    return diffrax, lineax

"""Curvature as a training feels it, without eigenvectors: along its own update, and along its own batches' gradients.

**Critical sharpness.** With u the update made at a point and c the largest factor with f(theta + c u) <= f(theta), it
is 2 / c. For gradient descent on a quadratic it is the learning rate times g^T H g / |g|^2, so that a step is too long
where it exceeds 2. It needs forward passes alone.

**Batch sharpness.** E[g_B^T H_B g_B] / E[|g_B|^2] over batches B. Stochastic gradient descent brings it to 2 / a, where
the sharpness of the whole stays below.

Sources: Kalra & Barkeshli 2024, Why warmup the learning rate?; Andreyev & Beneventano 2024, Edge of stochastic
stability.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from inercia.core import check, tree
from inercia.core.method import Params
from inercia.core.optimizer_state import require_own, updated
from inercia.core.precision import in_float64
from inercia.edge_of_stability.eigenpairs import CurvatureError
from inercia.flows.iteration import Observer
from inercia.problems.sampling import sampler

#: The largest factor that is tried, and one over the smallest; the interval that is left, relative to its end.
_FARTHEST, _APART = 2.0**40, 2.0**-25


def critical_sharpness(method: Any, loss: Any) -> Observer:
    """Make an observer of 2 / c, c the largest factor by which the update may be stretched without raising the loss.

    Where the loss rises and falls more than once along the update, c is the factor at which it does near 1. It is as
    exact as the loss tells values apart at the update and its neighbour.

    Args:
        method: the one that is iterated: any optax transformation.
        loss: params -> scalar, the one that is iterated.

    Returns:
        For `iterate(..., observe={"critical": ...})`, where it gives (points,) float64: 0 where no stretch up to 2^40
        raises the loss, inf where the smallest does, or the update goes uphill, as momentum may.

    Example:
        >>> import inercia
        >>> method, loss = inercia.sgd(0.5), inercia.quadratic(np.diag([3.0, 3.0]))
        >>> watch = {"critical": inercia.critical_sharpness(method, loss)}
        >>> path = inercia.iterate(method, loss, jnp.ones(2), 1, observe=watch)
        >>> path.observed["critical"].round(5).tolist()
        [1.5, 1.5]
    """

    check.optimizer(method)

    def init(params, state):
        require_own(method, params, state)
        return ()

    def observe(params, state, memory):
        f = in_float64(loss, params)
        here, grads = jax.value_and_grad(f)(params)
        grads = jax.tree.map(jnp.conj, grads)
        step, _ = updated(method, f, params, state, here, grads)
        slope = sum(jnp.vdot(g, s).real for g, s in zip(*map(jax.tree.leaves, (grads, step)), strict=True))

        # From the update itself outwards: closer to the params, the loss changes by less than its rounding.
        def unfinished(ends):
            low, high = ends
            either = jnp.where(low > 0, low < _FARTHEST, high > 1 / _FARTHEST)
            return jnp.where((low > 0) & (high < jnp.inf), high - low > _APART * high, either)

        def narrowed(ends):
            low, high = ends
            outwards = jnp.where(high < jnp.inf, high / 2, 1.0), 2 * low
            factor = jnp.where(low > 0, jnp.where(high < jnp.inf, (low + high) / 2, outwards[1]), outwards[0])
            there = f(jax.tree.map(lambda p, s: p + factor * s, params, step))
            raised = jnp.logical_not(there <= here)
            return jnp.where(raised, low, factor), jnp.where(raised, factor, high)

        low, high = jax.lax.while_loop(unfinished, narrowed, (jnp.zeros(()), jnp.asarray(jnp.inf)))
        return jnp.where((slope > 0) | (low == 0), jnp.inf, 4 / (low + high)), memory

    return Observer(init, observe, lambda times, seen: seen)


def batch_sharpness(
    loss: Any, params: Params, data: Any, batch_size: int, *, batches: int = 256, seed: int = 0
) -> tuple[float, float]:
    """Estimate E[g_B^T H_B g_B] / E[|g_B|^2] over random batches.

    Args:
        loss: (params, batch) -> scalar, the mean over the rows of the batch.
        params: where; computed in float64.
        data: tree of arrays with one leading axis, the rows.
        batch_size: rows of a batch, drawn without replacement.
        batches: how many are drawn.
        seed: of the draws.

    Returns:
        The estimate, and its standard error, nan of one batch.

    Raises:
        ValueError: no rows, a batch larger than the data, a loss that is no real number, gradients that are all zero.
        TypeError: integer or complex params, data that are no numbers.
        CurvatureError: gradients or Hessians that are not finite.

    Example:
        >>> import inercia
        >>> x = np.array([[0.0], [2.0], [4.0]])
        >>> inercia.batch_sharpness(lambda w, batch: 3 * jnp.mean((w - batch) ** 2), jnp.ones(1), x, 1)[0]
        6.0
    """
    batches, key = check.integer("batches", batches), check.key(check.integer("seed", seed, -(2**63)))
    if not check.is_concrete(params, data):
        raise TypeError("batch_sharpness cannot be traced by jit, vmap or grad: call it with numbers.")
    check.some_params(params)
    check.real("params", params)
    data = jax.tree.map(partial(check.array, "data"), data)
    counts = {np.shape(leaf)[0] if np.ndim(leaf) else 0 for leaf in jax.tree.leaves(data)}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(
            f"data must have as many rows in each array, and at least one, but they have {sorted(counts)}."
        )
    drawn = sampler("shuffle", counts.pop(), batch_size)
    with jax.enable_x64(True):
        theta = tree.float64(params)
        data = jax.tree.map(jnp.asarray, data)
        assert drawn.rows is not None
        picked = drawn.rows(key, 0, batches)
        check.loss_of(loss, theta, jax.tree.map(lambda leaf: leaf[picked[0]], data))
        curved, squares, sizes = (np.asarray(part) for part in _of_batches(loss, theta, data, picked))
    if not all(np.isfinite(part).all() for part in (curved, squares)):
        raise CurvatureError("the gradient or the Hessian of a batch is not finite at these params.")
    if not sizes.any():
        raise ValueError("batch_sharpness needs a gradient, but that of every batch drawn is zero at these params.")
    weights = (sizes / sizes.max()) ** 2
    scale = np.abs(curved).max() or 1.0
    curved, squares = weights * (curved / scale), weights * squares
    ratio = curved.mean() / squares.mean()
    spread = np.std(curved - ratio * squares, ddof=1) if batches > 1 else np.nan
    return float(scale * ratio), float(scale * (spread / squares.mean() / np.sqrt(batches)))


@partial(jax.jit, static_argnums=0)
def _of_batches(loss: Any, params: Params, data: Any, rows: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return u^T H u and |u|^2 of each batch, u = g / s, and s: a power of 2 near g, whose square may be too far."""

    def one(picked):
        batch = jax.tree.map(lambda leaf: leaf[picked], data)
        slope = jax.grad(lambda p: loss(p, batch))
        g = slope(params)
        largest = jnp.max(jnp.abs(ravel_pytree(g)[0]), initial=0.0)
        size = jnp.where(largest == 0, 0.0, jnp.ldexp(1.0, jnp.frexp(largest)[1]))
        u = jax.tree.map(lambda g: g / jnp.where(size == 0, 1.0, size), g)
        hu = jax.jvp(slope, (params,), (u,))[1]
        u, hu = ravel_pytree(u)[0], ravel_pytree(hu)[0]
        return u @ hu, u @ u, size

    return jax.lax.map(one, rows)

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
from inercia.core.optimizer_state import update_of
from inercia.core.precision import in_float64
from inercia.flows.iteration import Observer
from inercia.problems.sampling import sampler

#: Doublings in which the factor is looked for, either way, and halvings of the interval that is found.
_DOUBLINGS, _HALVINGS = 40, 24


def critical_sharpness(method: Any, loss: Any) -> Observer:
    """Make an observer of 2 / c, c the largest factor by which the update may be stretched without raising the loss.

    Args:
        method: the one that is iterated: any optax transformation.
        loss: params -> scalar, the one that is iterated.

    Returns:
        For `iterate(..., observe={"critical": ...})`, where it gives (points,) float64: 0 where no stretch up to 2^40
        raises the loss, inf where the smallest does, as where momentum goes uphill.

    Example:
        >>> import inercia
        >>> method, loss = inercia.sgd(0.5), inercia.quadratic(np.diag([3.0, 3.0]))
        >>> watch = {"critical": inercia.critical_sharpness(method, loss)}
        >>> path = inercia.iterate(method, loss, jnp.ones(2), 1, observe=watch)
        >>> path.observed["critical"].round(5).tolist()
        [1.5, 1.5]
    """

    def observe(params, state, memory):
        f = in_float64(loss, params)
        step, _, here = update_of(method, f, params, state)

        def raises(factor):
            there = f(jax.tree.map(lambda p, s: p + factor * s, params, step))
            return ~(there <= here)

        def doubled(carry):
            n, high = carry
            return n + 1, 2 * high

        least = 2.0**-_DOUBLINGS
        start = (jnp.asarray(0), jnp.asarray(least))
        n, high = jax.lax.while_loop(lambda c: (c[0] < 2 * _DOUBLINGS) & ~raises(c[1]), doubled, start)

        def halved(_, ends):
            low, high = ends
            middle = (low + high) / 2
            return jax.lax.cond(raises(middle), lambda: (low, middle), lambda: (middle, high))

        low, high = jax.lax.fori_loop(0, _HALVINGS, halved, (high / 2, high))
        critical = jnp.where(n == 0, jnp.inf, 4 / (low + high))
        return jnp.where(n == 2 * _DOUBLINGS, 0.0, critical), memory

    return Observer(lambda params, state: (), observe, lambda times, seen: seen)


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
        The estimate, and its standard error.

    Raises:
        ValueError: no rows, a batch larger than the data, a loss that is no real number, gradients that are all zero.

    Example:
        >>> import inercia
        >>> x = np.array([[0.0], [2.0], [4.0]])
        >>> inercia.batch_sharpness(lambda w, batch: 3 * jnp.mean((w - batch) ** 2), jnp.ones(1), x, 1)[0]
        6.0
    """
    batches = check.integer("batches", batches)
    counts = {len(leaf) for leaf in jax.tree.leaves(data)}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(
            f"data must have as many rows in each array, and at least one, but they have {sorted(counts)}."
        )
    drawn = sampler("shuffle", counts.pop(), batch_size)
    with jax.enable_x64(True):
        theta = tree.float64(params)
        data = jax.tree.map(jnp.asarray, data)
        assert drawn.rows is not None
        picked = drawn.rows(jax.random.key(seed), 0, batches)
        check.loss_of(loss, theta, jax.tree.map(lambda leaf: leaf[picked[0]], data))
        curved, squares = (np.asarray(part) for part in _of_batches(loss, theta, data, picked))
    if not squares.any():
        raise ValueError("batch_sharpness needs a gradient, but that of every batch drawn is zero at these params.")
    ratio = curved.mean() / squares.mean()
    spread = np.std(curved - ratio * squares, ddof=1) if batches > 1 else np.nan
    return float(ratio), float(spread / squares.mean() / np.sqrt(batches))


@partial(jax.jit, static_argnums=0)
def _of_batches(loss: Any, params: Params, data: Any, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return g^T H g and |g|^2 of each batch."""

    def one(picked):
        batch = jax.tree.map(lambda leaf: leaf[picked], data)
        slope = jax.grad(lambda p: loss(p, batch))
        g, hg = jax.jvp(slope, (params,), (slope(params),))
        g, hg = ravel_pytree(g)[0], ravel_pytree(hg)[0]
        return g @ hg, g @ g

    return jax.lax.map(one, rows)

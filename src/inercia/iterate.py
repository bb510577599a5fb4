"""The discrete path: a method's iterates on a deterministic loss.

    theta_{k+1}, s_{k+1} = theta_k + update(grad loss(theta_k), s_k, theta_k)

One compiled scan in float64; works for every method and every optax transformation.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from inercia import check, tree
from inercia.method import Params, State
from inercia.path import Path


def iterate(
    method: optax.GradientTransformation,
    loss: Any,
    params: Params,
    steps: int,
    *,
    every: int = 1,
    state: State | None = None,
) -> Path:
    """Iterate a method and record where it went.

    Args:
        method: an inercia method or any optax transformation.
        loss: params -> scalar.
        params: where to start; computed in float64 (complex128) whatever its precision.
        steps: number of updates.
        every: updates between recorded points; must divide steps.
        state: the method's state to start from; by default `method.init(params)`.

    Returns:
        Path: 1 + steps / every points, the start included, at times k dt in iterations (dt = 1 for a method
        that has none). A run that diverges is returned whole, with `diverged` set.

    Raises:
        ValueError: steps or every below 1, every not dividing steps, a loss that is not one real number.
        TypeError: integer params.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> path = inercia.iterate(inercia.sgd(0.5), lambda x: x**2 / 2, jnp.array(1.0), 3)
        >>> path.times.tolist(), path.params.tolist()
        ([0.0, 1.0, 2.0, 3.0], [1.0, 0.5, 0.25, 0.125])
    """
    steps, every = check.whole("steps", steps), check.whole("every", every)
    if steps % every:
        raise ValueError(f"every must divide steps, but every = {every} and steps = {steps}.")
    check.differentiable("params", params)
    with jax.enable_x64(True):
        theta = tree.float64(params)
        check.loss_of(loss, theta)
        start = tree.float64(method.init(theta) if state is None else state)
        recorded = tree.to_numpy(_scan(method, loss, theta, start, steps // every, every))
    (theta, moments, losses) = recorded
    # The clock goes on from the state's own counter, so that a continued run continues the time.
    counted = [leaf for leaf in jax.tree.leaves(start) if jnp.issubdtype(leaf.dtype, jnp.integer) and leaf.ndim == 0]
    first = int(counted[0]) if counted else 0
    times = (first + every * np.arange(1 + steps // every)) * float(getattr(method, "dt", 1.0))
    return Path(times, theta, moments, losses, diverged_at(times, theta, moments, losses))


@partial(jax.jit, static_argnames=("method", "loss", "points", "every"))
def _scan(method, loss, params, state, points, every):
    gradient = jax.value_and_grad(loss)
    update = optax.with_extra_args_support(method).update

    def step(carry):
        params, state = carry
        value, grads = gradient(params)
        # Extra arguments serve the transformations that ask for them (line searches, Polyak steps).
        grads = jax.tree.map(jnp.conj, grads)  # the direction of ascent of complex params
        updates, state = update(grads, state, params, value=value, grad=grads, value_fn=loss)
        return (optax.apply_updates(params, updates), state), value

    def write(path, k, row):
        return jax.tree.map(lambda rows, leaf: rows.at[k].set(leaf), path, row)

    def point(k, carried):
        carry, path = carried
        after, value = step(carry)
        path = write(path, k, (*carry, value))
        return jax.lax.fori_loop(0, every - 1, lambda _, c: step(c)[0], after), path

    # One buffer, written in place: joining a stack and its last row would need the memory twice.
    start = jax.tree.map(jnp.asarray, (params, state))
    path = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (points + 1, *leaf.shape)), (*start, loss(params)))
    (params, state), path = jax.lax.fori_loop(0, points, point, (start, path))
    return write(path, points, (params, state, loss(params)))


def diverged_at(times: np.ndarray, *trees: Any) -> float | None:
    """Return the first time at which a leaf is not finite, or None; leading axis = time."""
    good = np.ones(len(times), bool)
    for leaf in jax.tree.leaves(trees):
        if np.issubdtype(leaf.dtype, np.inexact):
            good &= np.isfinite(leaf.reshape(len(times), -1)).all(axis=1)
    return None if good.all() else float(times[np.argmin(good)])

"""The path of a method on batches: the very iterations of `train`, recorded in float64 on the axis of the flows.

    theta_{k+1}, s_{k+1} = theta_k + update(grad loss(theta_k, batch_k), s_k, theta_k),    batch_k drawn by (key, k)

Beside it stand, on the same axis of time, the gradient flow of the loss of all rows (`integrate`), and where the data
are cut into fixed batches of which each iteration draws one, the stochastic differential equation (`diffuse`).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from inercia.core import check, tree
from inercia.core.convolutions import fast_convolutions
from inercia.core.method import Params
from inercia.core.optimizer_state import advance, start_state
from inercia.core.path import Path
from inercia.core.progress import bar as progress_bar
from inercia.flows.iteration import diverged_at
from inercia.problems.sampling import sampler as sampler_of
from inercia.training import batches
from inercia.training.arguments import abstract
from inercia.training.objective import Objective, key_of_losses, objective_of

#: Row numbers that are drawn at a time, for all keys together.
_DRAWN = 2**22


def iterate_batches(
    method: optax.GradientTransformation,
    loss: Any,
    params: Params,
    data: Any,
    steps: int,
    *,
    key: Any,
    batch_size: int | None = None,
    sampler: str = "shuffle",
    every: int = 1,
    progress: bool = False,
) -> Path:
    """Iterate a method on the batches of `train`, and record where it went.

    Args:
        method: an inercia method or any optax transformation.
        loss: (params, batch) -> scalar, or (params, batch, key) -> scalar, as in `train`.
        params: where to start; computed in float64 (complex128) whatever its precision.
        data: (x, y), or any tree of arrays that the loss takes, rows first; floats are read in float64.
        steps: number of updates.
        key: `jax.random.key` or a seed, that of `train`; or a list or an array of them, for a path each, all mapped.
        batch_size: rows per iteration; may be left out for "full".
        sampler: "shuffle", "partition" or "full", see `inercia.sampler`.
        every: updates between recorded points; must divide steps.
        progress: whether to show a bar.

    Returns:
        Path: 1 + steps / every points, the start included, dt apart per update. `loss` is that of all rows (with a key,
        the one that the next iteration would have). Of several keys the leaves are (points, keys, ...), and `diverged`
        is the first time at which one of the paths was not finite; their mean is a path again by
        `dataclasses.replace(path, params=path.params.mean(axis=1), loss=path.loss.mean(axis=1))`.

    Raises:
        ValueError, TypeError: as in `iterate` and `train`.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> loss = lambda x, rows: jnp.mean((x - rows) ** 2) / 2
        >>> rows = jnp.array([-1.0, 0.0, 1.0])
        >>> path = inercia.iterate_batches(inercia.sgd(0.5), loss, 2.0, rows, 20, key=range(100), batch_size=1)
        >>> path.params.shape, bool(abs(path.params[-1].mean()) < 0.2)
        ((21, 100), True)
    """
    steps, every = check.recorded(steps, every)
    check.differentiable("params", params)
    if not check.is_concrete(params, data, key):
        raise TypeError("iterate_batches cannot be traced by jit, vmap or grad: give it several keys at once instead.")
    objective = objective_of(loss, False, False)
    data = batches.rows_in_memory(data, hasattr(loss, "check"))
    drawn = sampler_of(sampler, batches.rows(data), batch_size)
    alone, keys = _keys(key)
    draw = None if drawn.rows is None else _drawn(drawn.rows, every)
    dt = float(getattr(method, "dt", 1.0))
    with jax.enable_x64(True):
        theta, rows = tree.float64(params), tree.float64(data)
        if hasattr(loss, "check"):
            loss.check(abstract(theta), rows)
        batch = jax.tree.map(lambda part: jax.ShapeDtypeStruct((drawn.batch_size, *part.shape[1:]), part.dtype), rows)
        objective.judge(abstract(theta), None, batch)
        value = jax.eval_shape(objective.value, theta, None, batch, keys[0])
        first = (theta, start_state(method, theta, None, value.dtype))
        carry = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(keys), *leaf.shape)), first)
        losses = _full(objective, rows, carry, keys, 0)
    pieces = [jax.tree.map(lambda leaf: leaf[:, None], (*carry, losses))]
    size = max(1, _DRAWN // (every * drawn.batch_size * len(keys)))
    with progress_bar(progress, total=steps, unit="it", desc="iterate") as shown:
        for point in range(0, steps // every, size):
            points = min(size, steps // every - point)
            chosen = (
                None if draw is None else draw(keys, point * every, points)
            )  # by the caller's flag, as `train` does
            with jax.enable_x64(True):
                carry, piece = _run(
                    method, objective, every, points, rows, carry, keys, chosen, np.int32(point * every)
                )
            pieces.append(piece)
            shown.update(points * every)
    return _path(pieces, dt * every * np.arange(1 + steps // every), alone)


def _path(pieces: list, times: np.ndarray, alone: bool) -> Path:
    """Join the pieces, leaves (keys, points, ...), to a path."""
    joined = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *map(tree.to_numpy, pieces))
    params, state, loss = jax.tree.map(lambda leaf: leaf[0] if alone else np.moveaxis(leaf, 1, 0), joined)
    return Path(times, params, state, loss, diverged_at(times, params, state, loss))


def _keys(key: Any) -> tuple[bool, jax.Array]:
    """Return whether it is one key, and the keys, stacked."""
    if key is None:
        raise TypeError("iterate_batches needs a key, for example key=0: it fixes all batches.")
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 1:
        return False, key
    if not isinstance(key, list | tuple | range):
        return True, check.key(key)[None]
    if not len(key):
        raise ValueError("key must hold at least one key, but it is empty.")
    if all(type(one) is int and 0 <= one < 2**31 for one in key):  # stacking thousands takes long
        return False, jax.vmap(jax.random.key)(np.array(key, np.uint32))
    return False, jnp.stack([check.key(one) for one in key])


def _drawn(rows: Callable, every: int) -> Callable:
    """Return (keys, first, points) -> row numbers (keys, points, every, batch)."""

    @partial(jax.jit, static_argnums=2)
    def draw(keys, first, points):
        chosen = jax.vmap(lambda key: rows(key, first, points * every))(keys)
        return chosen.reshape(len(keys), points, every, -1)

    return draw


@partial(jax.jit, static_argnums=0)
@fast_convolutions
def _full(objective: Objective, rows: Any, carry: Any, keys: jax.Array, k: Any) -> jax.Array:
    """Return the loss of all rows at the params of every key."""
    return jax.vmap(lambda carry, key: _loss(objective, rows, key, k)(carry[0]))(carry, keys)


def _loss(objective: Objective, batch: Any, key: Any, k: Any) -> Callable:
    own = jax.random.fold_in(key_of_losses(key), k) if objective.takes_key else None
    return lambda params: objective.value(params, None, batch, own)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
@fast_convolutions
def _run(method, objective, every, points, rows, carry, keys, chosen, first):
    """Make the iterations between `points` records for every key; return params, state and loss at each."""

    def path(carry, key, chosen):
        def step(carry, given):
            selected, k = given
            batch = rows if selected is None else jax.tree.map(lambda part: part[selected], rows)
            params, state, _ = advance(method, _loss(objective, batch, key, k), *carry)
            return (params, state), None

        def record(carry, given):
            carry, _ = jax.lax.scan(step, carry, given, every)
            return carry, (*carry, _loss(objective, rows, key, given[1][-1] + 1)(carry[0]))

        numbers = first + jnp.arange(points * every, dtype=jnp.int32).reshape(points, every)
        return jax.lax.scan(record, carry, (chosen, numbers), points)

    return jax.vmap(path, (0, 0, None if chosen is None else 0))(carry, keys, chosen)

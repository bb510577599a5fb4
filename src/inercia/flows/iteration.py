"""The discrete path: a method's iterates on a deterministic loss.

    theta_{k+1}, s_{k+1} = theta_k + update(grad loss(theta_k), s_k, theta_k)

One compiled scan in float64; works for every method and every optax transformation.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from inercia.core import check, tree
from inercia.core.method import Params, State
from inercia.core.path import Path


class Observer(NamedTuple):
    """What `iterate` may watch, where a function of params and state alone would begin anew at every point."""

    init: Callable[[Params, State], Any]  # before the run -> memory, a tree of arrays
    observe: Callable[[Params, State, Any], tuple[Any, Any]]  # traced, at every point -> (seen, memory)
    finish: Callable[[np.ndarray, Any], Any]  # after the run: (times, all that was seen) -> what is kept; may raise


def iterate(
    method: optax.GradientTransformation,
    loss: Any,
    params: Params,
    steps: int,
    *,
    every: int = 1,
    state: State | None = None,
    observe: dict[str, Any] | None = None,
) -> Path:
    """Iterate a method and record where it went.

    Args:
        method: an inercia method or any optax transformation.
        loss: params -> scalar.
        params: where to start; computed in float64 (complex128) whatever its precision.
        steps: number of updates.
        every: updates between recorded points; must divide steps.
        state: the method's state to start from; by default `method.init(params)`.
        observe: name -> function (params, state) -> array, or an `Observer` such as `sharpness` makes; traced and
            computed inside the compiled run at every recorded point; found in `path.observed`.

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
    steps, every = check.recorded(steps, every)
    check.differentiable("params", params)
    with jax.enable_x64(True):
        theta = tree.float64(params)
        check.loss_of(loss, theta)
        start = tree.float64(method.init(theta) if state is None else state)
        watched = {name: _observer(watcher) for name, watcher in (observe or {}).items()}
        memory = {name: watcher.init(theta, start) for name, watcher in watched.items()}
        recorded = _scan(method, loss, theta, start, steps // every, every, tuple(watched.items()), memory)
        theta, moments, losses, seen = tree.to_numpy(recorded)
    # The clock goes on from the state's own counter, so that a continued run continues the time.
    counted = [leaf for leaf in jax.tree.leaves(start) if jnp.issubdtype(leaf.dtype, jnp.integer) and leaf.ndim == 0]
    first = int(counted[0]) if counted else 0
    times = (first + every * np.arange(1 + steps // every)) * float(getattr(method, "dt", 1.0))
    diverged = diverged_at(times, theta, moments, losses)
    sound = times if diverged is None else times[times < diverged]  # what was seen after a divergence says nothing
    observed = {
        name: _padded(watched[name].finish(sound, tree.row(part, slice(len(sound)))), len(times))
        for name, part in seen.items()
    }
    return Path(times, theta, moments, losses, diverged, observed=observed)


def _observer(watcher: Any) -> Observer:
    if isinstance(watcher, Observer):
        return watcher
    return Observer(lambda *_: (), lambda params, state, memory: (watcher(params, state), memory), lambda _, seen: seen)


def _padded(seen: Any, length: int) -> Any:
    def pad(leaf):
        missing = np.full((length - len(leaf), *leaf.shape[1:]), np.nan)
        return np.concatenate([leaf, missing]) if len(missing) else leaf

    return jax.tree.map(pad, seen)


@partial(jax.jit, static_argnames=("method", "loss", "points", "every", "watched"))
def _scan(method, loss, params, state, points, every, watched, memory):
    gradient = jax.value_and_grad(loss)
    update = optax.with_extra_args_support(method).update

    def step(carry):
        params, state = carry
        value, grads = gradient(params)
        # Extra arguments serve the transformations that ask for them (line searches, Polyak steps).
        grads = jax.tree.map(jnp.conj, grads)  # the direction of ascent of complex params
        updates, state = update(grads, state, params, value=value, grad=grads, value_fn=loss)
        return (optax.apply_updates(params, updates), state), value

    def look(params, state, memory):
        both = {name: watcher.observe(params, state, memory[name]) for name, watcher in watched}
        return tuple({name: jax.tree.map(jnp.asarray, pair[n]) for name, pair in both.items()} for n in (0, 1))

    def write(path, k, row):
        return jax.tree.map(lambda rows, leaf: rows.at[k].set(leaf), path, row)

    def point(k, carried):
        carry, memory, path = carried
        after, value = step(carry)
        params, state = carry
        seen, memory = look(params, state, memory)
        path = write(path, k, (*carry, value, seen))
        return jax.lax.fori_loop(0, every - 1, lambda _, c: step(c)[0], after), memory, path

    # One buffer, written in place: joining a stack and its last row would need the memory twice.
    start = jax.tree.map(jnp.asarray, (params, state))
    row = (*start, loss(params), jax.tree.map(jnp.zeros_like, jax.eval_shape(look, *start, memory)[0]))
    path = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (points + 1, *leaf.shape)), row)
    (params, state), memory, path = jax.lax.fori_loop(0, points, point, (start, memory, path))
    return write(path, points, (params, state, loss(params), look(params, state, memory)[0]))


def diverged_at(times: np.ndarray, *trees: Any) -> float | None:
    """Return the first time at which a leaf is not finite, or None; leading axis = time."""
    good = np.ones(len(times), bool)
    for leaf in jax.tree.leaves(trees):
        if np.issubdtype(leaf.dtype, np.inexact):
            good &= np.isfinite(leaf.reshape(len(times), -1)).all(axis=1)
    return None if good.all() else float(times[np.argmin(good)])

"""The discrete path: a method's iterates on a deterministic loss.

    theta_{k+1}, s_{k+1} = theta_k + update(grad loss(theta_k), s_k, theta_k)

One compiled loop, for every method and every optax transformation: params, and the moments that follow them, in
float64; what else a state holds (counters, flags, keys, moments kept in bfloat16) in the dtype that its update gives.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from inercia.core import check, tree
from inercia.core.convolutions import fast_convolutions
from inercia.core.forms import form_of
from inercia.core.method import Family, Params, State
from inercia.core.optimizer_state import Alone, advance, start_state, updates_made
from inercia.core.partial_loss import separated
from inercia.core.path import Path
from inercia.core.precision import in_float64


class Observer(NamedTuple):
    """What `iterate` may watch, where it needs a memory from point to point."""

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
    start: float | None = None,
    observe: dict[str, Any] | None = None,
) -> Path:
    """Iterate a method and record where it went.

    Args:
        method: an inercia method or any optax transformation, also one that asks for the loss or its value.
        loss: params -> scalar. It is compiled together with the arrays that it captures: a later change of those is not
            seen. Data that change are given by `functools.partial(loss, batch=batch)`, whose arrays are arguments
            of the program: neither stale nor a reason to compile again. They are read in float64 too.
        params: where to start; computed in float64 (complex128) whatever its precision.
        steps: number of updates.
        every: updates between recorded points; must divide steps.
        state: the method's state to start from, of a path, a flow or a training; by default `method.init(params)`.
        start: time of the first point, in iterations. By default 0 for a fresh state; for a given one the updates that
            its counters show, times dt, and 0 again where it has none (plain momentum, MultiSteps).
        observe: name -> function (params, state) -> array, or an `Observer` such as `sharpness` makes; traced and
            computed inside the compiled run at every recorded point; found in `path.observed`.

    Returns:
        Path: 1 + steps / every points, the start included, dt apart per update (dt = 1 for a method that has none). A
        run that diverges is returned in full, with `diverged` set. Random keys in the state are given as numbers.

    Raises:
        ValueError: steps or every below 1, every not dividing steps, a loss that is not one real number, a state of
            another method, counters in it that disagree.
        TypeError: integer params; a call under `jit`, `vmap` or `grad`.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> path = inercia.iterate(inercia.sgd(0.5), lambda x: x**2 / 2, jnp.array(1.0), 3)
        >>> path.times.tolist(), path.params.tolist()
        ([0.0, 1.0, 2.0, 3.0], [1.0, 0.5, 0.25, 0.125])
    """
    return _iterate(method, (Alone(method), 1.0), loss, params, check.recorded(steps, every), state, start, observe)


def iterate_refined(
    family: Family, dt: float, loss: Any, params: Params, steps: int, *, every: int = 1, state: State | None = None
) -> Path:
    """Iterate `family(dt)`, with the same program for every dt; as `iterate`, but the family is traced in dt."""
    return _iterate(family(dt), (family, dt), loss, params, check.recorded(steps, every), state, None, None)


def _iterate(
    method: Any,
    member: tuple[Any, float],  # a family, and the dt at which it is the method
    loss: Any,
    params: Params,
    length: tuple[int, int],
    state: Any,
    start: Any,
    observe: Any,
) -> Path:
    steps, every = length
    check.optimizer(method)
    dt, member = float(getattr(method, "dt", 1.0)), (member[0], float(member[1]))
    _refuse_tracers(params, state, start)
    check.some_params(params)
    start = None if start is None else check.number("start", start)
    with jax.enable_x64(True):
        theta = tree.float64(params)
        program, data = separated(loss if isinstance(loss, partial) else in_float64(loss, theta))
        data = tree.float64(data)
        bound = program.bind(data)
        check.loss_of(bound, theta)
        begin = start_state(method, theta, state, form_of(bound, theta).dtype, member)
        watched = {name: _observer(watcher) for name, watcher in (observe or {}).items()}
        memory = {name: watcher.init(theta, begin) for name, watcher in watched.items()}
        run = partial(_run, member[0], program, points=steps // every, watched=tuple(watched.items()))
        recorded = run(member[1], data, theta, begin, every, memory)
        _refuse_tracers(recorded)
        theta, moments, losses, seen = tree.to_numpy(recorded)
        made = updates_made(method, params, begin) if start is None and state is not None else None
    times = (start or 0.0) + dt * ((made or 0) + every * np.arange(1 + steps // every))
    diverged = diverged_at(times, theta, moments, losses)
    sound = times if diverged is None else times[times < diverged]  # what was seen after a divergence says nothing
    observed = {
        name: _padded(watched[name].finish(sound, tree.row(part, slice(len(sound)))), len(times))
        for name, part in seen.items()
    }
    return Path(times, theta, moments, losses, diverged, observed=observed)


def _refuse_tracers(*values: Any) -> None:
    if not check.is_concrete(*values):
        raise TypeError(
            "iterate cannot be traced by jit, vmap or grad, because it checks its input and returns NumPy arrays: call "
            "it with numbers, once for each start, or write the loop with method.update and jax.lax.scan."
        )


def _observer(watcher: Any) -> Observer:
    if isinstance(watcher, Observer):
        return watcher
    return Observer(lambda *_: (), lambda params, state, memory: (watcher(params, state), memory), lambda _, seen: seen)


def _padded(seen: Any, length: int) -> Any:
    def pad(leaf):
        missing = np.full((length - len(leaf), *leaf.shape[1:]), np.nan)
        return np.concatenate([leaf, missing]) if len(missing) else leaf

    return jax.tree.map(pad, seen)


@partial(jax.jit, static_argnames=("family", "program", "points", "watched"))
@fast_convolutions
def _run(family, program, dt, data, params, state, every, memory, points, watched):
    method, loss = family(dt), program.bind(data)

    def step(carry):
        params, state, value = advance(method, loss, *carry)
        return (params, state), value

    def look(params, state, memory):
        both = {name: watcher.observe(params, state, memory[name]) for name, watcher in watched}
        return tuple({name: jax.tree.map(jnp.asarray, pair[n]) for name, pair in both.items()} for n in (0, 1))

    def write(path, k, row):
        return jax.tree.map(lambda rows, leaf: rows.at[k].set(leaf), path, row)

    def update(k, carried):
        carry, first = carried
        after, value = step(carry)
        return after, jnp.where(k == 0, value, first)

    def point(k, carried):
        carry, memory, path, losses = carried
        params, state = carry
        seen, memory = look(params, state, memory)
        path = write(path, k, (*carry, seen))
        # One more update after the last point, dropped: its loss is asked for, and a second gradient in the program
        # would double the time of compilation.
        many = jnp.where(k < points, every, 1)
        after, value = jax.lax.fori_loop(0, many, update, (carry, jnp.zeros((), losses.dtype)))
        return after, memory, path, losses.at[k].set(value)

    # Buffers written in place: joining a stack and its last row would need the memory twice.
    start = jax.tree.map(jnp.asarray, (params, state))
    row = (*start, jax.tree.map(jnp.zeros_like, jax.eval_shape(look, *start, memory)[0]))
    path = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (points + 1, *leaf.shape)), row)
    losses = jnp.zeros(points + 1, jax.eval_shape(step, start)[1].dtype)
    _, _, (*path, seen), losses = jax.lax.fori_loop(0, points + 1, point, (start, memory, path, losses))
    return *path, losses, seen


def diverged_at(times: np.ndarray, params: Any, state: Any, loss: Any) -> float | None:
    """Return the first time at which params, state or loss are not finite, or None; leading axis = time.

    Entries of the state that are not finite from the start, as the best loss so far of a line search, do not count.
    """
    good = np.ones(len(times), bool)
    for leaf in jax.tree.leaves((params, loss)):
        good &= np.isfinite(leaf.reshape(len(times), -1)).all(axis=1)
    for leaf in jax.tree.leaves(state):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):  # NumPy's own does not count bfloat16
            finite = np.isfinite(leaf.reshape(len(times), -1))
            good &= (finite | ~finite[:1]).all(axis=1)
    return None if good.all() else float(times[np.argmin(good)])

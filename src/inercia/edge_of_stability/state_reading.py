"""What the leaves of a transformation's state are, found by trying its update; and the preconditioner that follows.

The update is made on small random gradients g, on -g and on 0, from the same fresh state. A leaf s is

    memory       s(-g) - s(0) = -(s(g) - s(0))     odd in the gradients: first moments
    frozen       s(-g) = s(g)                      even: second moments, hyperparameters
    a counter    an integer that every step raises by the same number

and anything else is refused. So is an update that is not, for random params and a gradient g, the linear one that
`frozen` says, u = u_0 + u_g g + u_m m, or that mixes the elements of the params: then no diagonal P exists.
"""

import itertools
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inercia.core import check
from inercia.core.method import Params, State
from inercia.core.optimizer_state import start_state
from inercia.edge_of_stability.bent_update import bends
from inercia.edge_of_stability.frozen_update import Reading, frozen, is_float, step_of, steps_seen

#: Updates in which steps are looked for.
_TRIED = 64
#: Steps on a constant gradient, at the first of which it is seen whether the memory is corrected for its start.
_EARLY, _STEPS = (2, 3, 4, 5), 30
#: Norm of the gradients tried, small for clips.
_SMALL = 1e-2
#: The update made may differ from the linear one, relative to its norm.
_LINEAR = 0.1
#: Answers in the long run, over those to one gradient, that no memory which fades gives.
_FOREVER = 1e9
#: Factor of second moments beside which any eps is large.
_FAINT = 1e-60
_NOT_LINEAR = (
    "a preconditioner needs an update that is linear in gradient and memory once its second moments are frozen, but "
    "this one is not: is it a sign method, smoothed or not, or does it scale by a norm?"
)


def read_preconditioner(method: Any, state: State, params: Params) -> Params:
    """Return the P of a transformation's last update, a tree like params; pure, and made for `jit`.

    Args:
        method: any optax transformation that is elementwise once its second moments are frozen.
        state: after at least one update.
        params: real.

    Raises:
        ValueError: an update that needs more than gradients, state and params; that is no linear and elementwise one
            once its second moments are frozen; whose memory never fades; that is no descent.
        TypeError: complex params.

    Example:
        >>> import optax
        >>> method, x = optax.sgd(0.1, momentum=0.5), jnp.ones(2)
        >>> read_preconditioner(method, method.update(x, method.init(x), x)[1], x).round(6).tolist()
        [5.0, 5.0]
    """
    own = reading(method, params)
    answer = frozen(method, own, state, params).answer(steps_seen(own, state))
    return jax.tree.unflatten(jax.tree.structure(params), [jnp.where(a == 0, jnp.inf, -1 / a) for a in answer])


def reading(method: Any, params: Params) -> Reading:
    """Return what the leaves of the state are; of the params only the shapes matter. Raises as above."""
    check.real("params", params)
    shapes = tuple(jnp.shape(p) for p in jax.tree.leaves(params))
    # Also under jit the trial is made with numbers, at once.
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        return _read(method, jax.tree.structure(params), shapes)


@lru_cache(maxsize=64)
def _read(method: Any, structure: Any, shapes: tuple) -> Reading:
    zero = jax.tree.unflatten(structure, [np.zeros(shape) for shape in shapes])
    fresh = fresh_state(method, zero)
    period = steps_apart(method, zero, fresh)
    tried, memory = (fresh, fresh, fresh), set()
    for n in range(_STEPS * period):
        gradient = _random(n // period, zero, _SMALL)
        signed = (gradient, jax.tree.map(np.negative, gradient), zero)
        tried = tuple(_stepped(method, 1, g, s, zero)[1] for g, s in zip(signed, tried, strict=True))
        if n >= (_STEPS - 1) * period:  # in some phases of a period a memory is empty
            memory |= _odd(*tried)
    own = Reading(
        period,
        slots_of(fresh, sorted(memory), zero, "a memory of gradients"),
        _counters(partial(_stepped, method, period, gradient, params=zero), tried[0]),
    )
    theta = _random(1001, zero, 37 * float(np.sqrt(sum(map(np.prod, shapes)))))
    return _checked(method, own, fresh, theta, _random(1002, zero, _SMALL))


def fresh_state(method: Any, params: Params) -> State:
    """Return the state before the first update, which must need nothing but gradients, state and params."""
    try:
        state = start_state(method, params)
        jax.eval_shape(partial(step_of, method, 1), params, state, params)
    except Exception as error:
        raise ValueError(_cannot_be_made(error)) from error
    return state


def _cannot_be_made(error: Exception) -> str:
    """Return why an update could not be tried, as one sentence."""
    text, rule = (
        str(error).split("\n", maxsplit=1)[0].rstrip("."),
        "the update must need only gradients, state and params",
    )
    if "required" in text and "argument" in text:
        asked = text.split(":")[-1].strip()
        return f"{rule} to be linearised, but it asks the loss for {asked}."
    return f"{rule} to be linearised, but it fails with them: {text}."


@partial(jax.jit, static_argnums=(0, 1))
def _stepped(method: Any, period: int, grads: Params, state: State, params: Params) -> tuple[Params, State]:
    return step_of(method, period, grads, state, params)


def _random(seed: int, like: Params, norm: float) -> Params:
    """Return a tree like `like` of random entries of about that Euclidean norm together, none near zero."""
    rng, (leaves, structure) = np.random.default_rng(seed), jax.tree.flatten(like)
    size = norm / np.sqrt(max(1, sum(np.size(leaf) for leaf in leaves)))
    shapes = [np.shape(leaf) for leaf in leaves]
    # NumPy, because every operation on a new shape would be a program of its own.
    entries = [np.asarray(size * rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 1.5, shape)) for shape in shapes]
    return jax.tree.unflatten(structure, entries)


def steps_apart(method: Any, params: Params, state: State) -> int:
    """Return the updates per step: the smallest distance between two updates that move the params; 1 if none do."""
    gradient, moved = _random(0, params, _SMALL), []
    for n in range(_TRIED):
        u, state = _stepped(method, 1, gradient, state, params)
        if any(np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(u)):
            moved.append(n)
            if moved[-2:] == [n - 1, n]:
                return 1
    return int(np.diff(moved).min(initial=_TRIED)) if len(moved) > 1 else 1


def _counters(step: Callable, state: State) -> tuple[int, ...]:
    """Return for every leaf what a step adds to it, where it is an integer and each step adds the same."""
    states = [state]
    for _ in range(2):
        states.append(step(state=states[-1])[1])
    by = []
    for leaves in zip(*map(jax.tree.leaves, states), strict=True):
        counts = leaves[0].ndim == 0 and jnp.issubdtype(leaves[0].dtype, jnp.integer)
        first, second = (int(b) - int(a) for a, b in itertools.pairwise(leaves)) if counts else (0, 0)
        by.append(first if first == second else 0)
    return tuple(by)


def _odd(plus: State, minus: State, still: State) -> set[int]:
    """Return the leaves that are odd in the gradients; raise for one that is neither odd nor even."""
    odd = set()
    for i, (up, down, rest) in enumerate(
        zip(*map(jax.tree_util.tree_leaves_with_path, (plus, minus, still)), strict=True)
    ):
        if not is_float(up[1]):
            continue
        u, d, z = (np.asarray(leaf, float) for _, leaf in (up, down, rest))
        tolerance = 1e-6 * np.abs(u - z).max(initial=0)
        if np.abs(u - d).max(initial=0) <= tolerance:
            continue
        if not np.abs(u + d - 2 * z).max() <= tolerance:
            name = f"state{jax.tree_util.keystr(up[0])}"
            raise ValueError(f"{name} must be odd or even in the gradients to be read, but it is neither.")
        odd.add(i)
    return odd


def slots_of(state: State, memory: list[int], params: Params, what: str) -> tuple[tuple[int, ...], ...]:
    """Return for every leaf of the params those of the given leaves of the state that are laid out like it."""
    held: list[list[int]] = [[] for _ in jax.tree.leaves(params)]
    own = jax.tree_util.tree_leaves_with_path(params)
    leaves = jax.tree_util.tree_leaves_with_path(state)
    for i in memory:
        keys, leaf = leaves[i]
        fits = [j for j, (at, p) in enumerate(own) if keys[len(keys) - len(at) :] == at and p.shape == leaf.shape]
        if not fits:
            name = f"state{jax.tree_util.keystr(keys)}"
            raise ValueError(f"{name} is {what}, and must be laid out like the params to be read.")
        held[max(fits, key=lambda j: len(own[j][0]))].append(i)
    return tuple(tuple(slots) for slots in held)


def _checked(method: Any, own: Reading, fresh: State, theta: Params, gradient: Params) -> Reading:
    """Return the reading, with the correction of its memory, after a comparison with the update that is made."""
    states, u = [fresh], theta
    for _ in range(_STEPS):  # of alternating gradients memory and gradient weigh alike
        gradient = jax.tree.map(np.negative, gradient)
        u, after = _stepped(method, own.period, gradient, states[-1], theta)
        states.append(after)
    made = _flat(jax.tree.leaves(u))
    parts = _compared(method, own, gradient, states[-2], states[-1], theta, _STEPS)
    linear, still, mixed, unmixed, answer = (_flat(part) for part in parts[:5])
    if not (np.isfinite(linear).all() and np.isfinite(still).all()):
        raise ValueError(
            "the update must be smooth at gradient 0 to be linearised, but its derivative there is not finite."
        )
    if not (np.isfinite(answer).all() and np.abs(answer).max() <= _FOREVER * np.abs(unmixed).max()):
        raise ValueError("a preconditioner needs a memory that fades, but this one keeps every gradient for good.")
    if not np.linalg.norm(made - linear - still) <= _LINEAR * np.linalg.norm(made - still):
        raise ValueError(_NOT_LINEAR)
    if not answer.any():
        raise ValueError("a preconditioner needs an update that answers to the gradients, but this one does not.")
    if np.abs(mixed - unmixed).max() > _precision(own, fresh) * np.abs(unmixed).max():
        raise ValueError("a preconditioner needs an update that acts on each parameter on its own, but it mixes them.")
    if (answer > 0).any():
        raise ValueError(
            "a preconditioner needs a descent, but some updates go along the gradient: a mask leaves gradients as they "
            "are where it is false, and a piece like scale_by_adam wants a learning rate chained to it."
        )
    even = _second_moments(own, fresh, states[-1])
    if bends(method, own, even, states[-1], gradient):
        raise ValueError(_NOT_LINEAR)
    return own._replace(clocks=_clocks(method, own, even, states, theta))


def _second_moments(own: Reading, first: State, last: State) -> set[int]:
    """Return the leaves that are no memory and changed: no constants, as `inject_hyperparams` keeps them."""
    memory, pairs = {i for slots in own.memory for i in slots}, zip(*map(jax.tree.leaves, (first, last)), strict=True)
    changed = (i for i, (a, b) in enumerate(pairs) if is_float(a) and (np.asarray(a) != np.asarray(b)).any())
    return {*changed} - memory


@partial(jax.jit, static_argnums=(0, 1))
def _compared(
    method: Any, own: Reading, grads: Params, before: State, after: State, params: Params, count: Any
) -> tuple:
    """Return updates by leaf: linear; without gradient; two, equal where no elements mix; answers in long and short."""
    leaves, g = jax.tree.leaves(before), jax.tree.leaves(grads)
    linear, still, answer = frozen(method, own, after, params)
    u = linear(g, [[leaves[i] for i in slots] for slots in own.memory])[0]

    def alike(v):
        return linear(v, [[x.astype(leaves[i].dtype) for i in s] for x, s in zip(v, own.memory, strict=True)])[0]

    v = g
    unmixed = [x * y for x, y in zip(v, alike([jnp.ones_like(x) for x in v]), strict=True)]
    return u, still, alike(v), unmixed, answer([None] * len(g)), answer([count] * len(g))


def _precision(own: Reading, state: State) -> float:
    leaves = jax.tree.leaves(state)
    return max([1e-6] + [8 * float(jnp.finfo(leaves[i].dtype).eps) for slots in own.memory for i in slots])


def _clocks(method: Any, own: Reading, even: set[int], states: list, params: Params) -> tuple[int | None, ...]:
    """Return for every leaf of the params the counter by which its memory is corrected.

    One counter after the other is set back to the first steps. If the answer of the memory as of then depends on it far
    less than that of the long run does, then the update corrects for it. The second moments are those of the first
    steps, corrected as the memory is, or, in a second trial, so small that only the eps beside them is felt.
    """
    last = jax.tree.leaves(states[-1])
    before = states[-2]

    def answers(c, n, moved):
        early = jax.tree.leaves(states[n])
        moments = {i: early[i] if moved else np.asarray(_FAINT * np.asarray(last[i]), last[i].dtype) for i in even}
        leaves = [early[i] if i == c else moments.get(i, leaf) for i, leaf in enumerate(last)]
        after = jax.tree.unflatten(jax.tree.structure(before), leaves)
        both = _compared(method, own, params, before, after, params, n)[-2:]
        return [[np.log(np.abs(a)) for a in kind] for kind in both]

    found: list[int | None] = [None] * len(own.memory)
    with np.errstate(divide="ignore", invalid="ignore"):
        for c in (c for c, by in enumerate(own.counters) if by):
            trials = [[answers(c, n, moved) for n in _EARLY] for moved in (True, False)]
            for j in (j for j, slots in enumerate(own.memory) if slots and found[j] is None):
                long, short = (
                    min(float(np.ptp([a[kind][j] for a in trial], axis=0).max()) for trial in trials) for kind in (0, 1)
                )
                if short < long / 2:
                    found[j] = c
    return tuple(found)


def _flat(leaves: Any) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in leaves])

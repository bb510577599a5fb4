"""The preconditioner of any optax transformation, read off its update.

Of a state's leaves some are odd in the gradients (first moments m, the **memory**) and some even (second moments nu).
With the second moments frozen where the last update left them, the update is linear in gradient and memory,

    u = u_g g + u_m m,    m+ = B m + C g,

elementwise, and so is its answer to a constant gradient:   u = -P^{-1} g,   P^{-1} = -(u_g + u_m (1-B)^{-1} C).

Frozen: u, m+ are differentiated at g = m = 0, where what is even has no slope, from the second moments nu_before that
an update without gradient takes to the given ones, and with the counters of one update earlier. A memory that the
update corrects for its start at zero (Adam) answers as after its n updates, with (1-B)^{-1} (1-B^n) C. Schedules are
read at the state's count, clips as they act on small gradients: not at all. Weight decay is no part of P. Where the
second moment enters before it is updated (adadelta), P is that of the next update to within 1 - b2.

Transformations that step once in k updates (MultiSteps, apply_every) are read per step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from inercia.core.method import Params, State

#: Corrections that freeze the second moments.
_CORRECTIONS = 6
#: Of a second moment that is zero, where a root has no slope.
_TINY = 1e-290


class Reading(NamedTuple):
    """What the leaves of a transformation's state are, in the order of `jax.tree.leaves`."""

    period: int  # updates per step
    memory: tuple[tuple[int, ...], ...]  # for every leaf of the params the leaves of its memory
    counters: tuple[int, ...]  # for every leaf what a step adds to it; 0 for all but counters
    clocks: tuple[int | None, ...] = ()  # for every leaf of the params the counter by which its memory is corrected


class Frozen(NamedTuple):
    """The linear update of a state, per element."""

    linear: Callable[[list, list], tuple[list, list]]  # (g, one list per slot) -> (u, the lists after), all by leaf
    still: list  # u without gradient and memory, by leaf: weight decay
    answer: Callable[[list], list]  # u in answer to a constant gradient of 1, by leaf, after as many steps, or None


def frozen(method: Any, own: Reading, state: State, params: Params) -> Frozen:
    """Return the linear update of a state's second moments; pure."""
    leaves, structure = jax.tree.flatten(state)
    at = {i for slots in own.memory for i in slots}
    even = [i for i, leaf in enumerate(leaves) if is_float(leaf) and i not in at]
    rest = [jnp.zeros_like(p) for p in jax.tree.leaves(params)]
    stand = [jnp.where(leaves[i] == 0, _tiny(leaves[i]), leaves[i]) for i in even]

    def step(g, moments, memories):
        now = [leaf - by if by else leaf for leaf, by in zip(leaves, own.counters, strict=True)]
        for i, leaf in zip(even, moments, strict=True):
            now[i] = leaf
        for slots, held in zip(own.memory, memories, strict=True):
            for i, leaf in zip(slots, held, strict=True):
                now[i] = leaf
        gradient = jax.tree.unflatten(jax.tree.structure(params), g)
        u, after = step_of(method, own.period, gradient, jax.tree.unflatten(structure, now), params)
        after = jax.tree.leaves(after)
        return jax.tree.leaves(u), [after[i] for i in even], [[after[i] for i in slots] for slots in own.memory]

    nothing = [[jnp.zeros_like(leaves[i]) for i in slots] for slots in own.memory]
    before = _before(lambda moments: step(rest, moments, nothing)[1], stand) if even else []
    (still, _), linear = jax.linearize(lambda g, memories: step(g, before, memories)[::2], rest, nothing)
    return Frozen(linear, still, _answers(linear, rest, nothing))


def steps_seen(own: Reading, state: State) -> list:
    """Return for every leaf of the params the steps that its memory has seen, None where it is not corrected.

    A counter that is a float, as in a flow, may stand between two steps.
    """
    leaves = jax.tree.leaves(state)

    def steps(i):
        return leaves[i] / own.counters[i] if is_float(leaves[i]) else leaves[i] // own.counters[i]

    return [None if i is None else steps(i) for i in own.clocks]


def _before(aged: Callable[[list], list], stand: list) -> list:
    """Return the moments that an update without gradient takes to `stand`."""
    slope = jax.jvp(aged, (stand,), ([jnp.ones_like(s) for s in stand],))[1]

    def corrected(_, now):
        return [
            # A leaf that does not answer stands by itself, as a hyperparameter does.
            (x + (s - y) / jnp.where(jnp.abs(d) > 1e-6, d, 1)).astype(x.dtype)
            for x, s, y, d in zip(now, stand, aged(now), slope, strict=True)
        ]

    return jax.lax.fori_loop(0, _CORRECTIONS, corrected, stand)


def _answers(linear: Callable, rest: list, nothing: list) -> Callable[[list], list]:
    """Return the function from counts to u in answer to a constant gradient of 1, by leaf."""
    by_gradient, drive = linear([jnp.ones_like(g) for g in rest], nothing)
    columns = [
        linear(rest, [[jnp.ones_like(m) if k == n else 0 * m for k, m in enumerate(s)] for s in nothing])
        for n in range(max((len(slots) for slots in nothing), default=0))
    ]

    def answer(counts):
        return [
            direct if not slots else direct + by_memory(j, len(slots), counts[j])
            for j, (direct, slots) in enumerate(zip(by_gradient, nothing, strict=True))
        ]

    def by_memory(j, size, count):
        own, kind = columns[:size], rest[j].dtype
        decay = jnp.stack([jnp.stack(after[j], -1).astype(kind) for _, after in own], -1)  # (..., size, size)
        held = _solve(jnp.eye(size, dtype=kind) - decay, jnp.stack(drive[j], -1).astype(kind))
        if count is not None:
            # The memory that the step found. What keeps nothing of itself, as MultiSteps' mean, is in step at once.
            grown = jnp.where(jnp.diagonal(decay, axis1=-2, axis2=-1) != 0, held, 0)
            held = held - jnp.einsum("...ij,...j->...i", _power(decay, count - 1), grown)
        return sum(u[j] * held[..., k] for k, (u, _) in enumerate(own))

    return answer


def _solve(matrix: jax.Array, right: jax.Array) -> jax.Array:
    return right / matrix[..., 0] if right.shape[-1] == 1 else jnp.linalg.solve(matrix, right[..., None])[..., 0]


def _power(matrix: jax.Array, n: Any) -> jax.Array:
    if matrix.shape[-1] == 1:
        return matrix ** jnp.asarray(n, matrix.dtype)

    if is_float(n):  # between two powers
        low = jnp.maximum(jnp.floor(n), 0).astype(int)
        part = n - low
        return (1 - part) * _power(matrix, low) + part * _power(matrix, low + 1)

    def doubled(bit, carry):
        power, square = carry
        return jnp.where((n >> bit) & 1 == 1, power @ square, power), square @ square

    one = jnp.broadcast_to(jnp.eye(matrix.shape[-1], dtype=matrix.dtype), matrix.shape)
    return jax.lax.fori_loop(0, 31, doubled, (one, matrix))[0]


def step_of(method: Any, period: int, grads: Params, state: State, params: Params) -> tuple[Params, State]:
    """Make the updates of a step, one of which moves the params."""
    update = optax.with_extra_args_support(method).update
    u, state = update(grads, state, params)
    if period == 1:
        return u, state

    def more(_, carry):
        total, state = carry
        u, state = update(grads, state, params)
        return jax.tree.map(jnp.add, total, u), state

    return jax.lax.fori_loop(1, period, more, (u, state))


def is_float(leaf: Any) -> bool:
    """Whether a leaf holds real floating numbers."""
    return jnp.issubdtype(jnp.asarray(leaf).dtype, jnp.floating)


def _tiny(leaf: jax.Array) -> jax.Array:
    kind = jnp.finfo(leaf.dtype)
    return jnp.asarray(max(_TINY, float(kind.tiny) * 1e4) if kind.bits == 64 else float(kind.tiny) * 1e4, leaf.dtype)

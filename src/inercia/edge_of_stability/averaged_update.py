"""What the central flow needs of any optax transformation, from numbers that `averaged_reading` finds.

With the state split as in `frozen_update`, u = u_g g + u_m m, m+ = B m + C g, elementwise, and nu+ = T(nu, g, m), even
in (g, m):

    direction   u = u_m B^{-1} m+ + ..., so that each memory has the share u_m B^{-1} (1-B)^{-1} C of the answer to a
                constant gradient, and forgets at -log B; the rest of the answer is the gradient's own
    nu'         [T(nu, g, m) - nu + (1/2) T'' Cov(g)] / T_nu       T'' along g and the memory that alternates with it

T is evaluated with counters that are floats, in the middle of an update. nu is taken as an update uses it, after its
change; so the rate is divided by what an update keeps of nu.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from inercia.core.method import Params, State
from inercia.core.optimizer_state import start_state
from inercia.edge_of_stability.averaged_method import AveragedMethod, Memory, Moment
from inercia.edge_of_stability.frozen_update import Reading, frozen, step_of, steps_seen

#: Stands for the infinite P of a parameter that is never moved.
UNMOVED = 1e30
#: A memory that keeps less than this of itself stands for the gradient at once.
KEPT = 1e-3


class Slot(NamedTuple):
    """A memory of a leaf of the params."""

    decay: float  # B
    share: float  # of the answer to a constant gradient
    answer: float  # its value for a constant gradient of 1
    alternating: float  # its value before an update of gradient 1, where they are 1, -1, 1, ...


class Read(NamedTuple):
    """What was read off an update; hashable."""

    method: Any
    own: Reading
    structure: Any  # of the params
    shapes: tuple[tuple[int, ...], ...]  # of their leaves
    slots: tuple[tuple[Slot, ...], ...]  # for every leaf; in the order of `own.memory`
    averaged: tuple[tuple[int, ...], ...]  # for every leaf its second moments, as leaves of the state
    bound: float
    decays: bool  # whether the update shrinks params by itself
    free: float = 0.0  # the bound that held if it did not

    @property
    def size(self) -> int:
        """The number of parameters, n."""
        return sum(map(_size, self.shapes))


#: Of a leaf that has fewer memories than another.
_NO_SLOT = Slot(0.0, 0.0, 0.0, 0.0)


def as_averaged(read: Read) -> AveragedMethod:
    """Return the method as averaged over an oscillation."""
    period, shapes, copies = read.own.period, read.shapes, max(map(len, read.averaged), default=0)
    many = max(map(len, read.slots), default=0)
    held = [[slots[k] if k < len(slots) else _NO_SLOT for slots in read.slots] for k in range(many)]

    def after(nu, g, memories, w, time):
        """T of the update in whose middle the time is."""
        state = state_of(read, nu, memories, time / period - 0.5)
        moved = step_of(read.method, period, _tree(read, g), state, _tree(read, w))[1]
        return second_moments_of(read, jax.tree.leaves(moved), nu)

    def before(at, g):
        """The memories that the update finds, in proportion to what a constant gradient makes of them."""
        found = []
        for slots, m in zip(held, at.m.reshape(-1, len(g)), strict=True):
            b = _vector(shapes, [s.decay for s in slots])
            found.append(jnp.where(b > KEPT, (m - (1 - b) * g) / jnp.maximum(b, KEPT), g))
        return [m * _vector(shapes, [s.answer for s in slots]) for slots, m in zip(held, found, strict=True)]

    def changed(at, g):
        """T at a point, as a function of nu, g and the memories; and these."""
        memories = before(at, g)
        return lambda nu, g, m: after(nu, g, m, at.w, at.time), (at.nu, g, memories)

    def kept(T, nu, g, memories):
        return jax.jvp(lambda nu: T(nu, g, memories), (nu,), (jnp.ones_like(nu),))[1]

    def nu_rate(at, g):
        T, here = changed(at, g)
        return (T(*here) - at.nu) / kept(T, *here) / period

    def response(at, g):
        T, (nu, g, memories) = changed(at, g)
        along = (jnp.ones_like(g), [_vector(shapes, [s.alternating for s in slots]) for slots in held])

        def slope(g, memories):
            return jax.jvp(partial(T, nu), (g, memories), along)[1]

        return 0.5 * jax.jvp(slope, (g, memories), along)[1] / kept(T, nu, g, memories) / period

    def first_nu(theta, g):
        fresh = jax.tree.leaves(start_state(read.method, theta))
        nu, none = second_moments_of(read, fresh, jnp.ones(copies * len(g))), []
        T = partial(after, w=ravel_pytree(theta)[0], time=0.5 * period)
        return nu + (T(nu, g, none) - nu) / (1 + jnp.sqrt(kept(T, nu, g, none)))

    return AveragedMethod(
        read.bound, period, partial(_scale, read), tuple(_memory(read, slots) for slots in held), first_nu, nu_rate,
        response, copies, still=partial(_still, read) if read.decays else None,
    )  # fmt: skip


def _memory(read: Read, slots: list[Slot]) -> Memory:
    """Return how a memory of every leaf forgets."""
    decay, share = (_vector(read.shapes, part) for part in ([s.decay for s in slots], [s.share for s in slots]))
    rate = -jnp.log(jnp.maximum(decay, KEPT))
    corrected = _vector(read.shapes, [clock is not None for clock in read.own.clocks]) > 0
    return Memory(rate / read.own.period, 1 - rate * decay / (1 - decay), share, corrected)


def _scale(read: Read, nu: jax.Array, time: Any) -> jax.Array:
    """Return P of the update in whose middle the time is, (n,)."""
    state = state_of(read, nu, [], time / read.own.period + 0.5)
    answer = _flat(frozen(read.method, read.own, state, zeros_like_params(read)).answer(steps_seen(read.own, state)))
    return jnp.where(answer == 0, UNMOVED, -1 / jnp.where(answer == 0, 1.0, answer))


def _still(read: Read, at: Moment) -> jax.Array:
    """Return w' without gradient."""
    period = read.own.period
    state = state_of(read, at.nu, [], (at.time + 0.5) / period - 0.5)
    moved, _ = step_of(read.method, period, zeros_like_params(read), state, _tree(read, at.w))
    return _flat(jax.tree.leaves(moved)) / period


def zeros_like_params(read: Read) -> Params:
    """Return params that are 0."""
    return jax.tree.unflatten(read.structure, [jnp.zeros(shape) for shape in read.shapes])


def state_of(read: Read, nu: jax.Array, memories: list[jax.Array], steps: Any) -> State:
    """Return a state of the method.

    Args:
        read: what was read.
        nu: (q n,), second moments.
        memories: (n,) each; none for zeros.
        steps: made; the counters show it, as floats.
    """
    fresh = start_state(read.method, zeros_like_params(read))
    leaves, structure = jax.tree.flatten(fresh)
    leaves = [
        jnp.asarray(steps, float) * by + jnp.asarray(leaf, float) if by else leaf
        for leaf, by in zip(leaves, read.own.counters, strict=True)
    ]
    for part, indices in ((nu, read.averaged), (jnp.concatenate(memories) if memories else None, read.own.memory)):
        if part is None:
            continue
        for block, at in zip(part.reshape(-1, read.size), _columns(indices), strict=True):
            for i, piece in zip(at, _pieces(read, block), strict=True):
                if i is not None:
                    leaves[i] = piece.astype(leaves[i].dtype)
    return jax.tree.unflatten(structure, leaves)


def memories_of(read: Read, m: jax.Array) -> list[jax.Array]:
    """Return the memories (n,) that stand where a flow's m (s n,) does."""
    answers = _columns(tuple(tuple(slot.answer for slot in slots) for slots in read.slots))
    blocks = m.reshape(-1, read.size)
    return [block * _vector(read.shapes, [a or 0.0 for a in at]) for block, at in zip(blocks, answers, strict=True)]


def second_moments_of(read: Read, leaves: list, otherwise: jax.Array) -> jax.Array:
    """Return the second moments (q n,) among a state's leaves; `otherwise` where a parameter has none."""
    blocks = []
    for block, at in zip(otherwise.reshape(-1, read.size), _columns(read.averaged), strict=True):
        pieces = _pieces(read, block)
        blocks += [jnp.ravel(p if i is None else leaves[i]).astype(float) for i, p in zip(at, pieces, strict=True)]
    return jnp.concatenate(blocks) if blocks else otherwise


def _columns(indices: tuple[tuple[Any, ...], ...]) -> list[list[Any]]:
    """Return for the first, second, ... of every leaf's entries a list over leaves, None where it has fewer."""
    return [[at[k] if k < len(at) else None for at in indices] for k in range(max(map(len, indices), default=0))]


def _pieces(read: Read, vector: jax.Array) -> list[jax.Array]:
    """Cut a vector (n,) into the leaves of the params."""
    ends = np.cumsum([_size(shape) for shape in read.shapes])[:-1]
    return [piece.reshape(shape) for piece, shape in zip(jnp.split(vector, ends), read.shapes, strict=True)]


def _tree(read: Read, vector: jax.Array) -> Params:
    return jax.tree.unflatten(read.structure, _pieces(read, vector))


def _flat(leaves: list) -> jax.Array:
    return jnp.concatenate([jnp.ravel(leaf) for leaf in leaves]).astype(float)


def _vector(shapes: tuple, values: list) -> jax.Array:
    """Return (n,): one number for every leaf of the params."""
    return jnp.concatenate([jnp.full(_size(shape), float(v)) for shape, v in zip(shapes, values, strict=True)])


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))

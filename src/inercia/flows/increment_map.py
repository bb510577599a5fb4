"""An update as a map of params and moments: z+ = z + G(z), z all of them as one vector, counters apart."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from inercia.core import tree
from inercia.core.method import Params, State
from inercia.core.optimizer_state import update_of

#: Of a second moment.
_TINY = 1e-290


class Increment(NamedTuple):
    """The map G of a method on a loss."""

    method: Any
    loss: Any
    counters: tuple[bool, ...]  # which leaves of the state count updates
    positive: tuple[bool, ...]  # which are second moments, taken by their size where an oscillation makes them negative

    def split(self, state: State) -> list:
        """Return the moments."""
        return [s for s, c in zip(jax.tree.leaves(state), self.counters, strict=True) if not c]

    def joined(self, state: State, moments: list, count: Any) -> State:
        """Return the state with other moments and another count."""
        rest = iter(moments)
        leaves = [count if c else next(rest) for c in self.counters]
        return jax.tree.unflatten(jax.tree.structure(state), leaves)

    def __call__(self, params: Params, state: State, z: jax.Array, count: Any) -> jax.Array:
        """Return G(z) of update number `count`; params and state give the form."""
        _, rebuild = tree.ravel_real((params, self.split(state)))
        theta, moments = rebuild(z)
        own = [p for p, c in zip(self.positive, self.counters, strict=True) if not c]
        # Where no gradient comes, the root of a second moment of 0 has no slope.
        seen = [jnp.maximum(jnp.abs(m), _TINY) if p else m for m, p in zip(moments, own, strict=True)]
        updates, after, _ = update_of(self.method, self.loss, theta, self.joined(state, seen, count))
        moved = [new - old for new, old in zip(self.split(after), moments, strict=True)]
        return tree.ravel_real((jax.tree.map(lambda u, t: u.astype(t.dtype), updates, theta), moved))[0]


def positive_moments(
    method: Any, loss: Any, params: Params, state: State, counters: tuple[bool, ...]
) -> tuple[bool, ...]:
    """Check that the counters count every update; return which leaves keep above 0 whatever the gradient's sign."""
    grads = jax.tree.map(lambda g: jnp.where(g == 0, 1.0, g), jax.grad(loss)(params))
    either = [
        jax.tree.leaves(update_of(method, loss, params, state, g)[1])
        for g in (grads, jax.tree.map(jnp.negative, grads))
    ]
    for old, new, counts in zip(jax.tree.leaves(state), either[0], counters, strict=True):
        if counts and (jnp.ndim(new) or int(new) != int(old) + 1):
            raise ValueError("rod and edge flow need counters that count every update, but one here does not.")
    return tuple(
        not c and not jnp.iscomplexobj(a) and bool((a >= 0).all() & (b >= 0).all() & (a > 0).any())
        for a, b, c in zip(*either, counters, strict=True)
    )

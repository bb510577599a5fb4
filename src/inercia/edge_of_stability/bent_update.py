"""Updates that are smooth, but not linear in gradient and memory once their second moments are frozen: smoothed signs.

An update is linearised at small gradients. With second moments so large that no gradient changes them, what it makes of
t g and t m must be t times what it makes of g and m, for every t at which it takes the same branches. Those of a clip
change: it acts on some gradients only, and is looked for along a path (`acting_clips`).

Where an update bends, swings do not grow until the curvature falls back to a bound: they saturate, and the iterates
stay beyond it. sign_sgd(0.05, smooth=0.1) in the valley (1 + x^2) y^2 / 2 goes on to x = 2.33, where its linear
update would hold it at x = 1.73.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from inercia.core.method import Params, State
from inercia.edge_of_stability.frozen_update import Reading, step_of
from inercia.flows.nonsmooth_trace import operations

#: Factor of second moments beside which no gradient counts.
_LARGE = 1e30
#: Factors of gradients and memories; the first is the linear update's.
_SIZES = (1e-4, *(10.0**n for n in range(9)))
#: Relative difference that counts.
_BENT = 0.05


def bends(method: Any, own: Reading, even: set[int], state: State, grads: Params) -> bool:
    """Return whether the update bends on its way to large gradients.

    Args:
        method: any optax transformation.
        own: what the leaves of its state are.
        even: which of them are second moments.
        state: after steps on gradients like `grads`.
        grads: gradients, small.
    """
    params = jax.tree.map(np.zeros_like, grads)  # no decay, beside which the answer would round away
    leaves, structure = jax.tree.flatten(state)
    for i in even:
        leaves[i] = np.asarray(_LARGE * np.asarray(leaves[i], float), leaves[i].dtype)
    raised = jax.tree.unflatten(structure, leaves)
    linear, usual = _answer(method, own, raised, grads, params, _SIZES[0])
    for size in _SIZES[1:]:
        found, branches = _answer(method, own, raised, grads, params, size)
        same = all((np.asarray(a) == np.asarray(b)).all() for a, b in zip(usual, branches, strict=True))
        apart = np.linalg.norm(found - linear)
        if same and np.isfinite(apart) and apart > _BENT * np.linalg.norm(linear):
            return True
    return False


@partial(jax.jit, static_argnums=(0, 1))
def _answer(method: Any, own: Reading, state: State, grads: Params, params: Params, size: Any) -> tuple:
    """Return the update's answer to gradients and memories times `size`, over it, and the branches that it takes."""
    memory = {i for slots in own.memory for i in slots}
    leaves, structure = jax.tree.flatten(state)

    def scaled(by):
        held = [(leaf * by).astype(leaf.dtype) if i in memory else leaf for i, leaf in enumerate(leaves)]
        return jax.tree.map(lambda g: g * by, grads), jax.tree.unflatten(structure, held)

    def update(g, state):
        return step_of(method, own.period, g, state, params)

    moved, still = (ravel_pytree(update(*scaled(by))[0])[0] for by in (size, 0.0))
    taken = operations(update, *scaled(size))
    return (moved - still) / size, [jnp.asarray(0 if o.branch is None else o.branch) for o in taken]

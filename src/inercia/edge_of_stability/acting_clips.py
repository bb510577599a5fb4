"""Where along a central flow the update is not the linear one that was read off it, because a clip acts.

An update is linearised at small gradients, where clips are idle. Here the branch that each of its operations takes is
compared between the gradient of a point and one a million times smaller, for as many points of a path.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from inercia.core.method import Params
from inercia.edge_of_stability.averaged_method import Moment
from inercia.edge_of_stability.averaged_update import Read, memories_of, state_of
from inercia.edge_of_stability.frozen_update import step_of
from inercia.flows.nonsmooth_trace import operations
from inercia.flows.smoothness import nonsmooth_operations

#: Points that are looked at, and the size of the small gradient.
_POINTS, _SMALL = 16, 1e-6


def first_acting_clip(read: Read, loss: Any, theta: Params, points: Moment) -> float | None:
    """Return the first time, in updates, at which the update takes another branch than for small gradients.

    Args:
        read: what was read off the update.
        loss: params -> scalar.
        theta: params, for their structure.
        points: of the flow, leading axis = time.
    """
    if not len(points.time) or not nonsmooth_operations(read.method, theta):
        return None
    for n in np.unique(np.linspace(0, len(points.time) - 1, _POINTS).astype(int)):
        there: Any = [np.asarray(part[n]) for part in points]
        at = Moment(*there)
        if any((np.asarray(a) != np.asarray(b)).any() for a, b in zip(*_branches(read, loss, theta, at), strict=True)):
            return float(points.time[n])
    return None


@partial(jax.jit, static_argnums=(0, 1))
def _branches(read: Read, loss: Any, theta: Params, at: Moment) -> tuple[list, list]:
    """Return the branches that the update takes on the gradient of a point, and on a small one."""
    params = ravel_pytree(theta)[1](at.w)
    grads = jax.grad(loss)(params)

    def taken(size):
        state = state_of(read, size**2 * at.nu, [size * m for m in memories_of(read, at.m)], at.time / read.own.period)

        def update(g):
            return step_of(read.method, read.own.period, g, state, params)

        small = jax.tree.map(lambda g: size * g, grads)
        return [jnp.asarray(0 if o.branch is None else o.branch) for o in operations(update, small)]

    return taken(1.0), taken(_SMALL)

"""Whether iterates cross what is not smooth, or slide along it: the test is to halve dt.

Over a fixed time, count how often the update changes its branch: the side of a sign or maximum, the value of a
rounding, the choice of a comparison, and also the direction in which each parameter moves.

    crossed    the changes stay as many as dt is halved: a flow exists, and is followed between them
    sliding    they double, because the iterates go to and fro in every step: the limit is a differential inclusion

Source: Filippov, Differential Equations with Discontinuous Righthand Sides, 1988 (sliding modes).
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inercia.core import check, tree
from inercia.core.method import Family, Params
from inercia.core.optimizer_state import start_state, update_of
from inercia.core.partial_loss import separated
from inercia.flows.nonsmooth_trace import operations

#: Growth of the changes per halving of dt from which they double, and the least number of changes to judge by.
_DOUBLES, _FEW = 1.5, 8
#: Steps smaller than this, over the size of the params, have no direction.
_ROUNDING = 1e-12
#: The direction in which params move, among the names of operations.
DIRECTION = "direction of the update"


class Sliding(NamedTuple):
    """How often iterates change the branch of what is not smooth."""

    dts: np.ndarray  # (n,), each half of the one before
    changes: dict[str, np.ndarray]  # operation -> (n,) changes of branch over the time, all entries together
    slides: list[str]  # operations whose changes double; empty where a flow exists


def sliding(
    family: Family, loss: Any, params: Params, time: float, dt: float = 1 / 16, *, halvings: int = 2, state: Any = None
) -> Sliding:
    """Tell whether the iterates of a family slide along what is not smooth, or cross it.

    Args:
        family: dt -> transformation, refined by dt, for example `lambda dt: optax.sign_sgd(0.1 * dt)`.
        loss: params -> scalar.
        params: where to start; computed in float64.
        time: length, in iterations; a multiple of dt. It must reach the stretch in question: as a rule sliding begins
            at a minimum.
        dt: the largest step.
        halvings: of dt, at least 1; each costs twice the updates of the one before.
        state: the first state, or dt -> state; by default that of the member's `init`.

    Returns:
        Sliding: the changes of branch for each dt, and the operations along which the iterates slide.

    Raises:
        ValueError: a time that is not a multiple of dt, or halvings below 1.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> bowl, start = lambda x: jnp.sum(x**2), jnp.array([1.0, 0.3])
        >>> sliding(lambda dt: optax.sign_sgd(0.1 * dt), bowl, start, 16.0).slides
        ['direction of the update', 'sign']
        >>> sliding(lambda dt: optax.chain(optax.clip(0.5), optax.sgd(0.1 * dt)), bowl, start, 16.0).slides
        []
    """
    check.positive("time", time)
    check.positive("dt", dt)
    check.differentiable("params", params)
    halvings = check.integer("halvings", halvings)
    steps = round(time / dt)
    if steps < 1 or abs(steps * dt - time) > 1e-9 * time:
        raise ValueError(f"time must be a multiple of dt, but time = {time:g} and dt = {dt:g}.")
    dts, counts = dt * 0.5 ** np.arange(halvings + 1), []
    with jax.enable_x64(True):
        theta = tree.float64(params)
        program, data = separated(loss)
        data = tree.float64(data)
        check.loss_of(program.bind(data), theta)
        for k, step in enumerate(dts):
            method = family(float(step))
            begin = start_state(method, theta, state(float(step)) if callable(state) else state)
            counted = _count(method, program, data, theta, begin, steps * 2**k)
            counts.append({name: int(n) for name, n in counted.items()})
    changes = {name: np.array([count.get(name, 0) for count in counts]) for name in sorted(set().union(*counts))}
    slides = [name for name, n in changes.items() if n[-1] >= _FEW and n[-1] >= _DOUBLES * n[-2]]
    return Sliding(dts, changes, slides)


@partial(jax.jit, static_argnums=(0, 1))
def _count(method, program, data, params, state, steps):
    """Return how often the branches of each operation change in `steps` updates."""
    loss = program.bind(data)

    def look(params, state, heading):
        grads = jax.tree.map(jnp.conj, jax.grad(loss)(params))
        branches: dict[str, list] = {DIRECTION: []}
        for o in operations(lambda g: update_of(method, loss, params, state, g)[:2], grads):
            if o.branch is not None:
                branches.setdefault(o.name, []).append(o.branch)
        updates, state, _ = update_of(method, loss, params, state, grads)
        for u, p, before in zip(*(jax.tree.leaves(tree.to_real(x)) for x in (updates, params)), heading, strict=True):
            size = jnp.max(jnp.abs(p), initial=1.0)
            branches[DIRECTION].append(jnp.where(jnp.abs(u) > _ROUNDING * size, u > 0, before))
        return jax.tree.map(jnp.add, params, updates), state, branches

    def step(_, carry):
        params, state, before, counts = carry
        params, state, after = look(params, state, before[DIRECTION])
        changed = {name: sum(jnp.sum(a != b) for a, b in zip(before[name], after[name], strict=True)) for name in after}
        return params, state, after, jax.tree.map(jnp.add, counts, changed)

    level = [jnp.zeros(leaf.shape, bool) for leaf in jax.tree.leaves(tree.to_real(params))]
    params, state, branches = look(params, state, level)
    counts = dict.fromkeys(branches, jnp.asarray(0))
    return jax.lax.fori_loop(1, steps, step, (params, state, branches, counts))[3]

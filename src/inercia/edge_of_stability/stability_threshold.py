"""The largest curvature at which any optax transformation is stable.

On f = l theta^2 / 2 the update of z = (theta, state) is linearised at theta = 0, with the second moments where
gradients of a given size g put them. There they are even in the gradient and drop out of the first order, so that what
is left is the linear map with a **frozen preconditioner**, J(l); the method is stable while its multipliers lie in the
unit disc, and the threshold is the l at which the first one leaves it.

The same linear map has a gain: the steps that follow a small constant gradient d tend to -gain d, gain = 1/P, where P
is the preconditioner (1/a for GD, (sqrt(v) + eps)/a for Adam). bound = threshold / P is the bound on the preconditioned
sharpness: 2 for GD and RMSProp, (2+2b)/(1-b) for momentum and Adam, 1 for the lecture's order.

Transformations that step once in k updates (MultiSteps) are linearised per step.

Source: Cohen et al. 2021, 2022 (adaptive methods at the edge of stability).
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from inercia.core import check
from inercia.edge_of_stability.frozen_update import is_float, step_of
from inercia.edge_of_stability.state_reading import fresh_state, steps_apart

#: Updates on constant gradients until the second moments stand.
WARM = 2**15
#: Corrections that freeze them.
FROZEN = 400
#: Curvature times gain where the search begins and where it gives up.
_FROM, _TO = 1e-3, 1e6
_OUTSIDE = 1e-9
#: Condition number of a memory that never fades.
_FOREVER = 1e12


class Threshold(NamedTuple):
    """Where a method loses its stability."""

    curvature: float  # the largest stable one
    gain: float  # 1/P: step per unit of a small constant gradient, in the long run
    bound: float  # curvature * gain, the bound on the preconditioned sharpness
    multipliers: np.ndarray  # complex, at the edge, largest modulus first


def threshold(transformation: optax.GradientTransformation, gradient: float = 1.0, *, warm: int = WARM) -> Threshold:
    """Compute the largest stable curvature of an elementwise transformation, for second moments of a given size.

    Args:
        transformation: an inercia method or any optax transformation, smooth at zero and acting on each parameter on
            its own; it is tried on a single parameter.
        gradient: size g > 0 of the gradients that set the second moments; methods without them do not depend on it.
        warm: updates made on gradients g and -g before; schedules are read after them.

    Raises:
        ValueError: a gradient that is not above 0; an update that needs more than gradients, state and params, that is
            not finite or does not answer to the gradient at zero (sign methods), whose memory never fades
            (schedule_free), or that stays stable at every curvature up to 10^6 / gain.

    Example:
        >>> import optax
        >>> result = threshold(optax.adam(1e-3, b1=0.5))
        >>> round(result.bound, 6), round(float(result.multipliers[0].real), 6)
        (6.0, -1.0)
    """
    from scipy.optimize import brentq  # noqa: PLC0415  loaded when used

    check.positive("gradient", check.number("gradient", gradient))
    warm = check.integer("warm", warm)
    with jax.enable_x64(True):
        theta = jnp.zeros(())
        start = fresh_state(transformation, theta)
        if not all(jnp.size(leaf) == 1 for leaf in jax.tree.leaves(start) if is_float(leaf)):
            raise ValueError(
                "threshold tries the update on a single parameter, and needs a state of single numbers for it, but it "
                f"holds the shapes {sorted({jnp.shape(leaf) for leaf in jax.tree.leaves(start)})}."
            )
        period = steps_apart(transformation, theta, start)
        found = _linearised(transformation, jnp.asarray(float(gradient)), start, warm, period)
        constant, linear = map(np.asarray, found)
    if not (np.isfinite(constant).all() and np.isfinite(linear).all()):
        raise ValueError(
            "threshold needs an update that is smooth at gradient 0, but its derivative there is not finite."
        )
    seen = _seen(constant, linear)
    constant, linear = constant[np.ix_(seen, seen)], linear[np.ix_(seen, seen)]
    gain = _gain(constant, linear)
    if not gain > 0:
        raise ValueError(
            "threshold needs an update that answers to small gradients, but this one does not: is it a sign method?"
        )

    def outside(x):
        return float(np.abs(np.linalg.eigvals(constant + x / gain * linear)).max()) - 1

    low = _FROM
    if outside(low) > _OUTSIDE:
        return Threshold(0.0, gain, 0.0, _sorted(constant + low / gain * linear))
    high = low
    while outside(high) <= _OUTSIDE:
        low, high = high, high * 1.05
        if high > _TO:
            raise ValueError(f"the update stays stable at every curvature up to {_TO:.0e} / gain.")
    edge: Any = brentq(outside, low, high, xtol=1e-14 * high) if outside(low) < 0 else low
    bound = float(edge)
    return Threshold(bound / gain, gain, bound, _sorted(constant + bound / gain * linear))


@partial(jax.jit, static_argnums=(0, 3, 4))
def _linearised(transformation, gradient, start, warm, period):
    """Return C and L of J(l) = C + l L, over z = (theta, floats of the state)."""
    update, theta = partial(step_of, transformation, period), jnp.zeros(())

    def settled(g):
        return jax.lax.fori_loop(0, warm, lambda _, s: update(g, s, theta)[1], start)

    # What is odd in the gradient (first moments) cancels, what is even (second moments) stays.
    state = _floats(lambda a, b: (a + b) / 2, settled(gradient), settled(-gradient))

    # An update without gradient ages the second moments; frozen ones stand where that update leaves them settled.
    def corrected(_, before):
        aged = update(0 * theta, before, theta)[1]
        return _floats(lambda stand, x, z: stand + x - z, state, before, aged)

    state = jax.lax.fori_loop(0, FROZEN, corrected, state)
    leaves, structure = jax.tree.flatten(state)
    floats = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.inexact)]

    def advance(z, curvature):
        now = list(leaves)
        for n, i in enumerate(floats):
            now[i] = z[1 + n].reshape(leaves[i].shape).astype(leaves[i].dtype)
        step, after = update(curvature * z[0], jax.tree.unflatten(structure, now), z[0])
        after = jax.tree.leaves(after)
        return jnp.stack([z[0] + step.reshape(()), *(after[i].reshape(()) for i in floats)])

    rest = jnp.stack([theta, *(leaves[i].reshape(()) for i in floats)])
    constant = jax.jacfwd(advance)(rest, 0.0)
    return constant, jax.jacfwd(advance)(rest, 1.0) - constant


def _floats(function, tree, *rest):
    """Map a function over the leaves that are floats; of the others keep the first."""
    return jax.tree.map(lambda a, *r: function(a, *r) if jnp.issubdtype(a.dtype, jnp.inexact) else a, tree, *rest)


def _seen(constant: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """Return the entries of z that theta ever depends on; the others' multipliers say nothing about stability."""
    touches = (np.abs(constant) + np.abs(linear)) > 0
    seen = np.zeros(len(touches), bool)
    seen[0] = True
    for _ in touches:
        seen |= touches[seen].any(axis=0)
    return np.flatnonzero(seen)


def _gain(constant: np.ndarray, linear: np.ndarray) -> float:
    """Return the step per unit of a constant gradient: theta drifts while the rest of z is at rest."""
    answer = linear[:, 0]  # of the update to a gradient of 1
    rest = np.eye(len(constant) - 1) - constant[1:, 1:]
    if len(rest) and np.linalg.cond(rest) > _FOREVER:
        raise ValueError(
            "threshold needs a memory that fades, but this update keeps every gradient for good, as averages of all "
            "iterates and sums of all gradients do: is it one of those, or is warm too short?"
        )
    memory = np.linalg.solve(rest, answer[1:]) if len(rest) else np.zeros(0)
    return float(-(answer[0] + constant[0, 1:] @ memory))


def _sorted(matrix: np.ndarray) -> np.ndarray:
    values = np.linalg.eigvals(matrix).astype(complex)
    return values[np.argsort(-np.abs(values), kind="stable")]

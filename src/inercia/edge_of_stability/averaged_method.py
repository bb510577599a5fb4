"""What the central flow needs of a method: how it answers to the mean and to the variance of its gradients.

    w'  = S - P^{-1} (mean gradient, as its memory has it) / period        S: weight decay; P(nu, t), elementwise
    nu' = rate(g) + response * Cov(g)                                       second moments, as an update uses them
    bound                                                                   largest stable eigenvalue of P^{-1} H

A memory m, scaled to answer a constant gradient g by g, forgets at the rate r = -log b and starts at (1 - r b/(1-b)) g,
which makes up for the displacement that is lost while it fills. Where the update corrects it for its start it is
divided by what it would be for a constant gradient of 1.

Here it is written down for the methods whose preconditioner is in closed form; `averaged_update` has it for any other
transformation, from what `averaged_reading` reads off its update.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from inercia.core.linear_form import linear_form
from inercia.core.method import Params
from inercia.edge_of_stability.preconditioning import has_rule, rule


class Moment(NamedTuple):
    """The flow at a time."""

    w: jax.Array  # (n,)
    m: jax.Array  # (s n,), memories one after the other; (0,) for none
    nu: jax.Array  # (q n,), (1,) for one of all, (0,) for none
    time: jax.Array  # updates


class Memory(NamedTuple):
    """How the first moments forget; numbers, or arrays (n,), one for each memory."""

    rate: Any  # r, per update
    start: Any  # m(0) / g(theta_0)
    share: Any  # of the direction; the rest is the gradient itself
    corrected: Any  # whether it is divided by what a constant gradient of 1 would give


class AveragedMethod(NamedTuple):
    """A method as the central flow sees it; functions of arrays, for one vector of params (n,)."""

    bound: float
    period: int  # updates per step
    scale: Callable[[jax.Array, Any], jax.Array]  # (nu, time) -> P, (n,), or (1,) where it is one number
    memory: tuple[Memory, ...]
    first_nu: Callable[[Params, jax.Array], jax.Array]  # (theta, g) -> nu(0), half of the first update's change
    nu_rate: Callable[[Moment, jax.Array], jax.Array]  # (at, g) -> nu' without oscillation
    response: Callable[[Moment, jax.Array], jax.Array]  # (at, g) -> (q n,) or (1,), nu' per variance of g
    moments: int  # q: second moments of each parameter
    scalar: bool = False  # whether nu is one number, of all of the gradient
    still: Callable[[Moment], jax.Array] | None = None  # at -> w' without gradient; None for none

    def variances(self, each: jax.Array) -> jax.Array:
        """Return the variances (n,) that nu feels: their sum (1,), or one copy for each second moment."""
        return jnp.sum(each, keepdims=True) if self.scalar else jnp.tile(each, self.moments)

    def slope(self, nu: jax.Array, time: Any, change: jax.Array) -> jax.Array:
        """Return the changes (p, n) of P under changes (p, q n) of nu, q > 0; P is elementwise."""
        size = nu.size // self.moments
        blocks = [jnp.zeros_like(nu).at[s * size : (s + 1) * size].set(1.0) for s in range(self.moments)]
        slopes = jnp.stack([jax.jvp(lambda nu: self.scale(nu, time), (nu,), (block,))[1] for block in blocks])
        return jnp.einsum("pqn,qn->pn", change.reshape(len(change), self.moments, size), slopes)

    def start(self, g: jax.Array) -> jax.Array:
        """Return m(0)."""
        return jnp.concatenate([m.start * g for m in self.memory]) if self.memory else g[:0]

    def direction(self, m: jax.Array, g: jax.Array, time: Any, length: Any) -> tuple[jax.Array, jax.Array]:
        """Return m after `length`, and the mean gradient as the memory has it, along which the stable flow moves."""
        along, after = g * (1 - sum(own.share for own in self.memory)), []
        for own, now in zip(self.memory, m.reshape(-1, len(g)), strict=True):
            fading = jnp.exp(-own.rate * length)
            after.append(fading * now + (1 - fading) * g)
            constant = 1 - (1 - own.start) * jnp.exp(-own.rate * (time + length))
            along = along + own.share * after[-1] / jnp.where(own.corrected, constant, 1.0)
        return (jnp.concatenate(after) if after else m), along


def in_closed_form(method: Any) -> AveragedMethod | None:
    """Return the method as averaged over an oscillation, or None where that is to be read off its update.

    Raises:
        ValueError: a decay that is a schedule.
    """
    form = linear_form(method)
    decayed = getattr(method, "hyper", {}).get("weight_decay")
    if form is None or decayed or form.kind == "nesterov" or (form.kind == "heavy ball" and form.second_moment):
        return None
    if not has_rule(method):
        if not form.constant:
            rule(method)  # says why
        return None
    own, memory = rule(method), ()
    if form.beta:
        b = form.beta
        lost = (1 if form.kind == "explicit" else b) / (1 - b)  # updates
        corrected = form.second_moment is not None and form.second_moment.corrected
        memory = (Memory(-float(np.log(b)), 1 + float(np.log(b)) * lost, 1.0, corrected),)
    decay = own.decay
    rate = 0.0 if decay is None else (1 - decay) / decay

    def scale(nu, time):  # an update scales by what holds in its middle
        return jnp.reshape(jnp.asarray(own.scale(None if decay is None else nu, time + 0.5), float), (-1,))

    def square(g):
        if decay is None:
            return g[:0]
        return jnp.sum(g**2, keepdims=True) if own.scalar else g**2

    def first_nu(theta, g):
        if decay is None:
            return g[:0]
        before = method.init(theta)
        after = method.update(ravel_pytree(theta)[1](g), before, theta)[1]
        before, after = (jnp.atleast_1d(ravel_pytree(state.nu)[0]) for state in (before, after))
        return before + (after - before) / (1 + jnp.sqrt(decay))

    return AveragedMethod(
        own.bound,
        1,
        scale,
        memory,
        first_nu,
        lambda at, g: rate * (square(g) - at.nu),
        lambda at, g: rate * jnp.ones_like(at.nu),
        0 if decay is None else 1,
        own.scalar,
    )

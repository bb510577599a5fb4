"""The smoothed sign, the convex function that it is the gradient of, and what falls along flows.

    S(z) = z / sqrt(z^2 + c^2) = grad K,   K(z) = sum sqrt(z^2 + c^2),   K*(y) = -c sum sqrt(1 - y^2) its conjugate

With G = 1 - b2, rate a and decay w, the flow theta' = -a (S(b1 m + (1-b1) g) + w theta), m' = G (g - m) has

    H = f + K*(w theta)/w + a b1 / (G + a w (1-b1)) (K*(w theta) + K(m) + w m.theta),   |w theta_j| < 1

and for w = 0, H = f + (a b1/G) K(m), with H' = -a [z.S(z) + b1/(1-b1) (z-m).(S(z)-S(m))] <= 0, z = b1 m + (1-b1) g.

Along momentum's falls its energy over a (1-b), f + a |m|^2 / (2 (1-b)), as a sum f + a |v|^2 / 2.

Source: Chen, Liu, Liang & Liu 2024, Lion secretly solves constrained optimization; smoothing and decay derived here.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from inercia.core import check
from inercia.core.method import Number, Params
from inercia.core.transition import chosen, like


def soft_sign(z: jax.Array, c: Number) -> jax.Array:
    """Return z / sqrt(|z|^2 + c^2), elementwise; the sign for c = 0."""
    if check.is_concrete(c) and c == 0:
        return jnp.sign(z)
    return z / jnp.sqrt((z.conj() * z).real + like(c, z) ** 2)


def decayed_kinetic(a: Any, b1: Number, b2: Number, w: Any, mask: Any, c: Number) -> Callable[[Params, Params], Any]:
    """Return (params, m) -> H - f; nan where some |w theta_j| >= 1."""

    def of_leaf(theta: jax.Array, m: jax.Array, w: Any) -> jax.Array:
        kinetic = jnp.sqrt(m**2 + c**2)
        if w == 0:
            return a * b1 / (1 - b2) * kinetic.sum()
        conjugate = -c * jnp.sqrt(1 - (w * theta) ** 2)
        young = conjugate + kinetic + w * m * theta  # at least 0
        return ((conjugate + c) / w + a * b1 / (1 - b2 + a * w * (1 - b1)) * young).sum()

    def total(params: Params, m: Params) -> Any:
        constant(learning_rate=a, weight_decay=w)
        each = jax.tree.map(lambda on: w if on else 0, chosen(mask, params))
        return sum(jax.tree.leaves(jax.tree.map(of_leaf, params, m, each)))

    return total


def constant(**hyper: Any) -> None:
    """Raise where one of these is a schedule."""
    for name, value in hyper.items():
        if callable(value):
            raise TypeError(f"H falls for constant hyperparameters, but {name} is a schedule.")


def falling(a: Any, b: Any, factor: Callable, memory: Callable) -> Callable[[Any, Params, Any], Any]:
    """Return (f, params, state) -> f + factor(a, b) |memory|^2; without memory, b = None, it is f, whatever a."""

    def total(loss: Any, params: Params, state: Any) -> Any:
        if b is None:
            return loss
        constant(**{"learning_rate": a, "the decay": b})
        return loss + factor(a, b) * optax.tree.norm(memory(state), squared=True)

    return total

"""The stochastic flow of a method: what its flow is on average over the batches, and how it scatters.

With F_j = F(g_j, z) the flow of the method at the gradient of batch j, z = (theta, state) and N_b batches,

    dz = mean_j F_j dt' + sqrt(dt) (1/sqrt N_b) sum_j (F_j - mean F) dB_j,      N_b independent Brownian motions

so that the root of the covariance is exact and needs no matrix. Where the flow is linear in the gradient, the sum is
the flow of one gradient, that of the batch losses weighted by dB_j - mean dB: one reverse pass. Otherwise each batch
has its own. Leaves of the state that are not linear in the gradient, as averages of |g|^2, move by their mean alone:
the noise of an average of squares is of higher order in 1-b, and a Brownian one would make it negative.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inercia.core import tree
from inercia.core.linear_form import linear_form
from inercia.core.method import Method, Params, State


class StochasticFlow(NamedTuple):
    """Drift and noise on z, the params and then the state as one real vector."""

    method: Method
    loss: Callable  # (params, batch) -> scalar
    batches: Any  # tree, leading axis N_b
    rebuild: Callable  # z -> (params, state)
    size: int  # real numbers of the params
    linear: np.ndarray  # for each entry of z, whether its rate is linear in the gradient
    noise: float = 1.0  # factor of the covariance of the batches' gradients
    order: int = 1

    @property
    def n_batches(self) -> int:
        """N_b."""
        return len(jax.tree.leaves(self.batches)[0])

    def drift(self, z: jax.Array) -> jax.Array:
        """Return mean_j F_j; to second order (`sgd`), along the gradient of f + (a/4) |g|^2."""
        if not self.linear.all():
            return jax.vmap(partial(_rate, self, z))(self.spread(z)).mean(axis=0)
        theta = z[: self.size]
        g = self._gradient(theta)
        if self.order == 2:
            form: Any = linear_form(self.method)
            g = g + form.learning_rate / 2 * jax.jvp(self._gradient, (theta,), (g,))[1]
        return _rate(self, z, g)

    def scattered(self, z: jax.Array, dB: jax.Array) -> jax.Array:
        """Return sqrt(dt) / sqrt(N_b) sum_j (F_j - mean F) dB_j."""
        weights = (dB - dB.mean()) * jnp.sqrt(self.method.dt / self.n_batches)
        if not self.linear.all():
            moved = weights @ jax.vmap(partial(_rate, self, z))(self.spread(z))
            return jnp.where(self.linear | (np.arange(len(z)) < self.size), moved, 0.0)
        pushed = jax.grad(lambda theta: weights @ self._losses(theta))(z[: self.size])
        return _rate(self, z, jnp.sqrt(self.noise) * pushed) - _rate(self, z, 0 * pushed)

    def spread(self, z: jax.Array) -> jax.Array:
        """Return the gradients of the batches (N_b, P), their differences from the mean times sqrt(noise)."""
        grads = jax.vmap(jax.grad(self._loss), (None, 0))(z[: self.size], self.batches)
        mean = grads.mean(axis=0)
        return grads if self.noise == 1 else mean + jnp.sqrt(self.noise) * (grads - mean)

    def _loss(self, theta: jax.Array, batch: Any) -> jax.Array:
        return self.loss(_params(self, theta), batch)

    def _losses(self, theta: jax.Array) -> jax.Array:
        return jax.vmap(self._loss, (None, 0))(theta, self.batches)

    def _gradient(self, theta: jax.Array) -> jax.Array:
        return jax.grad(lambda theta: self._losses(theta).mean())(theta)


def count_of_batches(batches: Any) -> int:
    """Return N_b, or raise unless all arrays of the tree share it as their leading axis."""
    counts = {np.shape(leaf)[0] if np.ndim(leaf) else 0 for leaf in jax.tree.leaves(batches)}
    if len(counts) != 1 or counts == {0}:
        raise ValueError(f"batches must share one leading axis of at least 1, but theirs are {sorted(counts)}.")
    return counts.pop()


def stochastic_flow(method: Method, loss: Callable, params: Params, state: State, batches: Any) -> StochasticFlow:
    """Return the stochastic flow of a method; params, state (its counter the time) and batches in float64."""
    z, rebuild = tree.ravel_real((params, state))
    size = tree.ravel_real(params)[0].size
    made = StochasticFlow(method, loss, batches, rebuild, size, np.ones(z.size, bool))
    return made._replace(linear=_linear(made, z))


def _params(equation: StochasticFlow, theta: jax.Array) -> Params:
    return equation.rebuild(jnp.concatenate([theta, jnp.zeros(len(equation.linear) - equation.size)]))[0]


def _rate(equation: StochasticFlow, z: jax.Array, g: jax.Array) -> jax.Array:
    """Return the method's flow at z for the gradient g."""
    theta, state = equation.rebuild(z)
    return tree.ravel_real(equation.method.flow(_params(equation, g), state, theta))[0]


def _linear(equation: StochasticFlow, z: jax.Array) -> np.ndarray:
    """Say for each entry of z whether its rate is linear in the gradient, at averages and a time that are not 0."""
    g = jnp.asarray(np.random.default_rng(0).normal(size=equation.size))
    warm = jnp.concatenate([z[: equation.size], jnp.ones(len(z) - equation.size)])
    rates = jax.jit(jax.vmap(lambda factor: _rate(equation, warm, factor * g)))
    none, once, twice = np.asarray(rates(jnp.arange(3.0)))
    return abs(twice - 2 * once + none) <= 1e-9 * (abs(twice) + abs(none) + 1e-300)

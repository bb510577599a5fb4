"""The Gauss-Newton matrix of a loss of a network's outputs, and the Fisher matrices, as operators.

    G = J^T (d^2 c / dz^2) J        of f(theta) = c(z(theta)), J = dz/dtheta: the Hessian without the change of J
    F = 1/N sum_n g_n g_n^T         the empirical Fisher, g_n = grad l_n: G of c(l) = |l|^2 / (2 N), l the rows' losses

The Fisher matrix is the expectation of the latter over labels drawn from the network itself. Where c is the mean
negative logarithm of a likelihood whose natural parameters are the outputs, as cross-entropy of logits or squared
errors, it is G.

Sources: Schraudolph 2002; Martens 2020, New insights and perspectives on the natural gradient method; Kunstner,
Balles & Hennig 2019, on what the empirical Fisher is not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from inercia.core.method import Params


@dataclass(frozen=True)
class GaussNewton:
    """A loss that brings a matrix in place of its Hessian."""

    outputs: Callable[[Params], Any]
    criterion: Callable[[Any], jax.Array]

    def __call__(self, params: Params) -> jax.Array:
        """Return the loss."""
        return self.criterion(self.outputs(params))

    def before(self, change: Callable) -> "GaussNewton":
        """Return the same of other params, from which `change` makes these."""
        return GaussNewton(lambda params: self.outputs(change(params)), self.criterion)

    def product(self, params: Params) -> Callable[[Params], Params]:
        """Return the map v -> G v at these params, a tree of what it needs of them."""
        found, push = jax.linearize(self.outputs, params)
        return Partial(_product, push, jax.linearize(jax.grad(self.criterion), found)[1])

    def widened(self, widen: Callable) -> "GaussNewton":
        """Return the same with a network that computes in another precision."""
        return GaussNewton(widen(self.outputs), self.criterion)


def _product(push: Callable, curved: Callable, vector: Params) -> Params:
    return jax.linear_transpose(push, vector)(curved(push(vector)))[0]


def gauss_newton(outputs: Callable[[Params], Any], criterion: Callable[[Any], Any]) -> GaussNewton:
    """Make a loss whose curvature is that of the Gauss-Newton matrix J^T (d^2 c / dz^2) J.

    Args:
        outputs: params -> z, an array or tree of real arrays: the network on its data.
        criterion: z -> real scalar; where it is convex, as cross-entropy, no eigenvalue is negative.

    Returns:
        A loss, params -> criterion(outputs(params)), that `curvature`, `trace`, `density`, `hvp` and `sharpness` take:
        of it they see this matrix. With the mean cross-entropy of logits, or mean squared errors / 2, it is the Fisher
        matrix too.

    Raises:
        TypeError: what is no function.

    Example:
        >>> x, y = jnp.array([1.0, 2.0]), jnp.array([0.0, 3.0])
        >>> loss = gauss_newton(lambda w: jnp.tanh(w * x), lambda z: jnp.sum((z - y) ** 2) / 2)
        >>> import inercia
        >>> float(inercia.curvature(loss, jnp.zeros(())).values[0])  # sum of (dz/dw)^2
        5.0
    """
    for name, part in (("outputs", outputs), ("criterion", criterion)):
        if not callable(part):
            raise TypeError(f"{name} must be a function, but it is {type(part).__name__}.")
    return GaussNewton(outputs, criterion)


def empirical_fisher(losses: Callable[[Params], Any]) -> GaussNewton:
    """Make a loss whose curvature is that of the mean of g_n g_n^T over the rows, g_n the gradient of a row's loss.

    It is the second moment of the rows' gradients, which methods like Adam estimate, and neither the Hessian nor the
    Fisher matrix, which is that of `gauss_newton`.

    Args:
        losses: params -> (N,), the loss of each row.

    Returns:
        For `curvature`, `trace`, `density` and `hvp`. Called, it gives half the mean of the squared losses.

    Example:
        >>> import inercia
        >>> x = jnp.array([[1.0, 0.0], [0.0, 3.0]])
        >>> inercia.trace(empirical_fisher(lambda w: x @ w), jnp.zeros(2))  # (1 + 9) / 2
        (5.0, 0.0)
    """
    return gauss_newton(losses, _half_mean_square)


def _half_mean_square(losses: Any) -> jax.Array:
    if jnp.ndim(losses) != 1:
        raise ValueError(f"losses must return one number a row, (N,), but the shape is {jnp.shape(losses)}.")
    return jnp.mean(losses**2) / 2

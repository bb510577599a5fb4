"""The empirical risk: the mean, over a batch (x, y), of a pointwise loss of the network's output.

R(theta) = (1/N) sum_n l(apply(theta, x_n), y_n)

"squared"                l(p, y) = |p - y|^2 / 2                 y (N, outputs) floats
"cross-entropy"          l(p, y) = -log softmax(p)[y]            y (N,) integer labels; p are logits
"binary-cross-entropy"   l(p, y) = -sum_k log P(y_k),            y (N, outputs) of 0 and 1; p are logits
                         P(1) = 1 / (1 + exp(-p_k)) = 1 - P(0)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from inercia.core import check
from inercia.core.forms import form_of
from inercia.core.values import ByValue
from inercia.problems.labels import check_labels, check_shares
from inercia.problems.network import Network


def squared(prediction: Array, y: Any) -> Array:
    """Return |prediction - y|^2 / 2 of each row."""
    return 0.5 * jnp.sum((prediction - y) ** 2, axis=-1)


def cross_entropy(prediction: Array, y: Any) -> Array:
    """Return -log softmax(prediction)[y] = log sum_k exp(prediction_k) - prediction_y of each row."""
    chosen = jnp.take_along_axis(prediction, jnp.asarray(y)[..., None], axis=-1).squeeze(-1)
    return jax.nn.logsumexp(prediction, axis=-1) - chosen


def binary_cross_entropy(prediction: Array, y: Any) -> Array:
    """Return -sum_k log P(y_k) of each row, P(1) the sigmoid of the prediction: any number of labels a row."""
    return jnp.sum(jnp.logaddexp(0, prediction) - y * prediction, axis=-1)


#: Pointwise losses by name: (prediction (N, outputs), y) -> (N,).
POINTWISE: dict[str, Callable[[Array, Array], Array]] = {
    "squared": squared,
    "cross-entropy": cross_entropy,  # optax's cannot be differentiated on explicit axes outside jax.set_mesh
    "binary-cross-entropy": binary_cross_entropy,
}


@dataclass(frozen=True)
class Risk:
    """A loss `(params, (x, y)) -> scalar`; equal risks share one compilation."""

    network: Network
    pointwise: Callable[[Array, Array], Array]

    def __call__(self, params: Any, batch: tuple[Any, Any]) -> Float[Array, ""]:
        """Return the mean pointwise loss over the batch."""
        x, y = batch[0], check.array("y", batch[1])
        prediction = self.network.apply(params, x)
        self._check(prediction, y)
        return jnp.mean(self.pointwise(prediction, y))

    def check(self, params: Any, batch: tuple[Any, Any]) -> None:
        """Raise unless the batch suits network and loss: lengths, shapes, labels; nothing is computed."""
        x, y = batch[0], check.array("y", batch[1])
        self._check(form_of(self.network.apply, params, x), y)

    def _check(self, prediction: Any, y: Any) -> None:
        rows, shape = prediction.shape[:-1], jnp.shape(y)
        _some(rows)
        if shape[:1] != rows[:1]:
            raise ValueError(f"x and y must have as many rows as each other, but x has {rows} and y has {shape}.")
        if self.pointwise in (squared, binary_cross_entropy) and shape != prediction.shape:
            cure = ": use y[:, None]." if (*shape, 1) == prediction.shape else "."
            raise ValueError(f"y must have the prediction's shape {prediction.shape}, but its shape is {shape}{cure}")
        if self.pointwise is cross_entropy:
            check_labels(y, rows, prediction.shape[-1])
        if self.pointwise is binary_cross_entropy:
            check_shares(y)


def risk(network: Network, loss: str | Callable[[Array, Array], Array] = "squared") -> Risk:
    """Make the empirical risk of a network.

    Args:
        network: maps (params, x (N, inputs)) to predictions (N, outputs).
        loss: "squared", "cross-entropy", "binary-cross-entropy", or a function (predictions, y) -> (N,).

    Returns:
        Risk: `loss(params, (x, y)) -> scalar`.

    Raises:
        ValueError: an unknown name; and at the call, lengths or shapes that disagree, labels out of range.
        TypeError: at the call, labels that are not integers.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from inercia.problems.network import mlp
        >>> network = mlp([2, 3])
        >>> loss = risk(network, "cross-entropy")
        >>> params = jax.tree.map(jnp.zeros_like, network.init(jax.random.key(0)))
        >>> float(loss(params, (jnp.ones((4, 2)), jnp.array([0, 1, 2, 0])))).__round__(4)  # log 3
        1.0986
    """
    if callable(loss):
        return Risk(network, loss)
    return Risk(network, POINTWISE[check.one_of("loss", loss, POINTWISE)])


def accuracy(network: Network) -> Callable[[Any, tuple[Any, Any]], Array]:
    """Make `accuracy(params, (x, y))`: the share of rows whose largest output is the label.

    A row with an output that is no number has none that is largest, and counts as wrong.

    Raises:
        ValueError: at the call, no rows, labels of another shape than the rows or out of range.
        TypeError: at the call, labels that are not integers.

    Example:
        >>> import jax.numpy as jnp
        >>> identity = Network(lambda key: [], lambda params, x: x)
        >>> float(accuracy(identity)([], (jnp.eye(4), jnp.array([0, 1, 2, 0]))))
        0.75
    """

    def share(params: Any, batch: tuple[Any, Any]) -> Array:
        y = check.array("y", batch[1])
        prediction = network.apply(params, batch[0])
        _some(prediction.shape[:-1])
        check_labels(y, prediction.shape[:-1], prediction.shape[-1])
        right = jnp.argmax(prediction, axis=-1) == y
        return jnp.mean(right & ~jnp.isnan(prediction).any(axis=-1))

    return ByValue(share, network)


def _some(rows: tuple[int, ...]) -> None:
    if 0 in rows:
        raise ValueError("the batch must not be empty, because its mean does not exist, but it has 0 rows.")

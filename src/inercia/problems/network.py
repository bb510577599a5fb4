"""Networks as pure functions: init(key) -> params, apply(params, x) -> y.

    x_0 = x,    z_l = x_{l-1} W_l + b_l,    x_l = phi_l(z_l),    l = 1..L

and, derived by hand, the reverse pass for the gradient of a loss of x_L (sums run over the batch):

    delta_L = dLoss/dx_L * phi_L'(z_L),    delta_l = (delta_{l+1} W_{l+1}^T) * phi_l'(z_l)
    dLoss/dW_l = x_{l-1}^T delta_l,        dLoss/db_l = sum delta_l
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from inercia.core import check
from inercia.core.values import ByValue

#: phi, elementwise, by name.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "identity": lambda z: z,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "swish": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "sin": jnp.sin,
}

#: Weights are drawn with mean 0 and variance scale / fan.
INITIALIZERS: dict[str, Callable] = {
    "lecun": jax.nn.initializers.lecun_normal(),
    "glorot": jax.nn.initializers.glorot_normal(),
    "he": jax.nn.initializers.he_normal(),
}

Activation = str | Callable[[Array], Array]


class Layer(NamedTuple):
    """Params of one layer."""

    w: Float[Array, "inputs outputs"]
    b: Float[Array, " outputs"] | None  # None without bias


class Network(NamedTuple):
    """A pair of pure functions."""

    init: Callable[..., list[Layer]]  # key -> params
    apply: Callable[..., Array]  # (params, x) -> y


def mlp(
    widths: Sequence[int],
    activation: Activation | Sequence[Activation] = "tanh",
    output: Activation = "identity",
    bias: bool = True,
    init: str = "lecun",
) -> Network:
    """Make a fully connected network.

    Args:
        widths: sizes (inputs, hidden..., outputs), each at least 1.
        activation: elementwise function of the hidden layers: a name of `ACTIVATIONS`, a function, or one of these
            per hidden layer.
        output: the same for the last layer.
        bias: whether layers add b_l; without it params hold None there.
        init: "lecun" (variance 1/fan-in), "glorot" (2/(fan-in + fan-out)) or "he" (2/fan-in), biases zero.

    Returns:
        Network: `init(key) -> list[Layer]` in the default float dtype; `apply(params, x) -> y` maps (..., inputs)
        to (..., outputs) for any leading dimensions.

    Raises:
        ValueError: a width below 1, fewer than two widths, an unknown name, a wrong number of activations; and from
            `apply`, inputs whose last dimension is not widths[0].

    Example:
        >>> import jax
        >>> network = mlp([2, 8, 1])
        >>> network.apply(network.init(jax.random.key(0)), jax.numpy.ones((5, 2))).shape
        (5, 1)
    """
    widths = [check.integer(f"widths[{i}]", width) for i, width in enumerate(widths)]
    if len(widths) < 2:
        raise ValueError(f"widths must name at least inputs and outputs, but it is {widths}.")
    check.one_of("init", init, INITIALIZERS)
    functions = _activations(len(widths) - 1, activation, output)

    def initialize(key: PRNGKeyArray | int) -> list[Layer]:
        draw = _compiled_draw if check.is_concrete(key) else _draw
        return draw(check.key(key), tuple(widths), bias, init)

    def apply(params: list[Layer], x: Float[Array | np.ndarray, "... inputs"]) -> Float[Array, "... outputs"]:
        y = jnp.asarray(check.array("x", x))
        if y.ndim < 1 or y.shape[-1] != widths[0]:
            raise ValueError(f"x must have shape (..., {widths[0]}), but its shape is {y.shape}.")
        for layer, phi in zip(params, functions, strict=True):
            y = phi(_affine(layer, y))
        return y

    decided_by = (widths, functions, bias, init)
    return Network(ByValue(initialize, decided_by), ByValue(apply, decided_by))


def backprop(
    params: list[Layer],
    x: Float[Array | np.ndarray, "batch inputs"],
    loss_gradient: Callable[[Array], Array],
    *,
    activation: Activation | Sequence[Activation] = "tanh",
    output: Activation = "identity",
) -> list[Layer]:
    """Compute the gradient of a loss by the hand-derived reverse pass; equals `jax.grad`.

    Args:
        params: of an `mlp` made with the same `activation` and `output`.
        x: inputs.
        loss_gradient: x_L -> dLoss/dx_L, both (batch, outputs); for the squared risk, x_L -> (x_L - y) / batch.
        activation: as in `mlp`; elementwise.
        output: as in `mlp`; elementwise.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> params = mlp([1, 1]).init(jax.random.key(0))
        >>> grads = backprop(params, jnp.array([[2.0]]), lambda y: jnp.ones_like(y))
        >>> grads[0].w.tolist(), grads[0].b.tolist()
        ([[2.0]], [1.0])
    """
    functions = _activations(len(params), activation, output)
    inputs, slopes = [], []  # x_{l-1} and phi_l'(z_l) of every layer
    y = jnp.asarray(x)
    for layer, phi in zip(params, functions, strict=True):
        inputs.append(y)
        z = _affine(layer, y)
        y, slope = jax.jvp(phi, (z,), (jnp.ones_like(z),))
        slopes.append(slope)

    grads = []
    upstream = loss_gradient(y)
    for layer, x_before, slope in zip(params[::-1], inputs[::-1], slopes[::-1], strict=True):
        delta = upstream * slope
        grads.append(Layer(x_before.T @ delta, None if layer.b is None else delta.sum(axis=0)))
        upstream = delta @ layer.w.T
    return grads[::-1]


def _draw(key: PRNGKeyArray, widths: tuple[int, ...], bias: bool, init: str) -> list[Layer]:
    keys = jax.random.split(key, len(widths) - 1)
    return [
        Layer(INITIALIZERS[init](k, (inputs, outputs)), jnp.zeros(outputs) if bias else None)
        for k, inputs, outputs in zip(keys, widths[:-1], widths[1:], strict=True)
    ]


#: It runs once, so that it is compiled fast rather than to run fast: the same numbers in less than half the time.
_compiled_draw = jax.jit(_draw, static_argnums=(1, 2, 3), compiler_options={"xla_backend_optimization_level": "1"})


def _affine(layer: Layer, x: Array) -> Array:
    z = x @ layer.w
    return z if layer.b is None else z + layer.b


def _activations(
    layers: int, activation: Activation | Sequence[Activation], output: Activation
) -> list[Callable[[Array], Array]]:
    hidden = [activation] * (layers - 1) if isinstance(activation, str) or callable(activation) else list(activation)
    if len(hidden) != layers - 1:
        raise ValueError(
            f"activation must name one function per hidden layer, {layers - 1} here, but it names {len(hidden)}."
        )
    named = [("activation", phi) for phi in hidden] + [("output", output)]
    return [phi if callable(phi) else ACTIVATIONS[check.one_of(name, phi, ACTIVATIONS)] for name, phi in named]

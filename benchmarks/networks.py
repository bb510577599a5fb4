"""Adam on a convolutional network and on a transformer of two blocks: the same weights and batch in every framework.

The CNN sees 128 images of noise, 16 x 16 x 3, the transformer is that of `architectures.py` and sorts 128 rows of eight
tokens. Every contestant makes 100 steps on the one batch; flax's weights are what the others start from, and the losses
in the end are compared.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import nnx

from architectures import LENGTH, TOKENS, Transformer
from convolutions import RATE, STEPS, contestants, data
from timing import Goal, Section, interleaved, ratio, table

ROWS, SIZE, HEADS = 128, 32, 2
LOOPS = ["optax in a loop", "flax nnx + optax", "Equinox + optax", "PyTorch", "PyTorch, fused Adam"]


class Cnn(nnx.Module):
    """Two strided convolutions, a mean over space and a matrix."""

    def __init__(self, rngs):
        self.one = nnx.Conv(3, 16, (3, 3), strides=2, padding=1, rngs=rngs)
        self.two = nnx.Conv(16, 16, (3, 3), strides=2, padding=1, rngs=rngs)
        self.out = nnx.Linear(16, 10, rngs=rngs)

    def __call__(self, x):
        return self.out(jnp.tanh(self.two(jnp.tanh(self.one(x)))).mean((1, 2)))


class Case(NamedTuple):
    """A network, its batch, and the same network elsewhere."""

    name: str
    make: Callable[[], nnx.Module]
    batch: tuple[np.ndarray, np.ndarray]
    equinox: Callable[[Any], Any]  # from flax's module
    pytorch: Callable[[Any], torch.nn.Module]
    in_torch: Callable[[np.ndarray], torch.Tensor]


def cases() -> list[Case]:
    """Make both."""
    x, y = (np.asarray(part) for part in data(ROWS))
    tokens = np.random.default_rng(0).integers(0, TOKENS, (ROWS, LENGTH))
    coded, ordered = np.eye(TOKENS, dtype=np.float32)[tokens], np.sort(tokens, axis=1).astype(np.int32)
    images = lambda x: torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))  # noqa: E731
    return [
        Case("CNN", lambda: Cnn(nnx.Rngs(0)), (x, y), EquinoxCnn, TorchCnn, images),
        Case("two-layer transformer", lambda: Transformer(nnx.Rngs(0)), (coded, ordered), EquinoxTransformer,
             TorchTransformer, torch.from_numpy),
    ]  # fmt: skip


def cross_entropy(logits: jax.Array, y: jax.Array) -> jax.Array:
    """Return the mean over rows and places."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


class EquinoxCnn(eqx.Module):
    """The CNN of one image, channels first."""

    one: eqx.nn.Conv2d
    two: eqx.nn.Conv2d
    out: eqx.nn.Linear

    def __init__(self, flax: Cnn):
        key = jax.random.key(0)
        self.one = _with(eqx.nn.Conv2d(3, 16, 3, 2, 1, key=key), *_convolution(flax.one))
        self.two = _with(eqx.nn.Conv2d(16, 16, 3, 2, 1, key=key), *_convolution(flax.two))
        self.out = _linear(flax.out)

    def __call__(self, x):
        x = x.transpose(2, 0, 1)
        return self.out(jnp.tanh(self.two(jnp.tanh(self.one(x)))).mean((1, 2)))


class EquinoxBlock(eqx.Module):
    """A block of one row."""

    norms: list[eqx.nn.LayerNorm]
    attention: eqx.nn.MultiheadAttention
    up: eqx.nn.Linear
    down: eqx.nn.Linear

    def __init__(self, flax: Any):
        biases = dict.fromkeys(("use_query_bias", "use_key_bias", "use_value_bias", "use_output_bias"), True)
        attention = eqx.nn.MultiheadAttention(HEADS, SIZE, key=jax.random.key(0), **biases)
        for name, (weight, bias) in zip(("query", "key", "value", "output"), _attention(flax.attention), strict=True):
            of = lambda a, name=name: getattr(a, f"{name}_proj")  # noqa: E731
            attention = eqx.tree_at(of, attention, _with(of(attention), weight, bias))
        self.norms, self.attention = [_norm(norm) for norm in flax.norms], attention
        self.up, self.down = _linear(flax.up), _linear(flax.down)

    def __call__(self, x):
        y = jax.vmap(self.norms[0])(x)
        x = x + self.attention(y, y, y)
        return x + jax.vmap(self.down)(jax.nn.gelu(jax.vmap(self.up)(jax.vmap(self.norms[1])(x))))


class EquinoxTransformer(eqx.Module):
    """The transformer of one row."""

    embed: eqx.nn.Linear
    places: jax.Array
    blocks: list[EquinoxBlock]
    norm: eqx.nn.LayerNorm
    out: eqx.nn.Linear

    def __init__(self, flax: Transformer):
        self.embed, self.places = _linear(flax.embed), jnp.asarray(flax.places[...])
        self.blocks = [EquinoxBlock(block) for block in flax.blocks]
        self.norm, self.out = _norm(flax.norm), _linear(flax.out)

    def __call__(self, x):
        x = jax.vmap(self.embed)(x) + self.places
        for block in self.blocks:
            x = block(x)
        return jax.vmap(self.out)(jax.vmap(self.norm)(x))


def _with(layer, weight, bias):
    return eqx.tree_at(lambda part: (part.weight, part.bias), layer, (weight, bias.reshape(layer.bias.shape)))


def _convolution(flax):
    """Return weight (out, in, height, width) and bias."""
    return flax.kernel[...].transpose(3, 2, 0, 1), flax.bias[...]


def _linear(flax):
    inputs, outputs = flax.kernel.shape
    return _with(eqx.nn.Linear(inputs, outputs, key=jax.random.key(0)), flax.kernel[...].T, flax.bias[...])


def _norm(flax):
    return _with(eqx.nn.LayerNorm(SIZE, eps=flax.epsilon), flax.scale[...], flax.bias[...])


def _attention(flax):
    """Return weights (out, in) and biases (out,) of query, key, value and output."""
    inner = [(part.kernel[...].reshape(SIZE, SIZE).T, part.bias[...].reshape(SIZE))
             for part in (flax.query, flax.key, flax.value)]  # fmt: skip
    return [*inner, (flax.out.kernel[...].reshape(SIZE, SIZE).T, flax.out.bias[...])]


class TorchCnn(torch.nn.Module):
    """The CNN, channels first."""

    def __init__(self, flax: Cnn):
        super().__init__()
        self.one, self.two = torch.nn.Conv2d(3, 16, 3, 2, 1), torch.nn.Conv2d(16, 16, 3, 2, 1)
        self.out = torch.nn.Linear(16, 10)
        for own, given in ((self.one, flax.one), (self.two, flax.two)):
            _copy(own, *_convolution(given))
        _copy(self.out, flax.out.kernel[...].T, flax.out.bias[...])

    def forward(self, x):
        """Return the logits."""
        return self.out(torch.tanh(self.two(torch.tanh(self.one(x)))).mean((2, 3)))


class TorchBlock(torch.nn.Module):
    """A block."""

    def __init__(self, flax: Any):
        super().__init__()
        self.norms = torch.nn.ModuleList([_torch_norm(norm) for norm in flax.norms])
        self.attention = torch.nn.MultiheadAttention(SIZE, HEADS, batch_first=True)
        *inner, (weight, bias) = _attention(flax.attention)
        with torch.no_grad():
            self.attention.in_proj_weight.copy_(_tensor(np.concatenate([w for w, _ in inner])))
            self.attention.in_proj_bias.copy_(_tensor(np.concatenate([b for _, b in inner])))
        _copy(self.attention.out_proj, weight, bias)
        self.up, self.down = _torch_linear(flax.up), _torch_linear(flax.down)

    def forward(self, x):
        """Return the block's output."""
        y = self.norms[0](x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.down(torch.nn.functional.gelu(self.up(self.norms[1](x)), approximate="tanh"))


class TorchTransformer(torch.nn.Module):
    """The transformer."""

    def __init__(self, flax: Transformer):
        super().__init__()
        self.embed, self.places = _torch_linear(flax.embed), torch.nn.Parameter(_tensor(flax.places[...]))
        self.blocks = torch.nn.Sequential(*[TorchBlock(block) for block in flax.blocks])
        self.norm, self.out = _torch_norm(flax.norm), _torch_linear(flax.out)

    def forward(self, x):
        """Return logits, classes last."""
        return self.out(self.norm(self.blocks(self.embed(x) + self.places)))


def _tensor(array):
    return torch.from_numpy(np.array(array))


def _copy(layer, weight, bias):
    with torch.no_grad():
        layer.weight.copy_(_tensor(weight))
        layer.bias.copy_(_tensor(bias))
    return layer


def _torch_linear(flax):
    return _copy(torch.nn.Linear(*flax.kernel.shape), flax.kernel[...].T, flax.bias[...])


def _torch_norm(flax):
    return _copy(torch.nn.LayerNorm(SIZE, eps=flax.epsilon), flax.scale[...], flax.bias[...])


def by_nnx(case: Case) -> Callable:
    """Train as flax's guides do."""
    x, y = map(jnp.asarray, case.batch)

    @nnx.jit
    def step(net, opt, x, y):
        opt.update(net, nnx.grad(lambda net: cross_entropy(net(x), y))(net))

    def run():
        net = case.make()
        opt = nnx.Optimizer(net, optax.adam(RATE), wrt=nnx.Param)
        for _ in range(STEPS):
            step(net, opt, x, y)
        return nnx.state(net, nnx.Param)

    return run


def by_equinox(case: Case) -> Callable:
    """Train as Equinox's guides do."""
    opt, net, (x, y) = optax.adam(RATE), case.equinox(case.make()), map(jnp.asarray, case.batch)

    def loss(net, x, y):
        return cross_entropy(jax.vmap(net)(x), y)

    @eqx.filter_jit
    def step(net, state, x, y):
        updates, state = opt.update(eqx.filter_grad(loss)(net, x, y), state, eqx.filter(net, eqx.is_inexact_array))
        return eqx.apply_updates(net, updates), state

    def run():
        now, state = net, opt.init(eqx.filter(net, eqx.is_inexact_array))
        for _ in range(STEPS):
            now, state = step(now, state, x, y)
        return now

    return run


def torch_loss(case: Case, net: torch.nn.Module) -> torch.Tensor:
    """Return the loss of a module on the case's batch."""
    y = torch.from_numpy(case.batch[1].astype(np.int64).ravel())
    return torch.nn.functional.cross_entropy(net(case.in_torch(case.batch[0])).flatten(0, -2), y)


def by_pytorch(case: Case, fused: bool) -> Callable:
    """Train in PyTorch, eagerly."""
    x, y = case.in_torch(case.batch[0]), torch.from_numpy(case.batch[1].astype(np.int64).ravel())
    start = case.make()

    def run():
        net = case.pytorch(start)
        opt = torch.optim.Adam(net.parameters(), lr=RATE, fused=fused)
        for _ in range(STEPS):
            opt.zero_grad()
            torch.nn.functional.cross_entropy(net(x).flatten(0, -2), y).backward()
            opt.step()
        return [net]

    return run


def functional(case: Case) -> tuple[Callable, Any]:
    """Return the loss of (params, batch), and the start, of flax's module."""
    graph, start, rest = nnx.split(case.make(), nnx.Param, ...)

    def loss(params, batch):
        return cross_entropy(nnx.merge(graph, params, rest)(batch[0]), batch[1])

    return loss, start


def run(fast: bool) -> Section:
    """Time every contestant on both networks."""
    text, goals = "", []
    for case in cases():
        loss, start = functional(case)
        batch = tuple(map(jnp.asarray, case.batch))
        calls = contestants(loss, start, batch, STEPS)
        calls |= {"flax nnx + optax": by_nnx(case), "Equinox + optax": by_equinox(case)}
        calls |= {"PyTorch": by_pytorch(case, False), "PyTorch, fused Adam": by_pytorch(case, True)}
        seconds, results = interleaved(calls, 3 if fast else 7)
        rows = []
        for name, times in sorted(seconds.items(), key=lambda item: np.median(item[1])):
            final = _final(case, name, results[name], loss, batch)
            shown = f"{np.median(times) / STEPS * 1e3:.2f}", ratio(seconds, name, "inercia")[1]
            rows.append([name, *shown, f"{final:.5f}"])
        text += f"### {case.name}\n\n" + table(["", "ms per step", "times ours (range)", "final loss"], rows) + "\n"
        for label, peers in (("a scan of optax's", ["optax in a scan"]), ("the best loop", LOOPS)):
            value, shown = min(ratio(seconds, peer, "inercia") for peer in peers)
            goals.append(Goal(f"{case.name}: against {label}", "≥ 1×", shown, value >= 1))
    return Section("A CNN and a transformer", f"{STEPS} steps of Adam on one batch of {ROWS}.\n\n{text}", goals)


def _final(case, name, found, loss, batch):
    """Return the loss after the last step."""
    if name.startswith("PyTorch"):
        return float(torch_loss(case, found[0]).detach())
    if name.startswith("Equinox"):
        return float(cross_entropy(jax.vmap(found)(batch[0]), batch[1]))
    return float(loss(found, batch))

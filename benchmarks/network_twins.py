"""The CNN and the transformer of `networks.py` in Equinox and in PyTorch, with the weights of flax's modules."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import torch

SIZE, HEADS = 32, 2  # of the transformer


class EquinoxCnn(eqx.Module):
    """The CNN of one image, channels first."""

    one: eqx.nn.Conv2d
    two: eqx.nn.Conv2d
    out: eqx.nn.Linear

    def __init__(self, flax: Any):
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

    def __init__(self, flax: Any):
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

    def __init__(self, flax: Any):
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

    def __init__(self, flax: Any):
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

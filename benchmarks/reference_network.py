"""The sorting transformer of the central flows' authors, made by their own code, and the same network in JAX.

Nothing of theirs is copied: model, data, loss and first weights are made by the sources in a folder, and the weights go
by name to a network written anew, whose loss and gradient must equal theirs to rounding. What a CPU needs is patched at
run time: `Tensor.cuda` returns the tensor, `Tensor.float` has the precision that was asked for, the causal mask that of
the weights, and the package `datasets`, which downloads, is empty.
"""

import importlib
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch

MODULES = ("datasets", "architectures.transformer", "functional", "loss_function", "update_rules", "processes")
Tree = dict[str, Any]


def load(folder: Path) -> Any:
    """Import what is used of the reference."""
    if not (folder / "src" / "processes.py").is_file():
        raise ValueError(f"the folder must hold the reference's src/processes.py, but it is {folder}.")
    sys.path.insert(0, str(folder))
    empty: Any = types.ModuleType("datasets")
    empty.load_dataset = None
    sys.modules["datasets"] = empty
    torch.Tensor.cuda = lambda self, *_, **__: self
    torch.Tensor.float = lambda self: self.to(torch.get_default_dtype())
    theirs = types.SimpleNamespace()
    for name in MODULES:
        vars(theirs).update(vars(importlib.import_module(f"src.{name}")))
    mask = theirs.TransformerLM.generate_square_subsequent_mask

    def like(self, size):
        return mask(self, size).to(self.embedding.weight.dtype)

    theirs.TransformerLM.generate_square_subsequent_mask = like
    return theirs


class Problem(NamedTuple):
    """The reference's, in one precision."""

    model: Any
    loss: Any
    weights: torch.Tensor  # flat
    batch: Any  # inputs (rows, 15) and labels (rows, 15), -1 where there is none
    positions: np.ndarray  # (15, size), added to the tokens

    def tree(self, flat: torch.Tensor) -> Tree:
        """Return weights by name, float64."""
        return {name: np.asarray(leaf.detach(), np.float64) for name, leaf in self.model.unflatten(flat).items()}

    def flat(self, tree: Tree) -> torch.Tensor:
        """Undo `tree`."""
        parts = [np.ravel(tree[name]) for name in self.model.unflatten(self.weights)]
        return torch.as_tensor(np.concatenate(parts)).to(self.weights.dtype)


def problem(theirs: Any, rows: int, layers: int, precision: str) -> Problem:
    """Return the transformer that sorts."""
    torch.set_default_dtype(getattr(torch, precision))
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as cache:
        data = theirs.Sorting(criterion="mse", n=rows, cache_dir=cache).load(device="cpu")
    module = theirs.Transformer(layers=layers).create(data.input_shape, data.output_dim)
    weights, model = theirs.FunctionalModel.make_functional(module)
    loss = theirs.SupervisedLossFunction(model_fn=model, criterion=data.criterion_fn, batches=data.trainset)
    return Problem(model, loss, weights, data.trainset[0], module.pos_encoder.pe[0].numpy())


def network(weights: Tree, tokens: np.ndarray, positions: np.ndarray, heads: int = 4) -> jax.Array:
    """Return the logits (rows, length, tokens) of a decoder whose memory is its own input, norms after the sums."""
    first = weights["embedding.weight"]
    x = jax.nn.one_hot(tokens, len(first), dtype=first.dtype) @ first * first.shape[1] ** 0.5
    memory = x = x + positions.astype(first.dtype)
    causal, n = np.tril(np.ones((tokens.shape[1],) * 2, bool)), 0
    while f"decoder.layers.{n}.linear1.weight" in weights:
        own = {name.removeprefix(f"decoder.layers.{n}."): leaf for name, leaf in weights.items()}
        x = _normed(own, "norm1", x + _attention(own, "self_attn", x, x, heads, causal))
        x = _normed(own, "norm2", x + _attention(own, "multihead_attn", x, memory, heads, np.ones_like(causal)))
        between = jax.nn.gelu(_affine(own, "linear1.", x), approximate=False)
        x, n = _normed(own, "norm3", x + _affine(own, "linear2.", between)), n + 1
    return _affine(weights, "output_layer.", x)


def _affine(own, name, x):
    return x @ own[f"{name}weight"].T + own[f"{name}bias"]


def _normed(own, name, x):
    apart = x - x.mean(-1, keepdims=True)
    spread = jnp.sqrt(jnp.sum(apart**2, -1, keepdims=True) / (x.shape[-1] - 1))
    return own[f"{name}.gamma"] * apart / (spread + 1e-6) + own[f"{name}.beta"]


def _attention(own, name, x, y, heads, mask):
    weights, biases = (jnp.split(own[f"{name}.in_proj_{kind}"], 3) for kind in ("weight", "bias"))
    q, k, v = (
        (given @ w.T + b).reshape(*given.shape[:2], heads, -1)
        for given, w, b in zip((x, y, y), weights, biases, strict=True)
    )
    scores = jnp.einsum("nqhd,nkhd->nhqk", q, k) / q.shape[-1] ** 0.5
    share = jax.nn.softmax(jnp.where(mask, scores, -jnp.inf))
    return _affine(own, f"{name}.out_proj.", jnp.einsum("nhqk,nkhd->nqhd", share, v).reshape(x.shape))


def ours_of(given: Problem) -> Callable[[Tree], jax.Array]:
    """Return the loss of the weights by name: half the squared error of the tokens in their order."""
    tokens, labels = (np.asarray(part) for part in given.batch)

    def loss(weights):
        out = network(weights, tokens, given.positions)
        error = jnp.sum((out - jax.nn.one_hot(labels, out.shape[-1], dtype=out.dtype)) ** 2, axis=-1) / 2
        return jnp.sum(error * (labels >= 0)) / (labels >= 0).sum()

    return loss


def compared(theirs: Problem, loss: Callable, at: Tree) -> str:
    """Return the relative differences of loss and gradient, both in float64, or raise where they are no rounding."""
    gradient, value = theirs.loss.grad_and_value(theirs.flat(at))
    with jax.enable_x64(True):
        mine, slope = jax.value_and_grad(loss)({name: jnp.asarray(leaf, float) for name, leaf in at.items()})
    found = abs(float(value) / float(mine) - 1), size_of(theirs.tree(gradient), slope) / size_of(slope)
    if max(found) > 1e-10:
        raise RuntimeError(f"the networks differ: their loss by {found[0]:.1e}, its gradient by {found[1]:.1e}.")
    return f"loss equal to {found[0]:.1e}, gradient to {found[1]:.1e}"


def size_of(tree, other=None):
    """Return the norm of a tree, or of a difference."""
    trees = ((leaf, 0.0 if other is None else other[name]) for name, leaf in tree.items())
    squares = (np.sum((np.asarray(leaf) - np.asarray(less)) ** 2) for leaf, less in trees)
    return float(np.sqrt(sum(squares)))


def row_of(trees, n):
    """Return a point of a path."""
    return {name: leaf[n] for name, leaf in trees.items()}

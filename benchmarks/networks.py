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
from network_twins import EquinoxCnn, EquinoxTransformer, TorchCnn, TorchTransformer
from timing import Goal, Section, interleaved, ratio, table

ROWS = 128
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

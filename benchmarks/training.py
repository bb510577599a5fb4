"""Adam on three networks, against what a user would pick instead: same data, batches, start and arithmetic."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import nnx
from scipy.ndimage import zoom
from sklearn.neural_network import MLPClassifier, MLPRegressor

import inercia as ia
from timing import Goal, Section, interleaved, ratio, table

RATE = 1e-3


class Work(NamedTuple):
    """A network, its data and its batches."""

    name: str
    widths: list[int]
    activation: str  # "tanh" or "relu"
    x: np.ndarray
    y: np.ndarray  # floats (N, 1) or labels (N,)
    batch: int
    epochs: int

    @property
    def labels(self) -> bool:
        """Whether it is a classification."""
        return self.y.ndim == 1

    @property
    def loss(self) -> ia.Risk:
        """The risk, ours."""
        return ia.risk(ia.mlp(self.widths, self.activation), "cross-entropy" if self.labels else "squared")

    @property
    def start(self) -> list:
        """Where every contestant starts."""
        return ia.mlp(self.widths, self.activation).init(jax.random.key(0))

    @property
    def rows(self) -> np.ndarray:
        """Rows of every step, (steps, batch); ours draws them, the peers are given them."""
        s = ia.sampler("shuffle", len(self.x), self.batch)
        return np.asarray(s.rows(jax.random.key(1), 0, self.epochs * s.epoch, True))


def works(fast: bool) -> list[Work]:
    """Make the three."""
    part = 10 if fast else 1
    x = np.linspace(-1, 1, 256, dtype=np.float32)[:, None]
    (train, _) = ia.digits()
    digits, labels = np.asarray(train.x, np.float32), np.asarray(train.y)
    large = zoom(digits.reshape(-1, 8, 8), (1, 3.5, 3.5), order=1).reshape(-1, 784).astype(np.float32)
    return [
        Work("tiny 1-32-32-1, batch 32", [1, 32, 32, 1], "tanh", x, np.sin(4 * x), 32, 250 // part),
        Work("digits 64-128-128-10, batch 128", [64, 128, 128, 10], "relu", digits, labels, 128, 60 // part),
        Work("enlarged digits 784-512-512-10, batch 256", [784, 512, 512, 10], "relu", large, labels, 256, 10 // part),
    ]


def ours(w: Work) -> Callable:
    """Call inercia."""
    method, loss, start = ia.adam(RATE), w.loss, w.start
    return lambda: ia.train(method, loss, start, (w.x, w.y), epochs=w.epochs, batch_size=w.batch, key=1).params


def optax_scan(w: Work) -> Callable:
    """Scan over the steps in one compiled program."""
    opt, loss, x, y, rows = optax.adam(RATE), w.loss, jnp.asarray(w.x), jnp.asarray(w.y), jnp.asarray(w.rows)

    @jax.jit
    def run(params, x, y, rows):
        def step(carry, i):
            params, state = carry
            value, grads = jax.value_and_grad(loss)(params, (x[i], y[i]))
            updates, state = opt.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), value

        return jax.lax.scan(step, (params, opt.init(params)), rows)

    start = w.start
    return lambda: run(start, x, y, rows)[0][0]


def optax_loop(w: Work) -> Callable:
    """Call one compiled step from a Python loop, as optax's guides do."""
    opt, loss, rows = optax.adam(RATE), w.loss, w.rows

    @jax.jit
    def step(params, state, batch):
        value, grads = jax.value_and_grad(loss)(params, batch)
        updates, state = opt.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    def run():
        params = w.start
        state = opt.init(params)
        for i in rows:
            params, state, _ = step(params, state, (w.x[i], w.y[i]))
        return params

    return run


def flax_nnx(w: Work) -> Callable:
    """Train as flax's guides do, with `nnx.jit` and `nnx.Optimizer`."""
    phi, rows, start = getattr(nnx, w.activation), w.rows, w.start
    pointwise = w.loss.pointwise

    class Net(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(0)
            self.layers = nnx.List([nnx.Linear(*io, rngs=rngs) for io in zip(w.widths, w.widths[1:], strict=False)])
            for layer, own in zip(self.layers, start, strict=True):
                layer.kernel[...], layer.bias[...] = own.w, own.b

        def __call__(self, x):
            for layer in self.layers[:-1]:
                x = phi(layer(x))
            return self.layers[-1](x)

    @nnx.jit
    def step(net, opt, x, y):
        value, grads = nnx.value_and_grad(lambda net: pointwise(net(x), y).mean())(net)
        opt.update(net, grads)
        return value

    def run():
        net = Net()
        opt = nnx.Optimizer(net, optax.adam(RATE), wrt=nnx.Param)
        for i in rows:
            step(net, opt, w.x[i], w.y[i])
        return [(layer.kernel[...], layer.bias[...]) for layer in net.layers]

    return run


def equinox(w: Work) -> Callable:
    """Train as Equinox's guides do, with `eqx.filter_jit`."""
    opt, rows, start, pointwise = optax.adam(RATE), w.rows, w.start, w.loss.pointwise
    net = eqx.nn.MLP(
        w.widths[0], w.widths[-1], w.widths[1], len(w.widths) - 2, getattr(jax.nn, w.activation), key=jax.random.key(0)
    )
    net = eqx.tree_at(lambda n: [layer.weight for layer in n.layers], net, [layer.w.T for layer in start])
    net = eqx.tree_at(lambda n: [layer.bias for layer in n.layers], net, [layer.b for layer in start])

    @eqx.filter_jit
    def step(net, state, x, y):
        value, grads = eqx.filter_value_and_grad(lambda n: pointwise(jax.vmap(n)(x), y).mean())(net)
        updates, state = opt.update(grads, state, eqx.filter(net, eqx.is_inexact_array))
        return eqx.apply_updates(net, updates), state, value

    def run():
        now, state = net, opt.init(eqx.filter(net, eqx.is_inexact_array))
        for i in rows:
            now, state, _ = step(now, state, w.x[i], w.y[i])
        return [(layer.weight.T, layer.bias) for layer in now.layers]

    return run


def pytorch(w: Work, fused: bool) -> Callable:
    """Train in PyTorch, eagerly; `fused` chooses its one-kernel Adam."""
    phi = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}[w.activation]
    x, y, rows = torch.from_numpy(w.x), torch.from_numpy(w.y.astype(np.int64 if w.labels else np.float32)), w.rows
    rows = torch.from_numpy(np.array(rows, np.int64))
    criterion = torch.nn.CrossEntropyLoss() if w.labels else lambda p, t: ((p - t) ** 2).sum(-1).mean() / 2

    def run():
        linear = [torch.nn.Linear(*io) for io in zip(w.widths, w.widths[1:], strict=False)]
        with torch.no_grad():
            for layer, own in zip(linear, w.start, strict=True):
                layer.weight.copy_(torch.from_numpy(np.array(own.w.T)))
                layer.bias.copy_(torch.from_numpy(np.array(own.b)))
        net = torch.nn.Sequential(*[part for layer in linear for part in (layer, phi())][:-1])
        opt = torch.optim.Adam(net.parameters(), lr=RATE, fused=fused)
        for i in rows:
            opt.zero_grad()
            criterion(net(x[i]), y[i]).backward()
            opt.step()
        return [(layer.weight.detach().numpy().T, layer.bias.detach().numpy()) for layer in linear]

    return run


def scikit(w: Work) -> Callable:
    """Fit scikit-learn's MLP for one epoch over all batches laid end to end."""
    rows = w.rows.ravel()
    x, y = w.x[rows], w.y[rows] if w.labels else w.y[rows, 0]
    first = np.unique(y, return_index=True)[1] if w.labels else np.arange(w.batch)  # every class once
    kind = MLPClassifier if w.labels else MLPRegressor
    net = kind(
        hidden_layer_sizes=w.widths[1:-1], activation=w.activation, alpha=0.0, learning_rate_init=RATE, shuffle=False,
        max_iter=1, warm_start=True, batch_size=len(first),
    )  # fmt: skip
    net.fit(x[first], y[first])  # makes the arrays that the start is written to
    net.batch_size = w.batch

    def run():
        net.coefs_ = [np.array(layer.w) for layer in w.start]
        net.intercepts_ = [np.array(layer.b) for layer in w.start]
        net.fit(x, y)
        return list(zip(net.coefs_, net.intercepts_, strict=True))

    return run


def numpy(w: Work) -> Callable:
    """Train by hand in NumPy, in place where it can be."""
    rows = w.rows
    phi, slope = {
        "tanh": (np.tanh, lambda a: 1 - a * a),
        "relu": (lambda z: np.maximum(z, 0), lambda a: a > 0),
    }[w.activation]

    def run():
        theta = [np.array(part) for layer in w.start for part in (layer.w, layer.b)]
        m, v = [np.zeros_like(p) for p in theta], [np.zeros_like(p) for p in theta]
        for k, i in enumerate(rows, 1):
            x, y = w.x[i], w.y[i]
            a = [x]
            for weight, bias in zip(theta[::2], theta[1::2], strict=True):
                z = a[-1] @ weight
                z += bias
                a.append(phi(z))
            if w.labels:
                delta = np.exp(z - z.max(1, keepdims=True))
                delta /= delta.sum(1, keepdims=True)
                delta[np.arange(len(y)), y] -= 1
            else:
                delta = z - y
            delta /= len(y)
            grads = []
            for layer in range(len(theta) // 2 - 1, -1, -1):
                grads[:0] = [a[layer].T @ delta, delta.sum(0)]
                if layer:
                    delta = (delta @ theta[2 * layer].T) * slope(a[layer])
            rate, root = RATE / (1 - 0.9**k), 1 / np.sqrt(1 - 0.999**k)
            for j, g in enumerate(grads):
                m[j] += 0.1 * (g - m[j])
                v[j] += 0.001 * (g * g - v[j])
                theta[j] -= rate * m[j] / (np.sqrt(v[j]) * np.float32(root) + 1e-8)
        return list(zip(theta[::2], theta[1::2], strict=True))

    return run


def matmuls(w: Work) -> Callable:
    """Only the matrix products of a step, in a compiled loop: the floor."""
    layers = list(zip(w.widths, w.widths[1:], strict=False))
    weights = [jnp.zeros(io) for io in layers]
    acts = [jnp.zeros((w.batch, n)) for n in w.widths]
    steps = len(w.rows)

    @jax.jit
    def run(acts, weights):
        def step(carry, _):  # each product waits for the one before, as in training
            acts, weights = carry
            for i in range(len(weights)):
                acts = [*acts[: i + 1], acts[i] @ weights[i], *acts[i + 2 :]]
            for i in reversed(range(len(weights))):
                upstream = acts[i + 1]
                weights = [*weights[:i], acts[i].T @ upstream, *weights[i + 1 :]]
                if i:
                    acts = [*acts[:i], upstream @ weights[i].T, *acts[i + 1 :]]
            return (acts, weights), None

        return jax.lax.scan(step, (acts, weights), None, steps)[0]

    return lambda: run(acts, weights)


CONTESTANTS = {
    "inercia": ours,
    "optax in a scan": optax_scan,
    "optax in a loop": optax_loop,
    "flax nnx + optax": flax_nnx,
    "Equinox + optax": equinox,
    "PyTorch": lambda w: pytorch(w, fused=False),
    "PyTorch, fused Adam": lambda w: pytorch(w, fused=True),
    "scikit-learn": scikit,
    "NumPy by hand": numpy,
}
LOOPS = ["optax in a loop", "flax nnx + optax", "Equinox + optax"]


def run(fast: bool) -> Section:
    """Time every contestant on every network."""
    text, goals = "", []
    for w in works(fast):
        calls = {name: make(w) for name, make in CONTESTANTS.items()} | {"matrix products alone": matmuls(w)}
        seconds, results = interleaved(calls, 3 if fast else 7)
        steps = len(w.rows)
        losses = {}
        for name in CONTESTANTS:
            params = [type(own)(*map(jnp.asarray, layer)) for own, layer in zip(w.start, results[name], strict=True)]
            losses[name] = float(w.loss(params, (w.x, w.y)))
        rows = []
        for name, times in sorted(seconds.items(), key=lambda item: np.median(item[1])):
            loss = f"{losses[name]:.6f}" if name in losses else ""
            rows.append([name, f"{np.median(times) / steps * 1e6:.1f}", ratio(seconds, name, "inercia")[1], loss])
            if loss and abs(losses[name] - losses["inercia"]) > 1e-5:
                rows[-1][-1] += " (differs)"
        text += f"### {w.name}, {steps} steps\n\n"
        text += table(["", "µs per step", "times ours (range)", "final loss"], rows) + "\n"
        goals += _goals(w.name.split(",")[0], seconds)
    return Section("Training", text, goals)


def _goals(name: str, seconds: dict) -> list[Goal]:
    def least(asked: float, label: str, *peers: str) -> Goal:
        value, shown = min(ratio(seconds, peer, "inercia") for peer in peers)
        return Goal(f"{name}: {label}", f"≥ {asked}×", shown, value >= asked)

    floor, shown = ratio(seconds, "matrix products alone", "inercia")
    share = Goal(f"{name}: share of the matrix products' time", "≥ 0.8", shown, floor >= 0.8)
    torches = ["PyTorch", "PyTorch, fused Adam"]
    if name.startswith("tiny"):
        return [
            least(0.95, "against optax in a scan", "optax in a scan"),
            least(5, "against the best loop in JAX", *LOOPS),
            least(20, "against PyTorch", *torches),
        ]
    if name.startswith("digits"):
        return [
            least(0.98, "against optax in a scan", "optax in a scan"),
            least(1.15, "against NumPy", "NumPy by hand"),
            least(1.9, "against PyTorch", *torches),
            least(1.9, "against scikit-learn", "scikit-learn"),
            share._replace(asked="report", met=True),
        ]
    return [least(1.0, "against the best peer", *[peer for peer in CONTESTANTS if peer != "inercia"]), share]

"""The central flow on seven architectures and seven methods, beside the averaged iterates at the edge of stability.

    python benchmarks/architectures.py                      all cells; hours on two cores
    python benchmarks/architectures.py vit,lstm gd,adam     some
    python benchmarks/architectures.py --updates 200 ...

Image networks see 150 of the bundled digits, sequence models a sorting task made by code: eight tokens of four kinds,
to be given back in order. Losses are mean squared errors of one-hot targets.

A cell starts after a warm-up by gradient descent far below the edge, with noise of 0.003 a parameter: after a quiet
warm-up the critical direction holds so little that iterates stay beyond the edge for a long time before they swing,
which no central flow knows of. The rate puts the bound at 1.1 times the preconditioned sharpness that the method has
after 40 updates at a hundredth of a first guess. A cell that is not at its edge in the end says so. The mean loss, that
which the central flow predicts against that of the iterates, is taken over the run from the edge on, and in windows of
40 updates: gradient descent swings in bursts that last longer than a window. Rows are appended to
RESULTS_ARCHITECTURES.md.
"""

import argparse
import itertools
import time
import warnings
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.flatten_util import ravel_pytree

import inercia as ia

ROWS, LENGTH, TOKENS, NOISE = 150, 8, 4, 0.003
FILE = Path(__file__).parent / "RESULTS_ARCHITECTURES.md"


class Cnn(nnx.Module):
    """Two convolutions and a matrix."""

    def __init__(self, rngs):
        self.one = nnx.Conv(1, 12, (3, 3), rngs=rngs)
        self.two = nnx.Conv(12, 24, (3, 3), strides=2, rngs=rngs)
        self.out = nnx.Linear(384, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.swish(self.two(nnx.swish(self.one(x))))
        return self.out(x.reshape(len(x), -1))


class ResNet(nnx.Module):
    """A convolution and two residual blocks with GroupNorm."""

    def __init__(self, rngs):
        self.first = nnx.Conv(1, 16, (3, 3), strides=2, rngs=rngs)
        blocks = [(nnx.GroupNorm(16, num_groups=4, rngs=rngs), nnx.Conv(16, 16, (3, 3), rngs=rngs)) for _ in range(4)]
        self.norms, self.convs = nnx.List([n for n, _ in blocks]), nnx.List([c for _, c in blocks])
        self.norm, self.out = nnx.GroupNorm(16, num_groups=4, rngs=rngs), nnx.Linear(16, 10, rngs=rngs)

    def __call__(self, x):
        x = self.first(x)
        for n in (0, 2):
            y = self.convs[n](nnx.swish(self.norms[n](x)))
            x = x + self.convs[n + 1](nnx.swish(self.norms[n + 1](y)))
        return self.out(nnx.swish(self.norm(x)).mean((1, 2)))


class Block(nnx.Module):
    """A block of a transformer, norms first."""

    def __init__(self, size, rngs):
        self.norms = nnx.List([nnx.LayerNorm(size, rngs=rngs) for _ in range(2)])
        self.attention = nnx.MultiHeadAttention(2, size, decode=False, rngs=rngs)
        self.up, self.down = nnx.Linear(size, 2 * size, rngs=rngs), nnx.Linear(2 * size, size, rngs=rngs)

    def __call__(self, x):
        x = x + self.attention(self.norms[0](x))
        return x + self.down(nnx.gelu(self.up(self.norms[1](x))))


class Vit(nnx.Module):
    """Patches of 2 x 2, two blocks, a mean over patches."""

    def __init__(self, rngs):
        self.embed = nnx.Conv(1, 24, (2, 2), strides=2, rngs=rngs)
        self.places = nnx.Param(0.1 * jax.random.normal(rngs.params(), (16, 24)))
        self.blocks = nnx.List([Block(24, rngs) for _ in range(2)])
        self.norm, self.out = nnx.LayerNorm(24, rngs=rngs), nnx.Linear(24, 10, rngs=rngs)

    def __call__(self, x):
        x = self.embed(x).reshape(len(x), 16, 24) + self.places[...]
        for block in self.blocks:
            x = block(x)
        return self.out(self.norm(x).mean(1))


class Transformer(nnx.Module):
    """Tokens, two blocks, a token at each place."""

    def __init__(self, rngs):
        self.embed = nnx.Linear(TOKENS, 32, rngs=rngs)
        self.places = nnx.Param(0.3 * jax.random.normal(rngs.params(), (LENGTH, 32)))
        self.blocks = nnx.List([Block(32, rngs) for _ in range(2)])
        self.norm, self.out = nnx.LayerNorm(32, rngs=rngs), nnx.Linear(32, TOKENS, rngs=rngs)

    def __call__(self, x):
        x = self.embed(x) + self.places[...]
        for block in self.blocks:
            x = block(x)
        return self.out(self.norm(x))


class Lstm(nnx.Module):
    """An LSTM in both directions, a token at each place."""

    def __init__(self, rngs):
        cells = [nnx.RNN(nnx.LSTMCell(TOKENS, 24, rngs=rngs), reverse=r, keep_order=True) for r in (False, True)]
        self.cells = nnx.List(cells)
        self.out = nnx.Linear(48, TOKENS, rngs=rngs)

    def __call__(self, x):
        start = (jnp.zeros((len(x), 24)),) * 2
        return self.out(jnp.concatenate([cell(x, initial_carry=start) for cell in self.cells], -1))


class Ssm(nnx.Module):
    """Two selective state-space layers, as Mamba's: h' = exp(-dt A) h + dt B x, y = C h, with dt, B, C of the input."""

    def __init__(self, rngs):
        size, states = 24, 4
        self.embed = nnx.Linear(TOKENS, size, rngs=rngs)
        self.inputs = nnx.List([nnx.Linear(size, 2 * size + 2 * states, rngs=rngs) for _ in range(4)])
        self.decays = nnx.List([nnx.Param(jnp.log(1.0 + jnp.arange(states)) * jnp.ones((size, 1))) for _ in range(4)])
        self.outs = nnx.List([nnx.Linear(size, size, rngs=rngs) for _ in range(4)])
        self.norms = nnx.List([nnx.RMSNorm(size, rngs=rngs) for _ in range(3)])
        self.out = nnx.Linear(size, TOKENS, rngs=rngs)
        self.size, self.states = size, states

    def layer(self, n, x):
        gate, dt, b, c = jnp.split(self.inputs[n](x), [self.size, 2 * self.size, 2 * self.size + self.states], axis=-1)
        dt = nnx.softplus(dt)[..., None]  # (rows, time, size, 1)
        keep = jnp.exp(-dt * jnp.exp(self.decays[n][...]))
        put = dt * b[..., None, :] * x[..., None]

        def then(h, given):
            h = given[0] * h + given[1]
            return h, h

        along = jax.tree.map(lambda a: jnp.moveaxis(a, 1, 0), (jnp.broadcast_to(keep, put.shape), put))
        h = jnp.moveaxis(jax.lax.scan(then, jnp.zeros_like(put[:, 0]), along)[1], 0, 1)
        return self.outs[n](jnp.einsum("btns,bts->btn", h, c) * nnx.silu(gate))

    def __call__(self, x):
        x = self.embed(x)
        for n in (0, 2):  # the second of each pair reads backwards
            y = self.norms[n // 2](x)
            x = x + self.layer(n, y) + self.layer(n + 1, y[:, ::-1])[:, ::-1]
        return self.out(self.norms[2](x))


class Mlp(nnx.Module):
    """Three matrices."""

    def __init__(self, rngs):
        sizes = [64, 48, 48, 10]
        self.layers = nnx.List([nnx.Linear(i, o, rngs=rngs) for i, o in itertools.pairwise(sizes)])

    def __call__(self, x):
        x = x.reshape(len(x), -1)
        for layer in self.layers[:-1]:
            x = nnx.swish(layer(x))
        return self.layers[-1](x)


NETWORKS = {"mlp": Mlp, "cnn": Cnn, "resnet": ResNet, "vit": Vit, "lstm": Lstm, "transformer": Transformer, "ssm": Ssm}

#: Method from its rate. Scalar RMSProp has no bias correction: `cell` starts it from the squared gradient there.
METHODS = {
    "gd": ia.sgd,
    "momentum": lambda a: ia.momentum(a, 0.5),
    "momentum of the old m": lambda a: ia.momentum(a, 0.5, scheme="explicit"),
    "scalar rmsprop": lambda a, v=0.0: ia.scalar_rmsprop(a, 0.99, initial_scale=v),
    "rmsprop": lambda a: ia.rmsprop(a, 0.99, bias_correction=True),
    "adam": lambda a: ia.adam(a, b1=0.5, b2=0.99),
    "adamw": lambda a: optax.adamw(a, b1=0.5, b2=0.99, weight_decay=0.01),
}
#: A first guess of the rate: that of Adam's kind moves each parameter by about as much.
GUESSES = {"scalar rmsprop": 0.03, "rmsprop": 1e-3, "adam": 1e-3, "adamw": 1e-3}
#: Updates of the warm-up, and its bound over the curvature of the start.
WARM_UP = {"mlp": (300, 3), "cnn": (400, 4), "lstm": (1500, 3)}


def problem(name):
    """Return loss and start of an architecture."""
    # Keys of random numbers are state, and no parameters.
    graph, params, rest = nnx.split(NETWORKS[name](nnx.Rngs(0)), nnx.Param, ...)
    if name in ("lstm", "transformer", "ssm"):
        tokens = np.random.default_rng(0).integers(0, TOKENS, (ROWS, LENGTH))
        x, y = (jax.nn.one_hot(t, TOKENS) for t in (tokens, np.sort(tokens, axis=1)))
    else:
        train, _ = ia.digits()
        x, y = jnp.asarray(train.x[:ROWS]).reshape(-1, 8, 8, 1) / 2, jax.nn.one_hot(train.y[:ROWS], 10)

    def loss(params):
        return jnp.mean(jnp.sum((nnx.merge(graph, params, rest)(x) - y) ** 2, axis=-1))

    return loss, params


def last(path):
    """Return the last params of a path."""
    return jax.tree.map(lambda leaf: leaf[-1], path.params)


def warm(name):
    """Return loss, start and the curvature there: after the warm-up, with noise."""
    loss, params = problem(name)
    updates, above = WARM_UP.get(name, (300, 1.5))
    rate = 2 / (above * float(ia.curvature(loss, params, 1).values[0]))
    z, rebuild = ravel_pytree(last(ia.iterate(ia.sgd(rate), loss, params, updates, every=updates)))
    start = rebuild(z + NOISE * np.random.default_rng(0).normal(size=z.size))
    return loss, start, float(ia.curvature(loss, start, 1).values[0])


def rate_for(make, guess, loss, params, above):
    """Return the rate that puts the bound `above` times over the preconditioned sharpness of a slow start."""
    slow = make(guess / 100)
    watch = {"sharpness": ia.sharpness(slow, loss)}
    seen = ia.iterate(slow, loss, params, 40, every=40, observe=watch).observed["sharpness"][-1, 0]
    return guess / 100 * ia.threshold(slow).bound / (above * seen)


def cell(name, method_name, start, updates, above):
    """Run one cell; return its row."""
    loss, params, curvature = start
    make, size = METHODS[method_name], ravel_pytree(params)[0].size
    if method_name == "scalar rmsprop":
        make = partial(make, v=float(optax.tree.norm(jax.grad(loss)(params), squared=True)))
    began = time.perf_counter()
    rate = np.nan
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rate = rate_for(make, GUESSES.get(method_name, 1 / curvature), loss, params, above)
            run = ia.edge(make(rate), loss, params, updates, window=40)
    except (ia.CurvatureError, ValueError) as error:
        return [name, method_name, size, f"{rate:.3g}", f"{type(error).__name__}: {error}"] + [""] * 7
    seconds = time.perf_counter() - began
    end = -1 - run.window // 2
    shown = run.after(run.window)
    predicted = run.central.observed["mean_loss"][: len(run.loss)]
    if not shown.any():
        shown[end] = True
    mean = run.loss[shown].mean()
    return [
        name, method_name, size, f"{rate:.3g}",
        "no" if run.reached is None else f"at {run.reached:.0f}",
        f"{run.sharpness[end] / run.bound:.3f}", f"{run.displacement[end]:.3g}",
        f"{100 * run.to_central[end] / run.displacement[end]:.2f} %",
        f"{100 * run.to_stable[end] / run.displacement[end]:.2f} %",
        f"{100 * abs(predicted[shown].mean() / mean - 1):.1f} %",
        f"{100 * np.abs(predicted - run.loss)[shown].mean() / mean:.1f} %",
        f"{1e3 * seconds / updates:.0f}",
    ]  # fmt: skip


COLUMNS = [
    "network", "method", "parameters", "rate", "at the edge", "sharpness/bound", "displacement",
    "to central flow", "to stable flow", "mean loss off by", "window by window",
    "ms per update, all three and compilation",
]  # fmt: skip


def main():
    """Run the cells asked for, and write each as it is done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="?", default=",".join(NETWORKS))
    parser.add_argument("methods", nargs="?", default=",".join(METHODS))
    parser.add_argument("--updates", type=int, default=240)
    parser.add_argument("--above", type=float, default=1.1, help="bound over the sharpness of a slow start")
    parser.add_argument("--file", type=Path, default=FILE)
    options = parser.parse_args()
    if not options.file.exists():
        head = f"# Architectures at the edge of stability\n\n{options.updates} updates; relative distances.\n\n"
        options.file.write_text(head + f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n")
    for name in options.networks.split(","):
        start = warm(name)
        for method in options.methods.split(","):
            row = cell(name, method, start, options.updates, options.above)
            print(*row, sep=" | ", flush=True)
            with options.file.open("a") as file:
                file.write(f"| {' | '.join(map(str, row))} |\n")
            jax.clear_caches()


if __name__ == "__main__":
    main()

"""The central flow on seven architectures and seven methods, beside the averaged iterates at the edge of stability.

    python benchmarks/architectures.py                      all cells; hours on two cores
    python benchmarks/architectures.py vit,lstm gd,adam     some
    python benchmarks/architectures.py --updates 200 ...

Image networks see 300 of the bundled digits, sequence models a sorting task made by code: eight tokens of four kinds,
to be given back in order. Losses are mean squared errors of one-hot targets. Rates are set so that the bound is
one and a half times the curvature of the start; a cell that is not at its edge in the end says so. Rows are appended to
RESULTS_ARCHITECTURES.md.
"""

import argparse
import itertools
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.flatten_util import ravel_pytree

import inercia as ia

ROWS, LENGTH, TOKENS = 300, 8, 4
FILE = Path(__file__).parent / "RESULTS_ARCHITECTURES.md"


class Cnn(nnx.Module):
    """Two convolutions and a matrix."""

    def __init__(self, rngs):
        self.one = nnx.Conv(1, 8, (3, 3), rngs=rngs)
        self.two = nnx.Conv(8, 16, (3, 3), strides=2, rngs=rngs)
        self.out = nnx.Linear(256, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.swish(self.two(nnx.swish(self.one(x))))
        return self.out(x.reshape(len(x), -1))


class ResNet(nnx.Module):
    """A convolution and two residual blocks with GroupNorm."""

    def __init__(self, rngs):
        self.first = nnx.Conv(1, 16, (3, 3), strides=2, rngs=rngs)
        blocks = [(nnx.GroupNorm(16, num_groups=4, rngs=rngs), nnx.Conv(16, 16, (3, 3), rngs=rngs)) for _ in range(4)]
        self.norms, self.convs = nnx.List([n for n, _ in blocks]), nnx.List([c for _, c in blocks])
        self.out = nnx.Linear(16, 10, rngs=rngs)

    def __call__(self, x):
        x = self.first(x)
        for n in (0, 2):
            y = self.convs[n](nnx.swish(self.norms[n](x)))
            x = x + self.convs[n + 1](nnx.swish(self.norms[n + 1](y)))
        return self.out(x.mean((1, 2)))


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
        self.out = nnx.Linear(24, 10, rngs=rngs)

    def __call__(self, x):
        x = self.embed(x).reshape(len(x), 16, 24) + self.places[...]
        for block in self.blocks:
            x = block(x)
        return self.out(x.mean(1))


class Transformer(nnx.Module):
    """Tokens, two blocks, a token at each place."""

    def __init__(self, rngs):
        self.embed = nnx.Linear(TOKENS, 32, rngs=rngs)
        self.places = nnx.Param(0.3 * jax.random.normal(rngs.params(), (LENGTH, 32)))
        self.blocks = nnx.List([Block(32, rngs) for _ in range(2)])
        self.out = nnx.Linear(32, TOKENS, rngs=rngs)

    def __call__(self, x):
        x = self.embed(x) + self.places[...]
        for block in self.blocks:
            x = block(x)
        return self.out(x)


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
        self.out = nnx.Linear(size, TOKENS, rngs=rngs)
        self.size, self.states = size, states

    def layer(self, n, x):
        gate, dt, b, c = jnp.split(self.inputs[n](x), [self.size, 2 * self.size, 2 * self.size + self.states], axis=-1)
        dt = nnx.softplus(dt)[..., None]  # (rows, time, size, 1)
        keep = jnp.exp(-dt * jnp.exp(self.decays[n][...]))
        put = dt * b[..., None, :] * x[..., None]

        def then(one, two):
            return one[0] * two[0], one[1] * two[0] + two[1]

        h = jax.lax.associative_scan(then, (keep, put), axis=1)[1]
        return self.outs[n](jnp.einsum("btns,bts->btn", h, c) * nnx.silu(gate))

    def __call__(self, x):
        x = self.embed(x)
        for n in (0, 2):  # the second of each pair reads backwards
            x = x + self.layer(n, x) + self.layer(n + 1, x[:, ::-1])[:, ::-1]
        return self.out(x)


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

#: Method from its rate; rate for a curvature S at the start, or a fixed one for methods that rescale.
METHODS = {
    "gd": (ia.sgd, lambda s: 2 / s),
    "momentum": (lambda a: ia.momentum(a, 0.5), lambda s: 6 / s),
    "momentum, old m": (lambda a: ia.momentum(a, 0.5, scheme="explicit"), lambda s: 1 / s),
    "scalar rmsprop": (lambda a: ia.scalar_rmsprop(a, 0.99, bias_correction=True), None),
    "rmsprop": (lambda a: ia.rmsprop(a, 0.99, bias_correction=True), None),
    "adam": (lambda a: ia.adam(a, b1=0.5, b2=0.99), None),
    "adamw": (lambda a: optax.adamw(a, b1=0.5, b2=0.99, weight_decay=0.01), None),
}
RATES = {"scalar rmsprop": 0.03, "rmsprop": 5e-4, "adam": 1e-3, "adamw": 1e-3}


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


def cell(name, method_name, updates, above):
    """Run one cell; return its row."""
    loss, params = problem(name)
    make, by_curvature = METHODS[method_name]
    start = float(ia.curvature(loss, params, 1).values[0])
    rate = by_curvature(above * start) if by_curvature else RATES[method_name]
    size = ravel_pytree(params)[0].size
    began = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run = ia.edge(make(rate), loss, params, updates, window=40)
    except (ia.CurvatureError, ValueError) as error:
        return [name, method_name, size, f"{rate:.3g}", f"{type(error).__name__}: {error}"] + [""] * 6
    seconds = time.perf_counter() - began
    end = -1 - run.window // 2
    shown = run.after(run.window)
    predicted = run.central.observed["mean_loss"][: len(run.loss)]
    gap = np.abs(predicted - run.loss)[shown].mean() / run.loss[shown].mean() if shown.any() else np.nan
    return [
        name, method_name, size, f"{rate:.3g}",
        "no" if run.reached is None else f"at {run.reached:.0f}",
        f"{run.sharpness[end] / run.bound:.3f}", f"{run.displacement[end]:.3g}",
        f"{100 * run.to_central[end] / run.displacement[end]:.2f} %",
        f"{100 * run.to_stable[end] / run.displacement[end]:.2f} %",
        f"{100 * gap:.1f} %" if shown.any() else f"{100 * abs(predicted[end] / run.loss[end] - 1):.1f} % (end)",
        f"{1e3 * seconds / updates:.0f}",
    ]  # fmt: skip


COLUMNS = [
    "network", "method", "parameters", "rate", "at the edge", "sharpness/bound", "displacement",
    "to central flow", "to stable flow", "mean loss off by, on average", "ms per update, all three and compilation",
]  # fmt: skip


def main():
    """Run the cells asked for, and write each as it is done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="?", default=",".join(NETWORKS))
    parser.add_argument("methods", nargs="?", default=",".join(METHODS))
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--above", type=float, default=1.5, help="bound over the curvature of the start")
    parser.add_argument("--file", type=Path, default=FILE)
    options = parser.parse_args()
    if not options.file.exists():
        head = f"# Architectures at the edge of stability\n\n{options.updates} updates; relative distances.\n\n"
        options.file.write_text(head + f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n")
    for name in options.networks.split(","):
        for method in options.methods.split(","):
            row = cell(name, method, options.updates, options.above)
            print(*row, sep=" | ", flush=True)
            with options.file.open("a") as file:
                file.write(f"| {' | '.join(map(str, row))} |\n")
            jax.clear_caches()


if __name__ == "__main__":
    main()

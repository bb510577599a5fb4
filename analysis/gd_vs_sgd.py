"""Full batch against batches: what one gradient evaluation buys, and how noise leaves a poor minimum.

    cost       training loss on the digits against passes over the data and against seconds, for the full batch and
               for smaller ones, each with the best learning rate of one grid
    escape     a 2-D loss with a poor and a good minimum, f = mean_j f_j: over hundreds of seeds, gradient descent
               never leaves the poor one, SGD does, the more often the larger its learning rate

Run alone: `python analysis/gd_vs_sgd.py --help`.
"""

import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from scipy.stats import binomtest

import inercia as ia
from inercia import plot
from inercia.plot import save

TARGET = 0.1  # training loss


def cost(out: Path, seed: int, fast: bool) -> None:
    """Train with full and small batches and compare by passes and by seconds."""
    data, _ = ia.digits()
    rows, network = len(data.x), ia.mlp([64, 32, 10])
    loss, params = ia.risk(network, "cross-entropy"), network.init(jax.random.key(seed))
    everything = jax.tree.map(jnp.asarray, data)
    passes = {rows: 100 if fast else 400, 128: 12 if fast else 60, 16: 4 if fast else 20}
    rates = jnp.array([0.1, 0.3, 1.0, 3.0, 6.0, 12.0])
    lines = {}
    for size, epochs in passes.items():

        def run(rate, evaluate=None, size=size, epochs=epochs):
            full = size == rows
            return ia.train(
                ia.sgd(rate), loss, params, data, epochs=epochs, key=seed, sampler="full" if full else "shuffle",
                batch_size=None if full else size, evaluate=evaluate, every=max(1, rows // size // 11),
            )  # fmt: skip

        grid = jax.vmap(lambda rate: run(rate, lambda p: loss(p, everything)))(rates).history
        spent = np.asarray(grid.step[0]) * size / rows  # passes over the data
        measured = np.asarray(grid.evaluate, np.float64)
        reached = [spent[values <= TARGET].min(initial=np.inf) for values in measured]
        best = int(np.argmin(reached))
        timed = jax.jit(run)
        jax.block_until_ready(timed(rates[best]))
        began = time.perf_counter()
        jax.block_until_ready(timed(rates[best]))
        seconds = (time.perf_counter() - began) / spent[-1]  # of a pass, nothing evaluated
        lines[size] = (float(rates[best]), spent, measured[best], reached[best], seconds)
        print(f"batch {size}: rate {rates[best]:.1f}, loss {TARGET} after {reached[best]:.2f} passes, "
              f"{1e3 * reached[best] * seconds:.1f} ms")  # fmt: skip
    assert all(line[0] < rates[-1] for line in lines.values())  # the best is inside the grid
    assert lines[128][3] < lines[rows][3] / 5  # the same loss for less than a fifth of the gradients

    def draw(ax, of_time, x_label):
        for (size, (rate, spent, values, _, seconds)), colour in zip(lines.items(), plot.COLOURS, strict=False):
            label = f"{'all' if size == rows else size} rows, $a$ = {rate:g}"
            ax.loglog(spent * seconds if of_time else spent, values, color=colour, label=label)
        ax.axhline(TARGET, color="0.8", lw=0.8, zorder=0)
        ax.set(xlabel=x_label, ylabel="training loss", ylim=(1e-3, 3))
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, columnspacing=0.8, handlelength=1)

    print(save(lambda ax: draw(ax, False, "passes over the data"), out / "gd_vs_sgd_passes.png"))
    print(save(lambda ax: draw(ax, True, "seconds on this machine"), out / "gd_vs_sgd_seconds.png"))


def tilted(params: jax.Array) -> jax.Array:
    """Return a double well whose left minimum is the poor one: (x^2 - 1)^2 / 4 - 0.15 x + y^2 / 2."""
    return 0.25 * (params[0] ** 2 - 1) ** 2 - 0.15 * params[0] + 0.5 * params[1] ** 2


def escape(out: Path, seed: int, fast: bool) -> None:
    """Count, over seeds, how often each method leaves the poor minimum."""
    seeds, steps = (200, 300) if fast else (1000, 300)
    # f_j(theta) = f(theta) + xi_j . theta with sum_j xi_j = 0: the noise of a batch is that of its xi_j.
    xi = np.random.default_rng(seed).normal(size=(64, 2))
    xi -= xi.mean(axis=0)
    data = (xi.astype(np.float32), np.zeros(64, np.float32))

    def loss(params, batch):
        return tilted(params) + jnp.mean(batch[0], axis=0) @ params

    poor = np.array([-0.92, 0.0], np.float32)
    starts = poor + 0.05 * jax.random.normal(jax.random.key(seed), (seeds, 2))
    keys = jax.random.split(jax.random.key(seed + 1), seeds)

    rates = np.array([0.1, 0.3, 0.5] if fast else [0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5])

    def escaped(sampler, size):
        def end(rate, start, key):
            passes = steps * size // len(xi)
            ran = ia.train(ia.sgd(rate), loss, start, data, epochs=passes, key=key, sampler=sampler, batch_size=size)
            return ran.params[0]

        over_seeds = jax.vmap(end, (None, 0, 0))
        ends = jax.vmap(over_seeds, (0, None, None))(jnp.asarray(rates, jnp.float32), starts, keys)
        counts = np.asarray((ends > 0.17).sum(axis=1))  # beyond the maximum between the two minima
        intervals = [binomtest(int(n), seeds).proportion_ci(method="wilson") for n in counts]
        return np.array([(n / seeds, i.low, i.high) for n, i in zip(counts, intervals, strict=True)])

    measured = {"SGD, batches of 4": escaped("partition", 4), "gradient descent": escaped("full", len(xi))}
    for name, values in measured.items():
        print(f"{name}: " + ", ".join(f"a = {a}: {p:.1%} [{lo:.1%}, {hi:.1%}]"
                                      for a, (p, lo, hi) in zip(rates, values, strict=True)))  # fmt: skip
    sgd, gd = measured.values()
    assert (gd[:, 0] == 0).all()
    assert sgd[-1, 1] > gd[-1, 2]  # the intervals are apart
    assert sgd[-1, 1] > 0.2

    def draw(ax):
        for (name, values), colour in zip(measured.items(), plot.COLOURS, strict=False):
            spread = abs(values[:, 1:] - values[:, :1]).T
            ax.errorbar(rates, values[:, 0], spread, fmt="o-", ms=4, capsize=2, color=colour)
            ax.annotate(name, (rates[-1], values[-1, 0]), xytext=(0, 8), textcoords="offset points", ha="right",
                        color=colour)  # fmt: skip
        ax.set(xlabel="learning rate", ylabel=f"share of {seeds} seeds that left\nthe poor minimum", ylim=(-0.03, 1))

    print(save(draw, out / "gd_vs_sgd_escape.png"))


def main(out: Path = Path("figures"), seed: int = 0, fast: bool = False) -> None:
    """Compare the full batch with small ones.

    Args:
        out: Folder for the figures.
        seed: Of the network's start, the batches and the noise.
        fast: Fewer passes and seeds.
    """
    out.mkdir(parents=True, exist_ok=True)
    cost(out, seed, fast)
    escape(out, seed, fast)


if __name__ == "__main__":
    tyro.cli(main)

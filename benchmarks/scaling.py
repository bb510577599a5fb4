"""How the cost of training grows: with parameters, rows, steps and the number of seeds."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import inercia as ia
from inercia import plot
from inercia.plot import save
from timing import Section, interleaved, table

FIGURES = Path(__file__).parent / "figures"


def run(fast: bool) -> Section:
    """Time one quantity after the other, the rest held; draw each."""
    text = ""
    for what, unit, values, make in (
        ("parameters", "µs per step", [16, 64, 256, 1024], _width),
        ("rows", "µs per step", [2**10, 2**13, 2**16, 2**19], _rows),
        ("steps", "s", [64, 640, 6400, 64000], _steps),
        ("seeds", "s", [1, 10, 100, 1000], _seeds),
    ):
        made = [make(v) for v in values[: 2 if fast else 4]]
        seconds, _ = interleaved({name: call for name, call, _ in made}, 3 if fast else 7)
        per = [scale for *_, scale in made]
        x = np.array([float(name) for name in seconds])
        y = np.array([np.median(t) for t in seconds.values()]) * per
        slopes = np.diff(np.log(y)) / np.diff(np.log(x))
        rows = [[f"{a:,.0f}", f"{b:.4g}"] for a, b in zip(x, y, strict=True)]
        text += table([what, unit], rows) + f"\nGrowth between the last two: {what}^{slopes[-1]:.2f}.\n\n"

        def draw(ax, x=x, y=y, what=what, unit=unit):
            ax.loglog(x, y, "o-", color=plot.COLOURS[0], ms=4)
            ax.set(xlabel=what, ylabel=unit)

        FIGURES.mkdir(exist_ok=True)
        save(draw, FIGURES / f"cost_{what}.png")
        text += f"![cost against {what}](figures/cost_{what}.png)\n\n"
    return Section("Growth", text, [])


def _call(widths, rows, batch, epochs):
    network = ia.mlp(widths)
    x = jnp.linspace(-1, 1, rows)[:, None] * jnp.ones(widths[0])
    data, loss, params = (x, jnp.sin(4 * x[:, :1])), ia.risk(network), network.init(jax.random.key(0))
    method = ia.adam(1e-3)
    return lambda: ia.train(method, loss, params, data, epochs=epochs, batch_size=batch, key=0).params


def _width(n):
    size = n * n + 3 * n + 1
    return str(size), _call([1, n, n, 1], 256, 32, 50), 1e6 / 400


def _rows(n):
    epochs = max(1, 2**17 // n)  # 4096 steps, or one pass
    return str(n), _call([1, 32, 32, 1], n, 32, epochs), 1e6 / (n // 32 * epochs)


def _steps(n):
    return str(n), _call([1, 32, 32, 1], 256, 32, n // 8), 1.0


def _seeds(n):
    network = ia.mlp([1, 32, 32, 1])
    x = jnp.linspace(-1, 1, 256)[:, None]
    data, loss = (x, jnp.sin(4 * x)), ia.risk(network)

    def one(key):
        return ia.train(ia.adam(1e-3), loss, network.init(key), data, epochs=10, batch_size=32, key=key).params

    together, keys = jax.jit(jax.vmap(one)), jax.random.split(jax.random.key(0), n)
    return str(n), lambda: together(keys), 1.0

"""What the differential equation cannot see: the step size that is too large.

    phase      the growth per iteration over (b, a l): the lecture's order is stable iff a l < 1 for every b, the
               frameworks' up to (2+2b)/(1-b); their common flow is stable everywhere
    edge       full-batch training of a network: the sharpness climbs to the bound and stays: 2/a for gradient descent,
               (2+2b)/((1-b) a) for momentum, 1/a for the lecture's order
    adam       the same for Adam, whose sharpness is that of D^-1/2 H D^-1/2, D = sqrt(v-hat) + eps: 6/a for b1 = 1/2.
               At b1 = 0.9 it does not settle: it climbs to 38/a, a burst throws it back, and its mean is a little lower

Run alone: `python analysis/stability.py --help`.
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax.flatten_util import ravel_pytree

import inercia as ia
from inercia import plot
from inercia.plot import save


def phase(out: Path, fast: bool) -> None:
    """Draw the phase diagrams of both orders and check their edges."""
    n = 200 if fast else 1000
    b, x = np.meshgrid(np.linspace(0, 0.98, n), np.geomspace(0.1, 100, n))
    growth = {kind: np.asarray(jax.jit(ia.growth, static_argnums=0)(kind, x, b)) for kind in ia.SCHEMES[::-1]}
    edges = {"explicit": 1 + 0 * b[0], "semi-implicit": (2 + 2 * b[0]) / (1 - b[0])}
    for kind, rate in growth.items():
        wrong = np.mean((rate < 1) != (x < edges[kind]))
        print(f"{kind}: {rate.size} cells, {wrong:.3%} on the other side of the formula's edge")
        assert wrong < 2 / n

        def draw(ax, rate=rate, kind=kind):
            ax.contourf(b, x, rate < 1, levels=[-0.5, 0.5, 1.5], colors=["#F4D7C5", "#D0E4F2"])
            ax.plot(b[0], edges[kind], color="k")
            formula = r"$a\lambda = 1$" if kind == "explicit" else r"$a\lambda = (2+2b)/(1-b)$"
            ax.text(0.3, edges[kind][n // 3] * (1.15 if kind == "explicit" else 0.45), formula)
            ax.text(0.5, 0.2, "stable", ha="center")
            ax.text(0.2, 40, "unstable", ha="center")
            ax.set(xlabel=r"$b$", ylabel=r"$a\lambda$", yscale="log", title=f"{kind} order", ylim=(0.1, 100))

        print(save(draw, out / f"stability_{kind}.png"))


def edge(out: Path, seed: int, fast: bool) -> None:
    """Follow the sharpness of a small network under full-batch training."""
    network = ia.mlp([8, 16, 16, 1], "swish")
    of_x, of_params = jax.random.split(jax.random.key(seed))
    x = jax.random.normal(of_x, (64, 8))
    batch = (x, jnp.sin(3 * x[:, :1]) + x[:, 1:2] * x[:, 2:3])
    of_batch, params = ia.risk(network), network.init(of_params)
    _, rebuild = ravel_pytree(params)

    def loss(p):
        return 2 * of_batch(p, batch)

    @jax.jit
    def sharpness(z, scale):
        hessian = jax.hessian(lambda z: loss(rebuild(z)))(z)
        return jnp.linalg.eigvalsh(hessian / jnp.sqrt(scale) / jnp.sqrt(scale)[:, None])[-1]

    def follow(method, a, steps):
        run = ia.iterate(method, loss, params, steps, every=steps // 60)
        z = run.flat()
        scale = np.ones_like(z)
        if hasattr(run.state, "nu"):
            nu = np.concatenate([leaf.reshape(len(z), -1) for leaf in jax.tree.leaves(run.state.nu)], axis=1)
            scale = np.sqrt(nu / np.maximum(1 - 0.999 ** run.state.count[:, None], 1e-3)) + 1e-8
        return run.times[1:], a * np.array([float(sharpness(*pair)) for pair in zip(z[1:], scale[1:], strict=True)])

    def draw(ax, lines):
        for (name, (t, s, bound)), colour in zip(lines.items(), plot.COLOURS, strict=False):
            ax.semilogy(t, s, color=colour)
            ax.axhline(bound, color=colour, lw=0.8, ls=":")
            ax.text(t[-1], bound * 1.13, name, color=colour, ha="right", fontsize=8)
        ax.set(
            xlabel="iterations",
            ylabel=r"learning rate $\times$ sharpness",
            ylim=(None, 1.5 * max(s.max() for _, s, _ in lines.values())),
        )

    plain, adam = {}, {}
    for name, method, a, bound in (
        ("GD: 2", ia.sgd(0.4), 0.4, 2.0),
        ("momentum, b = 0.5: 6", ia.momentum(1.2, 0.5), 1.2, 6.0),
        ("the lecture's order, b = 0.5: 1", ia.momentum(0.2, 0.5, scheme="explicit"), 0.2, 1.0),
    ):
        times, measured = follow(method, a, 3000 if fast else 6000)
        plain[name] = (times, measured, bound)
        late = measured[40:].mean()
        print(f"{name}: a S settles at {late:.3f}, {late / bound - 1:+.1%} of its bound")
        assert abs(late / bound - 1) < 0.03
    for name, a, b1 in (("Adam, $b_1$ = 0.5: 6", 3e-4, 0.5), ("Adam, $b_1$ = 0.9: 38", 1e-3, 0.9)):
        bound = (2 + 2 * b1) / (1 - b1)
        times, measured = follow(ia.adam(a, b1=b1), a, 12000)
        adam[name] = (times, measured, bound)
        late, high = measured[40:].mean(), np.quantile(measured[40:], 0.9)
        print(f"{name}: mean {late:.2f}, {late / bound - 1:+.1%} of its bound; it climbs to {high:.2f}")
        if b1 == 0.5:
            assert abs(late / bound - 1) < 0.03
        else:
            assert abs(high / bound - 1) < 0.03
            assert 0.9 < late / bound < 1
    print(save(partial(draw, lines=plain), out / "stability_edge.png"))
    print(save(partial(draw, lines=adam), out / "stability_adam.png"))


def main(out: Path = Path("figures"), seed: int = 0, fast: bool = False) -> None:
    """Draw what the differential equation cannot see.

    Args:
        out: Folder for the figures.
        seed: Of the data and the network's start.
        fast: Coarser diagrams and fewer iterations.
    """
    out.mkdir(parents=True, exist_ok=True)
    phase(out, fast)
    edge(out, seed, fast)


if __name__ == "__main__":
    tyro.cli(main)

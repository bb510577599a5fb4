"""Discrete against continuous momentum: the lecture's comparison, measured.

    path       both orders on a ravine, over the flow: the semi-implicit one follows it, the explicit one overshoots
    digits     the same on a real network: the gap over the displacement
    energy     E = |theta'|^2/2 + a (1-b) f falls along the flow; one explicit step can raise it
    friction   theta'' + [(1-b) - a'/a] theta' + a (1-b) g = 0: the coefficient that the slide calls inertia multiplies
               theta', so that it is friction, and a learning rate growing faster than (1-b) makes it negative
    gammas     the same as theta'' = gamma_1 m - gamma_2 g, gamma_1 = a (1-b) - a', gamma_2 = a (1-b): gamma_2 is never
               negative; gamma_1 is above it while the rate falls, below it while it grows, and negative where it grows
               faster than (1-b), as a warm-up begins: there the speed grows without a force

Run alone: `python analysis/momentum.py --help`.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import inercia as ia
from inercia import plot
from inercia.comparison.both_schemes import two_dimensional
from inercia.plot import save
from inercia.problems.digits_loss import digits_loss


def path(out: Path) -> None:
    """Draw both orders over the flow, on the ravine."""
    loss, lines = two_dimensional("ravine", 60)
    flow = lines["flow"]
    explicit, implicit = (
        ia.gap(line, flow[:: (len(flow) - 1) // 60]) for name, line in lines.items() if name != "flow"
    )
    worst = explicit.distance.max(), implicit.distance.max()
    print(f"ravine: largest distance to the flow {worst[0]:.3f} explicit, {worst[1]:.3f} semi-implicit")
    assert worst[0] > 2 * worst[1]
    print(save(lambda ax: plot.paths(ax, loss, lines), out / "momentum_path.png"))


def digits(out: Path, seed: int, fast: bool) -> None:
    """Measure and draw the gap on the digits network."""
    loss, params = digits_loss((8,) if fast else (32,), seed)
    steps = 40 if fast else 120
    flow, gaps = None, {}
    for scheme in ia.SCHEMES:
        iterates = ia.iterate(ia.momentum(0.1, 0.9, scheme=scheme), loss, params, steps)
        flow = flow or ia.integrate(ia.momentum(0.1, 0.9), loss, params, iterates.times)
        gaps[scheme] = ia.gap(iterates, flow)
        print(f"digits, {scheme}: {gaps[scheme].relative[-1]:.2%} of the way after {steps} iterations")
        assert gaps[scheme].relative[-1] < 0.05
    print(save(lambda ax: plot.gaps(ax, gaps, relative=True), out / "momentum_digits.png"))


def energy(out: Path) -> None:
    """Draw the energy along the flow and along both orders' iterates."""
    a, b = 0.9, 0.95
    loss, start = ia.quadratic([[1.0]]), np.array([1.0])
    times = np.linspace(0, 80, 801)
    flow = ia.integrate(ia.momentum(a, b), loss, start, times)
    lines = {"flow": (times, ia.energy(flow, a, b))}
    for scheme in ia.SCHEMES:
        iterates = ia.iterate(ia.momentum(a, b, scheme=scheme), loss, start, 80)
        lines[scheme] = (iterates.times, ia.energy(iterates, a, b))
    rises = {name: np.diff(e).max() for name, (_, e) in lines.items()}
    print("energy: largest rise in a step " + ", ".join(f"{name} {rise:.1e}" for name, rise in rises.items()))
    assert rises["flow"] <= 0 < rises["explicit"]

    def draw(ax):
        for (name, (t, e)), colour in zip(lines.items(), plot.COLOURS, strict=False):
            ax.semilogy(t, e / e[0], color=colour, label=name)
        ax.set(xlabel="time (iterations)", ylabel="energy / energy at the start", ylim=(1e-2, 2))
        ax.legend(loc="lower left")

    print(save(draw, out / "momentum_energy.png"))


def friction(out: Path) -> None:
    """Show that the coefficient of theta' is friction, and what a growing learning rate does to it."""
    b, times = 0.9, np.linspace(0, 30, 301)
    growths = {"a' = 0": 0.0, "a'/a = (1-b)/2": 0.05, "a'/a = 2 (1-b)": 0.2}
    lines = {}
    for name, rate in growths.items():

        def schedule(t, rate=rate):
            return 0.05 * jnp.exp(rate * t)

        loss, start = ia.quadratic([[0.02]]), np.array([1.0])
        state = ia.OscillatorState(jnp.int32(0), np.zeros(1))
        second = ia.integrate(ia.oscillator(schedule, b), loss, start, times, state=state, rtol=1e-10)
        first = ia.integrate(ia.momentum(schedule, b), loss, start, times, rtol=1e-10)
        apart = abs(second.params - first.params).max()
        lines[name] = (second.state.velocity[:, 0], (1 - b) - rate)
        print(f"friction {(1 - b) - rate:+.2f} ({name}): first- and second-order forms agree to {apart:.0e}")
        assert apart < 1e-6

    def draw(ax):
        for (name, (v, coefficient)), colour in zip(lines.items(), plot.COLOURS, strict=False):
            ax.semilogy(times[1:], abs(v[1:]), color=colour, label=f"{name}: friction {coefficient:+.2f}")
        ax.set(xlabel="time (iterations)", ylabel=r"speed $|\theta'|$")
        ax.legend(loc="lower right")

    print(save(draw, out / "momentum_friction.png"))


def gammas(out: Path) -> None:
    """Draw gamma_1 and gamma_2 for three schedules, and check them on paths and where no force acts."""
    a, b, rise, end = 0.1, 0.9, 20, 60
    schedules = {
        "constant": lambda t: a + 0 * t,
        "warm-up": lambda t: a * jnp.minimum((t + 1) / rise, 1.0),
        "cosine": lambda t: a * (1 + jnp.cos(jnp.pi * t / end)) / 2,
    }
    h = 0.02
    times = np.arange(0, end - 5, h)
    loss, flat, lines = ia.quadratic([[0.2]]), ia.quadratic([[0.0]]), {}
    for name, schedule in schedules.items():
        rate, slope = (np.asarray(jax.vmap(f)(times), np.float64) for f in (schedule, jax.grad(schedule)))
        g1, g2 = rate * (1 - b) - slope, rate * (1 - b)
        method = ia.momentum(schedule, b)
        path = ia.integrate(method, loss, np.ones(1), times, rtol=1e-11, atol=1e-13)
        x, m = path.params[:, 0], path.state.m[:, 0]
        smooth = abs(times - (rise - 1))[1:-1] > 2 * h  # away from the warm-up's corner
        apart = abs(np.diff(x, 2) / h**2 - (g1 * m - g2 * 0.2 * x)[1:-1])[smooth].max()
        begun = ia.MomentumState(jnp.int32(0), np.ones(1))
        speed = rate * ia.integrate(method, flat, np.ones(1), times, state=begun, rtol=1e-11).state.m[:, 0]
        grows = np.diff(speed) > 0
        right = (grows == (g1 < 0)[:-1])[abs(times - (rise / 2 - 1))[:-1] > 2 * h].mean()
        lines[name] = (g1, g2)
        print(f"gammas, {name}: gamma_1 from {g1.min():+.4f} to {g1.max():+.4f}, gamma_2 from {g2.min():.4f}; second "
              f"differences agree to {apart:.0e}; without a force the speed grows {grows.mean():.0%} of the time, just "
              f"where gamma_1 < 0: {right:.0%}")  # fmt: skip
        assert apart < 1e-5
        assert right == 1
        assert (g2 >= 0).all()
    assert lines["warm-up"][0].min() < 0 <= min(lines[name][0].min() for name in ("constant", "cosine"))

    def draw(ax):
        for (name, (g1, g2)), colour in zip(lines.items(), plot.COLOURS, strict=False):
            ax.plot(times, g1, color=colour, label=name)
            ax.plot(times, g2, color=colour, ls=":")
        ax.axhline(0, color="0.7", lw=0.8, zorder=0)
        ax.annotate(
            "negative: the speed\ngrows by itself", (3, -0.0034), (13, -0.0042), color=plot.COLOURS[1], fontsize=8,
            va="center", arrowprops={"arrowstyle": "-", "color": plot.COLOURS[1], "lw": 0.8},
        )  # fmt: skip
        ax.set(xlabel="time (iterations)", ylabel=r"$\gamma_1$ (line), $\gamma_2$ (dots)", ylim=(-0.0055, 0.0135))
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, columnspacing=0.8, handlelength=1)

    print(save(draw, out / "momentum_gammas.png"))


def main(out: Path = Path("figures"), seed: int = 0, fast: bool = False) -> None:
    """Discrete against continuous momentum.

    Args:
        out: Folder for the figures.
        seed: Of the network's start.
        fast: A smaller network and fewer iterations.
    """
    out.mkdir(parents=True, exist_ok=True)
    path(out)
    digits(out, seed, fast)
    energy(out)
    friction(out)
    gammas(out)
    print(save(lambda ax: plot.damping(ax, 0.1), out / "momentum_damping.png"))


if __name__ == "__main__":
    tyro.cli(main)

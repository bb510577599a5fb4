"""Rod flow, edge flow and central flow beside the stable one, where iterates oscillate.

    table      end of each flow to the averaged iterates over the displacement, on a tanh network of 229 parameters, for
               GD and momentum at the edge of stability and below it; seconds that each flow took
    floor      how far the edge flow overshoots the edge for floors from 1e-16 to 1e-4, beside the iterates

Run alone: `python analysis/oscillation.py --help`.
"""

import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import inercia as ia
from inercia.plot import save

NETWORK = ia.mlp([4, 12, 12, 1], "tanh")
ROWS = np.random.default_rng(0).normal(size=(64, 4))
TARGETS = np.sin(ROWS @ np.random.default_rng(1).normal(size=(4, 1)))
METHODS = {
    "GD, a = 0.1": ia.sgd(0.1),
    "momentum, b = 0.5, a = 0.3": ia.momentum(0.3, 0.5),
    "momentum, b = 0.5, a = 0.1": ia.momentum(0.1, 0.5),  # stays below its edge
}
#: Points on either side over which iterates are averaged.
WINDOW = 25


def error(params):
    """Return the mean squared error on the rows."""
    return jnp.mean((NETWORK.apply(params, ROWS) - TARGETS) ** 2)


def ends(method, start, steps: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return each flow's end gap over the displacement, and the seconds it took."""
    path = ia.iterate(method, error, start, steps + WINDOW)
    tail = path.flat()[-2 * WINDOW - 1 :]
    mean = (tail[:-1].mean(0) + tail[1:].mean(0)) / 2
    away = np.linalg.norm(mean - path.flat()[0])
    flows = {
        "stable": lambda: ia.integrate(method, error, start, [0.0, steps], rtol=1e-6, atol=1e-9),
        "rod": lambda: ia.rod(method, error, start, steps, every=steps),
        "edge": lambda: ia.edge_flow(method, error, start, steps, every=steps),
        "central": lambda: ia.central(method, error, start, steps, every=steps),
    }
    gaps, seconds = {}, {}
    for name, solve in flows.items():
        first = time.perf_counter()
        try:
            gaps[name] = float(np.linalg.norm(solve().flat()[-1] - mean) / away)
        except ia.IntegrationError:
            gaps[name] = float("nan")
        seconds[name] = time.perf_counter() - first
    return gaps, seconds


def table(out: Path, start, fast: bool) -> None:
    """Compare the four flows for each method."""
    measured = {}
    for name, method in list(METHODS.items())[2 if fast else 0 :]:
        gaps, seconds = ends(method, start, 200 if fast else 900)
        told = ", ".join(f"{flow} {gap:.3f} ({seconds[flow]:.0f} s)" for flow, gap in gaps.items())
        print(f"{name:<28} end gap over displacement: {told}")
        measured[name] = gaps
        assert np.isfinite(list(gaps.values())).all()
    if (
        not fast
    ):  # for GD the edge flow is the nearest; with momentum it is not, whose memory it follows to second order
        gaps = measured["GD, a = 0.1"]
        assert gaps["edge"] < 0.5 * gaps["stable"]
        assert all(gaps["central"] < gaps["stable"] for gaps in measured.values())

    def draw(axes):
        for k, flow in enumerate(("stable", "rod", "edge", "central")):
            axes.bar(np.arange(len(measured)) + 0.2 * k, [gaps[flow] for gaps in measured.values()], 0.2, label=flow)
        axes.set(yscale="log", ylabel="end gap / displacement")
        axes.set_xticks(np.arange(len(measured)) + 0.3, list(measured), fontsize=7)
        axes.legend(fontsize=7)

    print(save(draw, out / "oscillation_table.png", (6.5, 3.2)))


def ramp(p):
    """Descent raises the curvature y until 2 / a, where x oscillates and holds it."""
    x, y = p
    return (y + 0.3 * x) * x**2 / 2 - 1e-3 * (x + y)


def floor(out: Path, fast: bool) -> None:
    """Measure the overshoot of the edge flow against its floor: it grows as the root of the floor's logarithm."""
    a = 0.3
    start, steps = np.array([0.0, 2 / a - 0.3]), 2500
    floors = np.logspace(-16, -4, 3 if fast else 7)
    over = np.array(
        [ia.edge_flow(ia.sgd(a), ramp, start, steps, every=10, floor=f).params[:, 1].max() - 2 / a for f in floors]
    )
    iterates = ia.iterate(ia.sgd(a), ramp, start, steps).params[:, 1].max() - 2 / a
    print(f"overshoot for floors 1e-16..1e-4: {', '.join(f'{o:.3f}' for o in over)}; of the iterates {iterates:.3f}")
    assert (np.diff(over) < 0).all()

    def draw(axes):
        axes.semilogx(floors, over, "o-", label="edge flow")
        axes.axhline(iterates, color="k", lw=1, label="iterates")
        axes.set(xlabel="floor", ylabel="overshoot of the curvature")
        axes.legend(fontsize=7)

    print(save(draw, out / "oscillation_floor.png", (4.2, 3.2)))


def main(seed: int = 0, out: Path = Path("figures"), fast: bool = False) -> None:
    """Draw and check.

    Args:
        seed: of the network's start.
        out: folder for the figures.
        fast: a quick look.
    """
    out.mkdir(parents=True, exist_ok=True)
    table(out, NETWORK.init(jax.random.key(seed)), fast)
    floor(out, fast)


if __name__ == "__main__":
    tyro.cli(main)

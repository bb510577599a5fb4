"""A run at the edge of stability."""

from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from inercia.comparison.edge_run import Edge
from inercia.plot.style import COLOURS, legend_above
from inercia.plot.words import said


def edge(axes: Sequence[Axes], run: Edge) -> list[Artist]:
    """Draw a run at the edge of stability: loss, sharpness with its bound, distance; iterates, stable and central flow.

    Args:
        axes: three, side by side.
        run: of `inercia.edge`.
    """
    loss, sharp, apart = axes
    blue, orange, green = COLOURS[0], COLOURS[1], COLOURS[2]
    t, path, middle, stable = run.times, run.iterates, run.central, run.stable
    top = stable.observed["sharpness"][:, 0]
    artists: list[Artist] = []

    def draw(ax: Axes, values: Any, colour: str, label: str | None = None, **style: Any) -> None:
        artists.extend(ax.plot(t, values, color=colour, label=label, **style))

    draw(loss, path.loss, blue, lw=0.4, alpha=0.35)
    draw(loss, run.loss, blue, said("iterates, averaged"))
    draw(loss, stable.loss, orange, said("stable flow"), ls="--")
    draw(loss, middle.observed["mean_loss"], green, said("central flow, predicted"), ls="-.")
    loss.set(xlabel=said("updates"), ylabel=said("training loss"), yscale="log")
    draw(sharp, path.observed["sharpness"][:, 0], blue, lw=0.4, alpha=0.35)
    draw(sharp, run.sharpness, blue, said("iterates, averaged"))
    draw(sharp, top, orange, said("stable flow"), ls="--")
    draw(sharp, middle.observed["sharpness"][:, 0], green, said("central flow"), ls="-.")
    sharp.axhline(run.bound, color="0.5", lw=0.8, ls=":", label=said("bound {bound:.4g}", bound=run.bound))
    sharp.set(xlabel=said("updates"), ylabel=said("largest eigenvalue of $P^{-1}H$"), ylim=(0, 2.2 * run.bound))
    draw(apart, run.displacement, blue, said("displacement of the iterates"))
    draw(apart, run.to_stable, orange, said("to the stable flow"), ls="--")
    draw(apart, run.to_central, green, said("to the central flow"), ls="-.")
    apart.set(xlabel=said("updates"), ylabel=said("distance"))
    for ax in axes:
        legend_above(ax, columns=1)
    return artists

"""A run at the edge of stability."""

from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from inercia.comparison.edge_run import Edge
from inercia.plot.style import COLOURS


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
    draw(loss, run.loss, blue, "iterates, averaged")
    draw(loss, stable.loss, orange, "stable flow", ls="--")
    draw(loss, middle.observed["mean_loss"], green, "central flow, predicted", ls="-.")
    loss.set(xlabel="updates", ylabel="training loss", yscale="log")
    draw(sharp, path.observed["sharpness"][:, 0], blue, lw=0.4, alpha=0.35)
    draw(sharp, run.sharpness, blue, "iterates, averaged")
    draw(sharp, top, orange, "stable flow", ls="--")
    draw(sharp, middle.observed["sharpness"][:, 0], green, "central flow", ls="-.")
    sharp.axhline(run.bound, color="0.5", lw=0.8, ls=":")
    sharp.text(t[-1], run.bound * 1.02, f"bound {run.bound:.4g}", ha="right", va="bottom", fontsize=8, color="0.4")
    sharp.set(xlabel="updates", ylabel=r"largest eigenvalue of $P^{-1}H$", ylim=(0, 2.2 * run.bound))
    draw(apart, run.displacement, blue, "displacement of the iterates")
    draw(apart, run.to_stable, orange, "to the stable flow", ls="--")
    draw(apart, run.to_central, green, "to the central flow", ls="-.")
    apart.set(xlabel="updates", ylabel="distance")
    for ax in axes:
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=1, borderaxespad=0.2)
    return artists

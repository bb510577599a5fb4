"""A run at the edge of stability."""

from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from inercia.comparison.edge_run import Edge
from inercia.plot.style import COLOURS, legend_above
from inercia.plot.words import said

#: Flows that may stand beside: label, label of the distance to it, colour and line.
_OTHERS = {
    "modified": ("modified flow", "to the modified flow", COLOURS[3], ":"),
    "rod": ("rod flow", "to the rod flow", COLOURS[5], (0, (5, 1, 1, 1, 1, 1))),
    "edge_flow": ("edge flow", "to the edge flow", COLOURS[4], (0, (1, 1))),
}


def edge(axes: Sequence[Axes], run: Edge) -> list[Artist]:
    """Draw a run at the edge of stability: loss, sharpness with its bound, distance; iterates, stable and central flow.

    The flows of `run.others` stand beside in loss and distance; they carry no sharpness, and
    their loss is that of their middle, without the oscillation's.

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
        artists.extend(ax.plot(t[: len(values)], values, color=colour, label=label, **style))

    draw(loss, path.loss, blue, lw=0.4, alpha=0.35)
    draw(loss, run.loss, blue, said("iterates, averaged"))
    draw(loss, stable.loss, orange, said("stable flow"), ls="--")
    draw(loss, middle.observed["mean_loss"], green, said("central flow, predicted"), ls="-.")
    for name, own in run.others.items():
        label, _, colour, line = _OTHERS[name]
        draw(loss, own.loss, colour, said(label), ls=line)
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
    for name, away in run.to_others.items():
        _, label, colour, line = _OTHERS[name]
        draw(apart, away, colour, said(label), ls=line)
    apart.set(xlabel=said("updates"), ylabel=said("distance"))
    for ax in axes:
        legend_above(ax, columns=1)
    return artists

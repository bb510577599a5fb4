"""What changes along time."""

import itertools
from collections.abc import Mapping

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from inercia.comparison.gap_and_energy import Gap
from inercia.plot.style import colours, legend_above, name_ends
from inercia.training.loop import History


def gaps(ax: Axes, lines: Mapping[str, Gap], *, relative: bool = False) -> list[Artist]:
    """Draw the distance between iterates and flow over time, on a logarithmic axis."""
    artists: list[Artist] = []
    for (label, gap), colour in zip(lines.items(), colours(len(lines)), strict=True):
        value = gap.relative if relative else gap.distance
        shown = value > 0
        artists += ax.semilogy(gap.times[shown], value[shown], color=colour, label=label)
    name_ends(ax, -1)
    ax.set(xlabel="time (iterations)", ylabel="relative distance" if relative else "distance to the flow")
    return artists


def training(ax: Axes, lines: Mapping[str, History], *, evaluate: bool = False) -> list[Artist]:
    """Draw the training loss, or what `evaluate` returned (one number per record), over iterations."""
    artists: list[Artist] = []
    dashes = itertools.cycle(("-", "--", "-.", ":"))  # curves that coincide stay visible
    for (label, history), colour in zip(lines.items(), colours(len(lines)), strict=True):
        value = np.asarray(history.evaluate if evaluate else history.loss)
        draw = ax.plot if evaluate else ax.semilogy
        artists += draw(np.asarray(history.step), value, color=colour, ls=next(dashes), label=label)
    ax.set(xlabel="iterations", ylabel="test accuracy" if evaluate else "training loss")
    legend_above(ax)
    return artists

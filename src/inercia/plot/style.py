"""How figures look: colours, style, names at the ends of lines, legends above them."""

from typing import Any

import matplotlib.patheffects as pe
import numpy as np
from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLE: dict[Any, Any] = {
    "figure.dpi": 200,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


def colours(n: int) -> list[str]:
    """Return n colours, one after the other."""
    return [COLOURS[i % len(COLOURS)] for i in range(n)]


def legend_above(ax: Axes) -> None:
    """Write the legend above the axes."""
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, borderaxespad=0.2)


def name_ends(ax: Axes, end: int) -> None:
    """Write each line's name beside its point `end`, from the bottom up, none closer than a line of text."""
    ax.autoscale_view()
    to_points = ax.transData + ax.figure.dpi_scale_trans.inverted()  # inches
    drawn = [(np.asarray(line.get_xydata())[end], line) for line in ax.get_lines() if np.size(line.get_xydata())]
    height, last = 10.0, -np.inf
    for (x, y), line in sorted(drawn, key=lambda d: d[0][1]):
        place = 72 * to_points.transform((x, y))[1]
        last = max(place, last + height)
        name_point(ax, x, y, str(line.get_label()), str(line.get_color()), (4, last - place))


def name_point(ax: Axes, x: float, y: float, label: str, colour: str, offset: tuple[float, float]) -> None:
    """Write a name beside a point, `offset` points away."""
    ax.annotate(
        label, (x, y), xytext=offset, textcoords="offset points", color=colour, va="center", fontsize=8,
        path_effects=[pe.withStroke(linewidth=2, foreground="white")], annotation_clip=False,
    )  # fmt: skip

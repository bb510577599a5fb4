"""How figures look: style and colours, names at the ends of lines, legends that titles make way for."""

from pathlib import Path as FilePath
from typing import Any

import matplotlib.patheffects as pe
import numpy as np
from matplotlib import rc_params_from_file
from matplotlib.axes import Axes
from matplotlib.legend import Legend
from matplotlib.textpath import TextPath
from matplotlib.transforms import Bbox

#: The style, as `plt.style.use` takes it.
STYLE_FILE = FilePath(__file__).with_name("inercia.mplstyle")
#: The same as settings, for `plt.rc_context`.
STYLE: dict[Any, Any] = dict(rc_params_from_file(STYLE_FILE, use_default_template=False))
#: Distinct for colour-blind readers and in print.
COLOURS: tuple[str, ...] = tuple(f"#{c.lstrip('#')}" for c in STYLE["axes.prop_cycle"].by_key()["color"])

#: Points: the names' size, the distance of their lines, and what stands between a line's end and its name.
_SIZE, _LINE, _AWAY = 8.0, 11.0, 4.0
#: Share of the axes' width that names may take; beyond it they go into a legend.
_WIDEST = 0.4


def colours(n: int) -> list[str]:
    """Return n colours, one after the other."""
    return [COLOURS[i % len(COLOURS)] for i in range(n)]


def legend_above(ax: Axes, columns: int = 3) -> None:
    """Write the legend above the axes, in as many columns as fit, or inside where the figure has no room above.

    A title, also one that is set later, stands above the legend.
    """
    if not ax.get_legend_handles_labels()[1]:
        return
    legend = _above(ax, columns)
    while columns > 1 and legend.get_window_extent().width > _width(ax):
        columns -= 1
        legend = _above(ax, columns)
    if ax.figure.get_layout_engine() is None and not _fits(ax, legend):
        ax.legend(loc="best", frameon=True, framealpha=0.8)
    if not any(child.get_label() == "_above" for child in ax.child_axes):
        # Titles make way for child axes: one as high as the legend, and empty.
        room = ax.inset_axes((0, 1, 1, 0.01), label="_above", zorder=-1)
        room.set_axes_locator(_over_legend)
        room.set_axis_off()
        room.set_in_layout(False)
        room.set_navigate(False)


def name_ends(ax: Axes) -> None:
    """Write each line's name at its right end, from the bottom up, none closer than a line of text.

    The x axis grows by the room that the names need; where that were too much of it, a legend has them.
    """
    ax.autoscale_view()
    lines = [line for line in ax.get_lines() if np.size(line.get_xdata()) and not str(line.get_label()).startswith("_")]
    points = [np.asarray(line.get_xydata()) for line in lines]
    box = ax.get_window_extent().transformed(ax.figure.dpi_scale_trans.inverted())  # inches
    shares = [(1.15 * _length(str(line.get_label())) + 2 * _AWAY) / (72 * box.width) for line in lines]
    if max(shares, default=0) > _WIDEST or len(lines) * _LINE > 72 * box.height:
        legend_above(ax)
        return
    ends = [xy[np.argmax(xy[:, 0])] for xy in points]
    scale = ax.xaxis.get_transform()
    start = scale.transform(ax.get_xlim()[0])
    for (x, y), share in zip(ends, shares, strict=True):
        grown = start + (scale.transform(x) - start) / (1 - share)
        ax.update_datalim([(scale.inverted().transform(grown), y)], updatey=False)
    ax.autoscale_view()
    places = [72 * (ax.transData.transform(end)[1] / ax.figure.dpi - box.y0) for end in ends]
    for line, end, place, free in zip(lines, ends, places, _apart(places, 72 * box.height), strict=True):
        name_point(ax, end[0], end[1], str(line.get_label()), str(line.get_color()), (_AWAY, free - place))


def name_point(ax: Axes, x: float, y: float, label: str, colour: str, offset: tuple[float, float]) -> None:
    """Write a name beside a point, `offset` points away."""
    ax.annotate(
        label, (x, y), xytext=offset, textcoords="offset points", color=colour, va="center", fontsize=_SIZE,
        path_effects=[pe.withStroke(linewidth=2, foreground="white")], annotation_clip=False,
    )  # fmt: skip


def _above(ax: Axes, columns: int) -> Legend:
    return ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=columns, borderaxespad=0.2)


def _width(ax: Axes) -> float:
    """Return the pixels that a legend above may be wide: those of the axes' part of the figure, about its middle."""
    figure, spec = ax.figure.bbox, ax.get_subplotspec()
    grid = spec.get_gridspec() if spec else None
    span = (spec.colspan.start / grid.ncols, spec.colspan.stop / grid.ncols) if spec and grid else (0.0, 1.0)
    left, right = (figure.x0 + share * figure.width for share in span)
    middle = (ax.bbox.x0 + ax.bbox.x1) / 2
    return 2 * 0.95 * min(middle - left, right - middle)


def _fits(ax: Axes, legend: Legend) -> bool:
    """Whether the figure has room above the axes for the legend and a title."""
    box = legend.get_window_extent()
    title = 2.0 * float(ax.title.get_fontsize()) * ax.figure.dpi / 72
    return box.y1 + title <= ax.figure.bbox.y1 and box.width <= _width(ax)


def _over_legend(ax: Any, renderer: Any) -> Bbox:
    """Return the box from the top of the axes to that of its legend, in the figure's units."""
    legend, box = ax.get_legend(), ax.bbox
    top = legend.get_window_extent(renderer).y1 if legend else box.y1
    above = Bbox([[box.x0, box.y1], [box.x1, max(top, box.y1 + 1e-3)]])
    return above.transformed(ax.figure.transSubfigure.inverted())


def _length(text: str) -> float:
    """Return how long a name is, in points."""
    return TextPath((0, 0), text, size=_SIZE).get_extents().width if text.strip() else 0.0


def _apart(places: list[float], height: float) -> list[float]:
    """Return places of names, in points, no two closer than a line, and none above `height`."""
    order, moved = np.argsort(places), np.array(places, float)
    last = -np.inf
    for i in order:
        last = moved[i] = max(moved[i], last + _LINE)
    last = height + _LINE / 2
    for i in order[::-1]:
        last = moved[i] = min(moved[i], last - _LINE)
    return moved.tolist()

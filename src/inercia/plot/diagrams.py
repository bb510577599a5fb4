"""Maps over the decay b of momentum: where its two orders are stable, and how its flow is damped.

    stable iff     explicit (old m)        a l < 1
                   semi-implicit (new m)   a l < (2+2b)/(1-b)
    the flow       critical at             a l = (1-b)/4,     overdamped below and underdamped above

Drawn over a l, or over the curvature l where the learning rate a is given, or over a where l is given.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from inercia.core import check
from inercia.edge_of_stability.linear_stability import THRESHOLDS
from inercia.plot.style import COLOURS, legend_above
from inercia.plot.words import said

_DECAYS = np.linspace(0, 0.98, 200)


def stability(
    ax: Axes,
    *,
    learning_rate: float | None = None,
    curvature: float | None = None,
    marks: Mapping[str, tuple[float, float]] | None = None,
) -> list[Artist]:
    """Draw where both orders of momentum are stable on a quadratic, over b and a l.

    Args:
        ax: where to draw.
        learning_rate: a; the axis is then the curvature l.
        curvature: l; the axis is then the learning rate a.
        marks: label -> (b, height on the axis), points to draw.

    Returns:
        The bound of the explicit order, that of the semi-implicit order, one line per mark.

    Raises:
        ValueError: both a and l, or one that is not above 0.

    Example:
        >>> import inercia
        >>> from matplotlib.figure import Figure
        >>> old, new = inercia.plot.stability(Figure().add_subplot(), learning_rate=0.1)
        >>> float(old.get_ydata()[0]), float(new.get_ydata()[0])  # curvatures at b = 0
        (10.0, 20.0)
    """
    unit, label = _axis(learning_rate, curvature)
    b = _DECAYS
    old, new = THRESHOLDS["explicit"](b) / unit, THRESHOLDS["semi-implicit"](b) / unit
    low, high = 0.1 / unit, 100 / unit
    artists: list[Artist] = []
    for values, name, style in ((old, "explicit (old m)", "--"), (new, "semi-implicit (new m)", "-")):
        artists += ax.plot(b, values, "k", ls=style, lw=1.2, label=said(name))
    for below, above, colour in ((low, old, COLOURS[5]), (old, new, COLOURS[4]), (new, high, "0.6")):
        ax.fill_between(b, below, above, color=colour, alpha=0.3, lw=0, zorder=0)
    for x, y, name in ((0.5, 0.3, "stable"), (0.6, 2.0, "stable with the new m only"), (0.25, 30, "unstable")):
        ax.text(x, y / unit, said(name), ha="center", va="center", fontsize=8)
    for (name, (x, y)), colour in zip((marks or {}).items(), COLOURS, strict=False):
        artists += ax.plot(x, y, "o", color=colour, mec="white", ms=6, label=name, zorder=4)
    ax.set(xlabel=r"$b$", ylabel=label, yscale="log", xlim=(0, b[-1]), ylim=(low, high))
    legend_above(ax)
    return artists


def regimes(ax: Axes, *, learning_rate: float | None = None, curvature: float | None = None) -> list[Artist]:
    """Draw how the momentum flow is damped, over b and a l.

    Args:
        ax: where to draw.
        learning_rate: as in `stability`.
        curvature: as in `stability`.

    Returns:
        The line of critical damping.

    Raises:
        ValueError: both a and l, or one that is not above 0.

    Example:
        >>> import inercia
        >>> from matplotlib.figure import Figure
        >>> (line,) = inercia.plot.regimes(Figure().add_subplot(), learning_rate=0.1)
        >>> float(line.get_ydata()[0])  # (1-b) / (4 a) at b = 0
        2.5
    """
    unit, label = _axis(learning_rate, curvature)
    b = _DECAYS
    critical = (1 - b) / 4 / unit
    low, high = 1e-3 / unit, 10 / unit
    ax.fill_between(b, low, critical, color=COLOURS[5], alpha=0.3, lw=0, zorder=0)
    ax.fill_between(b, critical, high, color=COLOURS[4], alpha=0.3, lw=0, zorder=0)
    artists: list[Artist] = list(ax.plot(b, critical, "k", label=_critical(learning_rate, curvature)))
    for x, y, name in ((0.35, 0.01, "overdamped"), (0.5, 1.0, "underdamped")):
        ax.text(x, y / unit, said(name), ha="center", va="center", fontsize=8)
    ax.set(xlabel=r"$b$", ylabel=label, yscale="log", xlim=(0, b[-1]), ylim=(low, high))
    legend_above(ax)
    return artists


def _axis(learning_rate: Any, curvature: Any) -> tuple[float, str]:
    """Return what a l is divided by, and the name of what is left."""
    if learning_rate is not None and curvature is not None:
        raise ValueError("only one of learning_rate and curvature can be given: the other is the axis.")
    if learning_rate is not None:
        check.positive("learning_rate", learning_rate)
        return float(learning_rate), rf"{said('curvature')} $\lambda$"
    if curvature is not None:
        check.positive("curvature", curvature)
        return float(curvature), rf"{said('learning rate')} $a$"
    return 1.0, r"$a\lambda$"


def _critical(learning_rate: Any, curvature: Any) -> str:
    formula = r"$\lambda = (1-b)/(4a)$" if learning_rate is not None else r"$a = (1-b)/(4\lambda)$"
    return f"{said('critical')}: " + (formula if learning_rate or curvature else r"$a\lambda = (1-b)/4$")

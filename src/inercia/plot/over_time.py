"""What changes along time: distances, losses, metrics, and whatever else a path or a history holds."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from inercia.comparison.gap_and_energy import Gap
from inercia.core.path import Path
from inercia.plot.quantities import metrics, selected
from inercia.plot.style import colours, legend_above, name_ends
from inercia.plot.words import said
from inercia.training.loop import History

_DASHES = ("-", "--", "-.", ":")


def gaps(ax: Axes, lines: Mapping[str, Gap], *, relative: bool = False) -> list[Artist]:
    """Draw the distance between iterates and flow over time, on a logarithmic axis."""
    artists: list[Artist] = []
    for (label, gap), colour in zip(lines.items(), colours(len(lines)), strict=True):
        value = gap.relative if relative else gap.distance
        shown = value > 0
        artists += ax.semilogy(gap.times[shown], value[shown], color=colour, label=label)
    name_ends(ax)
    ax.set(xlabel=said("time (iterations)"), ylabel=said("relative distance" if relative else "distance to the flow"))
    return artists


def training(
    ax: Axes, lines: Mapping[str, History], *, evaluate: bool | str = False, label: str | None = None
) -> list[Artist]:
    """Draw the training loss, or what `evaluate` returned, over iterations.

    Args:
        ax: where to draw.
        lines: label -> history.
        evaluate: True for what `train(evaluate=...)` returned, one number per record or a dictionary of them, each
            entry a line; or the name of one entry.
        label: of the y axis; by default what is drawn.

    Returns:
        One line per history and metric.

    Raises:
        ValueError: a history without that metric, or with several numbers per record.
    """
    drawn: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    name = "training loss"
    for line, history in lines.items():
        values = metrics(line, history, evaluate) if evaluate else {"": np.asarray(history.loss)}
        name = next(iter(values)) or "evaluate" if evaluate and len(values) == 1 else "evaluate" if evaluate else name
        for metric, value in values.items():
            drawn[line if len(values) == 1 else f"{line}: {metric}"] = np.asarray(history.step), value
    artists = _curves(ax, drawn, log=not evaluate)
    ax.set(xlabel=said("iterations"), ylabel=said(name) if label is None else label)
    legend_above(ax)
    return artists


def series(
    ax: Axes, lines: Mapping[str, Path | History], what: str | int | Sequence[str | int] = "loss", *, log: bool = False
) -> list[Artist]:
    """Draw whatever paths, or histories of `train`, hold over time.

    Args:
        ax: where to draw.
        lines: label -> path or history.
        what: "loss"; a number, the place of a parameter in `Path.flat()`; a name of `Path.columns()`, such as
            "params[0].w", or an entry of it, "params[0].w[3,1]"; what was observed, by its name; "evaluate" or
            "validation" of a history; or several of these. Dictionaries give a line per entry, arrays one per number.
        log: whether the axis is logarithmic.

    Returns:
        One line per number that is drawn.

    Raises:
        ValueError: a name that a line does not have, or more than 20 numbers of one line.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> from matplotlib.figure import Figure
        >>> path = inercia.iterate(inercia.sgd(0.5), lambda x: x @ x, jnp.ones(2), 3)
        >>> artists = inercia.plot.series(Figure().add_subplot(), {"GD": path}, [0, 1])
        >>> [line.get_label() for line in artists]
        ['GD: 0', 'GD: 1']
    """
    asked = [what] if isinstance(what, str | int) else list(what)
    drawn = {}
    for label, line in lines.items():
        found = {name: value for each in asked for name, value in selected(label, line, each).items()}
        times = np.asarray(line.times if isinstance(line, Path) else line.step)
        for name, value in found.items():
            drawn[label if len(found) == 1 else f"{label}: {name}"] = times, value
    artists = _curves(ax, drawn, log)
    one = asked[0] if len(asked) == 1 else None
    name = rf"$\theta_{{{one + 1}}}$" if isinstance(one, int) else said(one) if one else ""
    ax.set(xlabel=said("time (iterations)"), ylabel=name)
    legend_above(ax)
    return artists


def _curves(ax: Axes, drawn: Mapping[str, tuple[Any, Any]], log: bool) -> list[Artist]:
    dashes = itertools.cycle(_DASHES)  # curves that coincide stay visible
    artists: list[Artist] = []
    for (label, (times, values)), colour in zip(drawn.items(), colours(len(drawn)), strict=True):
        draw = ax.semilogy if log else ax.plot
        artists += draw(times, values, color=colour, ls=next(dashes), label=label)
    return artists

"""Paths over the contours of a loss."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from inercia.core.path import Path
from inercia.plot.style import colours, legend_above


def paths(ax: Axes, loss: Callable, lines: Mapping[str, Path], *, margin: float = 0.25) -> list[Artist]:
    """Draw paths over the contours of a loss of two parameters.

    Iterates (paths without a solver's report) are drawn as dots joined by a thin line, flows as a smooth line.

    Args:
        ax: where to draw.
        loss: params -> scalar.
        lines: label -> path, with two parameters each.
        margin: room around the paths, relative to their extent.

    Returns:
        The contour set, then one line per path.

    Raises:
        ValueError: a path whose params are not two numbers.
    """
    points = {label: path.flat() for label, path in lines.items()}
    for label, xy in points.items():
        if xy.shape[1] != 2:
            raise ValueError(f"paths must have two parameters, but {label!r} has {xy.shape[1]}.")
    everywhere = np.concatenate([xy[np.isfinite(xy).all(axis=1)] for xy in points.values()])
    low, high = everywhere.min(axis=0), everywhere.max(axis=0)
    room = margin * np.maximum(high - low, 0.3 * (high - low).max() + 1e-12)
    x, y = (np.linspace(a - r, b + r, 161) for a, b, r in zip(low, high, room, strict=True))
    shape = next(iter(jax.tree.leaves(next(iter(lines.values())).params))).shape[1:]
    if shape != (2,):
        raise ValueError(f"paths must hold their two parameters in one array, but a leaf has shape {shape}.")
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    height = np.asarray(jax.jit(jax.vmap(jax.vmap(loss)))(grid), dtype=np.float64)
    # Levels by quantile: the valley's floor and its walls both get lines.
    levels = np.unique(np.quantile(height, np.linspace(0.02, 0.98, 14) ** 1.5))
    artists: list[Artist] = [ax.contour(x, y, height, levels=levels, colors="0.75", linewidths=0.6, zorder=0)]
    for (label, xy), colour in zip(points.items(), colours(len(points)), strict=True):
        smooth = lines[label].solve is not None
        style: dict[str, Any] = {"lw": 4.5, "alpha": 0.5} if smooth else {"lw": 0.6, "marker": "o", "ms": 2.6}
        artists += ax.plot(*xy.T, color=colour, label=label, zorder=2 if smooth else 3, **style)
    ax.plot(*next(iter(points.values()))[0], "k*", ms=8, zorder=4)
    ax.set(xlabel=r"$\theta_1$", ylabel=r"$\theta_2$", xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    legend_above(ax)
    return artists

"""A loss and its gradient as a graph of operations: the forward pass, and the reverse pass that follows it."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, PathPatch
from matplotlib.path import Path as Curve

from inercia.plot.equations import Equations, equations
from inercia.plot.layers import Layout, layout
from inercia.plot.style import COLOURS, legend_above
from inercia.plot.words import said

_PASSES = {"forward": COLOURS[0], "result": COLOURS[0], "reverse": COLOURS[1], "gradient": COLOURS[1]}


def graph(
    ax: Axes, loss: Callable, *arguments: Any, gradient: bool = True, names: Mapping[str, str] | None = None
) -> list[Artist]:
    """Draw the operations of a loss and of its gradient, as JAX writes them down.

    The forward pass is blue, the reverse pass orange, arguments are black. What only rearranges numbers is left out;
    functions within the loss that have a name and few equations, such as activations, are one node.

    Args:
        ax: where to draw; its axes are hidden.
        loss: (params, ...) -> scalar.
        *arguments: params, of an `mlp` or any other tree, and what else the loss takes; shapes alone matter.
        gradient: whether the gradient by params is drawn too.
        names: what an array is to be called, by its place in the arguments, for example {"batch.0": "x"}.

    Returns:
        The texts of the nodes, in the order in which they are computed.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> from matplotlib.figure import Figure
        >>> loss = lambda w, x: (jnp.tanh(w * x) - 1) ** 2
        >>> nodes = inercia.plot.graph(Figure().add_subplot(), loss, 0.3, 1.1, gradient=False, names={"x": "$x$"})
        >>> [node.get_text() for node in nodes]
        ['w', '$x$', '×', 'tanh', '− 1', '( )²', '']
    """
    return draw_equations(ax, equations(loss, arguments, gradient, names or {}))


def draw_equations(ax: Axes, found: Equations) -> list[Artist]:
    """Draw a graph of operations that was read before; return its nodes' texts."""
    placed = layout(len(found.labels), found.arrows)
    texts = _nodes(ax, found, placed)
    for (s, t), way in placed.ways.items():
        _arrow(ax, placed, [s, *way, t], texts, _PASSES.get(found.kinds[t], "k"))
    heights = list(placed.height.values())
    ax.set(xlim=(-0.6, max(placed.column.values()) + 0.6), ylim=(max(heights) + 0.8, min(heights) - 0.8))
    ax.axis("off")
    for name in ["forward pass", "reverse pass"] if "reverse" in found.kinds else []:
        ax.add_line(Line2D([], [], color=_PASSES[name.split(maxsplit=1)[0]], label=said(name)))
    legend_above(ax)
    return list(texts)


def _nodes(ax: Axes, found: Equations, placed: Layout) -> list[Any]:
    texts = []
    for n, (label, kind) in enumerate(zip(found.labels, found.kinds, strict=True)):
        colour = _PASSES.get(kind, "k")
        texts.append(
            ax.text(
                placed.column[n], placed.height[n], label, ha="center", va="center", fontsize=7, zorder=3, color=colour,
                bbox={"boxstyle": "round,pad=0.25", "fc": "white", "ec": colour, "lw": 0.8},
            )
        )  # fmt: skip
    return texts


def _arrow(ax: Axes, placed: Layout, way: list[Any], texts: list[Any], colour: str) -> None:
    """Draw one arrow along its places, from the border of the first node to that of the last."""
    points = [(placed.column[p], placed.height[p]) for p in way]
    style = {"color": colour, "lw": 0.7, "zorder": 1}
    height = np.array([y for _, y in points])
    slope = _slopes(height)
    for n, ((x, y), (u, v)) in enumerate(itertools.pairwise(points[:-1])):
        third = (u - x) / 3
        ends = [(x, y), (x + third, y + third * slope[n]), (u - third, v - third * slope[n + 1]), (u, v)]
        ax.add_patch(PathPatch(Curve(ends, [1, 4, 4, 4]), fc="none", **style))
    first = texts[way[0]].get_bbox_patch() if len(way) == 2 else None
    last = texts[way[-1]].get_bbox_patch()
    ax.add_patch(
        FancyArrowPatch(
            points[-2], points[-1], patchA=first, patchB=last, shrinkA=0, shrinkB=0, arrowstyle="->", mutation_scale=6,
            **{**style, "zorder": 4},
        )
    )  # fmt: skip


def _slopes(height: np.ndarray) -> np.ndarray:
    """Return slopes with which a curve rises and falls only where its places do (Fritsch & Carlson 1980)."""
    step = np.diff(height)
    before, after = step[:-1], step[1:]
    turns = before * after <= 0
    inner = np.where(turns, 0.0, 2 * before * after / np.where(turns, 1.0, before + after))
    return np.concatenate([step[:1], inner, step[-1:]])

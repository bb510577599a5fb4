"""Phase portraits: a parameter against its momentum, where a flow is a smooth line and iterates are dots beside it.

For momentum, m' = (1-b)(g - m), theta' = -a m: on a quadratic a spiral into the origin where it is underdamped.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from inercia.core import check
from inercia.core.path import Path
from inercia.plot.style import colours, legend_above

#: Names of a first moment in the states of inercia's and optax's methods, the first that is there.
_MEMORIES = ("m", "mu", "trace", "velocity", "v")


def phase(ax: Axes, lines: Mapping[str, Path], index: int = 0, *, memory: str | None = None) -> list[Artist]:
    """Draw a parameter against its entry of the method's memory; the start is a star.

    Iterates (paths without a solver's report) are drawn as dots joined by a thin line, flows as a smooth line.

    Args:
        ax: where to draw.
        lines: label -> path.
        index: place of the parameter in `Path.flat()`.
        memory: field of the state that is shaped like the params; by default the first of m, mu, trace, velocity, v.

    Returns:
        One line per path.

    Raises:
        ValueError: a state without such a field, an index that is too large.

    Example:
        >>> import inercia
        >>> from matplotlib.figure import Figure
        >>> path = inercia.exact_iterates([[1.0]], [1.0], 30, 0.5, 0.9)
        >>> (line,) = inercia.plot.phase(Figure().add_subplot(), {"momentum": path})
        >>> line.get_xydata()[0].tolist()
        [1.0, 0.0]
    """
    artists: list[Artist] = []
    name = memory or "m"
    for (label, path), colour in zip(lines.items(), colours(len(lines)), strict=True):
        name, moment = _memory(label, path, memory)
        x = path.flat()
        if not 0 <= check.integer("index", index, 0) < x.shape[1]:
            raise ValueError(f"index must be below the number of parameters {x.shape[1]}, but it is {index}.")
        smooth = path.solve is not None
        style: dict[str, Any] = {"lw": 4.5, "alpha": 0.5} if smooth else {"lw": 0.6, "marker": "o", "ms": 2.6}
        artists += ax.plot(x[:, index], moment[:, index], color=colour, label=label, zorder=2 if smooth else 3, **style)
        ax.plot(x[0, index], moment[0, index], "k*", ms=8, zorder=4)
    place = f"_{{{index + 1}}}"
    ax.axhline(0, color="0.8", lw=0.8, zorder=0)
    ax.axvline(0, color="0.8", lw=0.8, zorder=0)
    shown = {"mu": r"\mu", "velocity": r"\dot\theta"}.get(name, name if len(name) == 1 else rf"\mathrm{{{name}}}")
    ax.set(xlabel=rf"$\theta{place}$", ylabel=rf"${shown}{place}$")
    legend_above(ax)
    return artists


def _memory(label: str, path: Path, asked: str | None) -> tuple[str, np.ndarray]:
    """Return the name of the memory in a path's state and its numbers, (n, P)."""
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(path.params)]

    def like_params(node: Any) -> bool:
        return [np.shape(leaf) for leaf in jax.tree.leaves(node)] == shapes

    found = {name: node for name, node in _fields(path.state) if like_params(node)}
    if not found and asked is None and like_params(path.state):
        found = {"m": path.state}  # the exact solutions have no name for it
    names = [asked] if asked else [*_MEMORIES, *found]
    name = next((name for name in names if name in found), None)
    if name is None:
        raise ValueError(
            f"phase needs a state with a field {asked or 'such as m'!r} shaped like the params, but that of {label!r} "
            f"is {type(path.state).__name__} with the fields {[name for name, _ in _fields(path.state)]}."
        )
    leaves = [np.asarray(leaf).reshape(len(path), -1) for leaf in jax.tree.leaves(found[name])]
    return name, np.concatenate(leaves, axis=1)


def _fields(state: Any) -> list[tuple[str, Any]]:
    """Return the named fields of a state, and of the states within it."""
    own = list(zip(state._fields, state, strict=True)) if hasattr(state, "_fields") else []
    inner = state if isinstance(state, tuple | list) else state.values() if isinstance(state, dict) else ()
    return own + [field for node in inner for field in _fields(node)]

"""The eigenvalues of a Hessian: the leading ones in their order, and the density of all of them.

    density(x) = sum_i w_i N(x; node_i, width^2),   nodes and weights of the stochastic Lanczos quadrature

Source: Ghorbani, Krishnan & Xiao 2019.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from inercia.core import check
from inercia.edge_of_stability.eigenpairs import Spectrum
from inercia.plot.style import colours, legend_above
from inercia.plot.words import said

#: Density below its maximum that is not drawn, and share of the range that a node is widened by.
_DEPTH, _WIDTH = 1e-6, 0.01


def spectrum(ax: Axes, lines: Mapping[str, Spectrum | Any], *, bound: float | None = None) -> list[Artist]:
    """Draw leading eigenvalues by rank, and the bound on them.

    Args:
        ax: where to draw.
        lines: label -> what `curvature` returned, or eigenvalues (k,).
        bound: the largest stable one, as `threshold` gives it; a dotted line.

    Returns:
        One line per spectrum, then that of the bound.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> from matplotlib.figure import Figure
        >>> found = inercia.curvature(lambda x: (x[0] ** 2 + 3 * x[1] ** 2) / 2, jnp.ones(2), k=2)
        >>> line, edge = inercia.plot.spectrum(Figure().add_subplot(), {"here": found}, bound=2 / 0.5)
        >>> line.get_ydata().round(6).tolist()
        [3.0, 1.0]
    """
    artists: list[Artist] = []
    longest = 1
    for (label, found), colour in zip(lines.items(), colours(len(lines)), strict=True):
        values = np.asarray(found.values if isinstance(found, Spectrum) else check.reals(label, found))
        if values.ndim != 1:
            raise ValueError(f"eigenvalues must be a vector, but those of {label!r} have shape {values.shape}.")
        longest = max(longest, len(values))
        artists += ax.plot(np.arange(1, len(values) + 1), values, "o-", ms=4, lw=0.8, color=colour, label=label)
    if bound is not None:
        named = said("bound {bound:.4g}", bound=check.number("bound", bound))
        artists.append(ax.axhline(bound, color="0.5", lw=0.8, ls=":", label=named))
    ticks = np.arange(1, longest + 1)
    ax.set(xlabel=said("rank"), ylabel=said("eigenvalue"), xticks=ticks[:: -(-longest // 10)])
    legend_above(ax)
    return artists


def density(ax: Axes, lines: Mapping[str, tuple[Any, Any]], *, width: float | None = None) -> list[Artist]:
    """Draw the density of a Hessian's eigenvalues, on a logarithmic axis.

    Args:
        ax: where to draw.
        lines: label -> the nodes and weights that `inercia.density` returned.
        width: standard deviation that each node is widened by; by default a hundredth of the range of the nodes.

    Returns:
        One line per density.

    Raises:
        ValueError: nodes and weights that differ in length, a width that is not above 0.

    Example:
        >>> import inercia, jax.numpy as jnp
        >>> from matplotlib.figure import Figure
        >>> found = inercia.density(lambda x: x[0] ** 2 - x[1] ** 2, jnp.ones(2), order=2)
        >>> (line,) = inercia.plot.density(Figure().add_subplot(), {"here": found}, width=0.1)
        >>> x, y = line.get_xydata().T
        >>> round(float(jnp.nansum(y) * (x[1] - x[0])), 2)  # nan where there is none
        1.0
    """
    pairs = {label: (check.reals("nodes", n), check.reals("weights", w)) for label, (n, w) in lines.items()}
    for label, (nodes, weights) in pairs.items():
        if nodes.ndim != 1 or nodes.shape != weights.shape:
            raise ValueError(
                f"nodes and weights must be vectors of one length, but those of {label!r} have the shapes "
                f"{nodes.shape} and {weights.shape}."
            )
    every = np.concatenate([nodes for nodes, _ in pairs.values()])
    spread = float(np.ptp(every)) or max(1.0, float(np.abs(every).max()))
    if width is None:
        width = _WIDTH * spread
    check.positive("width", width)
    x = np.linspace(every.min() - 5 * width, every.max() + 5 * width, 1201)
    artists: list[Artist] = []
    for (label, (nodes, weights)), colour in zip(pairs.items(), colours(len(pairs)), strict=True):
        bells = np.exp(-(((x[:, None] - nodes) / width) ** 2) / 2) / (width * np.sqrt(2 * np.pi))
        value = bells @ weights
        artists += ax.plot(x, np.where(value > _DEPTH * value.max(), value, np.nan), color=colour, label=label)
    ax.set(xlabel=said("eigenvalue"), ylabel=said("density"), yscale="log")
    legend_above(ax)
    return artists

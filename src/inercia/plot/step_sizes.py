"""What depends on the size of the step."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from inercia.comparison.convergence_order import Order
from inercia.plot.style import COLOURS, colours, legend_above, name_ends


def orders(ax: Axes, lines: Mapping[str, Order]) -> list[Artist]:
    """Draw gap against dt, both logarithmic, each line named with its measured slope."""
    artists: list[Artist] = []
    for (label, order), colour in zip(lines.items(), colours(len(lines)), strict=True):
        artists += ax.loglog(order.dts, order.gaps, "o-", ms=4, color=colour, label=f"{label}: {order.slope:.2f}")
    name_ends(ax, 0)
    ax.set(xlabel="dt (iterations per update)", ylabel="largest distance to the flow")
    ticks = sorted({float(dt) for order in lines.values() for dt in order.dts})
    ticks = ticks[:: -(-len(ticks) // 5)]  # the labels have room for five
    ax.set_xticks(ticks, [f"1/{round(1 / dt)}" if dt < 1 else f"{dt:g}" for dt in ticks])
    ax.minorticks_off()
    return artists


def rates(ax: Axes, rates: Any, losses: Any, suggested: float) -> list[Artist]:
    """Draw the losses that learning rates reach, infinite where they diverge, and the rate that is suggested.

    Args:
        ax: where to draw.
        rates: (n,), increasing.
        losses: (n,).
        suggested: one of the rates.
    """
    rates, losses = np.asarray(rates), np.asarray(losses)
    finite = np.isfinite(losses)
    artists: list[Artist] = [*ax.loglog(rates[finite], losses[finite], "o-", ms=3, color=COLOURS[0])]
    artists.append(ax.axvline(suggested, color=COLOURS[2], ls="--", label=f"suggested: {suggested:.2g}"))
    if not finite.all():
        artists.append(ax.axvspan(rates[~finite].min(), rates[-1], color="0.92", label="not finite"))
    ax.set(xlabel="learning rate", ylabel="training loss", xlim=(rates[0], rates[-1]))
    legend_above(ax)
    return artists

"""What depends on the size of the step."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from inercia.comparison.convergence_order import Order
from inercia.plot.style import COLOURS, colours, legend_above, name_ends
from inercia.plot.words import said


def orders(ax: Axes, lines: Mapping[str, Order]) -> list[Artist]:
    """Draw gap against dt, both logarithmic, each line named with its measured slope.

    The shade is the 95 % confidence band of the straight line that was fitted, where there is one.

    Returns:
        One line per order.
    """
    artists: list[Artist] = []
    for (label, order), colour in zip(lines.items(), colours(len(lines)), strict=True):
        slope = f": {order.slope:.2f}" if np.isfinite(order.slope) else ""
        artists += ax.loglog(order.dts[: len(order.gaps)], order.gaps, "o-", ms=4, color=colour, label=label + slope)
        if np.isfinite(order.slope):
            ax.fill_between(order.dts, *_band(order), color=colour, alpha=0.15, lw=0, zorder=0)
    name_ends(ax)
    ax.set(xlabel=said("dt (iterations per update)"), ylabel=said("largest distance to the flow"))
    ticks = sorted({float(dt) for order in lines.values() for dt in order.dts}, reverse=True)
    ticks = ticks[:: (len(ticks) - 1) // 5 + 1][::-1]  # the labels have room for five
    ax.set_xticks(ticks, [f"1/{round(1 / dt)}" if dt < 1 else f"{dt:g}" for dt in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
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
    named = said("suggested: {rate:.2g}", rate=suggested)
    artists.append(ax.axvline(suggested, color=COLOURS[2], ls="--", label=named))
    if not finite.all():
        artists.append(ax.axvspan(rates[~finite].min(), rates[-1], color="0.92", label=said("not finite")))
    ax.set(xlabel=said("learning rate"), ylabel=said("training loss"), xlim=(rates[0], rates[-1]))
    legend_above(ax)
    return artists


def _band(order: Order) -> tuple[np.ndarray, np.ndarray]:
    """Return the confidence band of log(gap) = c + p log(dt), whose half-width is t s (1/n + (x - mean)^2 / S)^1/2.

    The interval of the slope is p -+ t s / S^1/2, with the same t and s, and S the sum of (x - mean)^2.
    """
    x = np.log(order.dts)
    away = x - x.mean()
    total = np.sum(away**2)
    half = (order.interval[1] - order.slope) * np.sqrt(total / len(x) + away**2)
    fit = np.log(order.gaps).mean() + order.slope * away
    return np.exp(fit - half), np.exp(fit + half)

"""Momentum's flow as a damped oscillator."""

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from inercia.core import check
from inercia.flows.exact_quadratic import exact_flow
from inercia.plot.style import colours, name_point
from inercia.plot.words import said


def damping(ax: Axes, learning_rate: float, beta: float = 0.9, *, time: float | None = None) -> list[Artist]:
    """Draw the momentum flow on a quadratic in its three regimes, by the exact solution.

    The oscillator theta'' + (1-b) theta' + a (1-b) l theta = 0 is critically damped at curvature l = (1-b) / (4 a),
    overdamped below and underdamped above.
    """
    check.positive("learning_rate", learning_rate)
    check.in_unit_interval("beta", beta)
    critical = (1 - beta) / (4 * learning_rate)
    times = np.linspace(0, 12 / (1 - beta) if time is None else time, 400)
    artists: list[Artist] = []
    regimes = (("overdamped", 0.25), ("critical", 1.0), ("underdamped", 8.0))
    for (name, factor), colour in zip(regimes, colours(3), strict=True):
        theta = exact_flow([[factor * critical]], [1.0], times, learning_rate, beta).params[:, 0]
        artists += ax.plot(times, theta, color=colour)
        # Named where the curve leaves room: at its trough, or halfway down.
        i = int(np.argmin(theta if factor > 1 else np.abs(theta - (0.88 if factor < 1 else 0.3))))
        label = rf"{said(name)}, $\lambda$ = {factor * critical:.3g}"
        name_point(ax, times[i], theta[i], label, colour, (8, 6 if factor <= 1 else -4))
    ax.axhline(0, color="0.8", lw=0.8, zorder=0)
    low, high = ax.get_ylim()
    ax.set(xlabel=said("time (iterations)"), ylabel=r"$\theta(t)/\theta(0)$", ylim=(low - 0.1 * (high - low), high))
    return artists

"""Figures: axes in, artists out.

Nothing is shown, only `save` writes, and no global setting is changed; `plt.rc_context(STYLE)` gives the style of the
project's own figures. Colours are Okabe and Ito's, distinct for colour-blind readers and in print; lines carry
their names at their ends where there is room.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

import jax
import matplotlib
import matplotlib.patheffects as pe
import numpy as np
from matplotlib.animation import FFMpegWriter, FuncAnimation, PillowWriter
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from inercia.comparison.convergence_order import Order
from inercia.comparison.edge_run import Edge
from inercia.comparison.gap_and_energy import Gap
from inercia.core import check
from inercia.core.path import Path
from inercia.flows.exact_quadratic import exact_flow
from inercia.training.loop import History

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLE: dict[Any, Any] = {
    "figure.dpi": 200,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


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
    height = np.asarray(jax.vmap(jax.vmap(loss))(grid), dtype=np.float64)
    # Levels by quantile: the valley's floor and its walls both get lines.
    levels = np.unique(np.quantile(height, np.linspace(0.02, 0.98, 14) ** 1.5))
    artists: list[Artist] = [ax.contour(x, y, height, levels=levels, colors="0.75", linewidths=0.6, zorder=0)]
    for (label, xy), colour in zip(points.items(), _colours(len(points)), strict=True):
        smooth = lines[label].solve is not None
        style: dict[str, Any] = {"lw": 4.5, "alpha": 0.5} if smooth else {"lw": 0.6, "marker": "o", "ms": 2.6}
        artists += ax.plot(*xy.T, color=colour, label=label, zorder=2 if smooth else 3, **style)
    ax.plot(*next(iter(points.values()))[0], "k*", ms=8, zorder=4)
    ax.set(xlabel=r"$\theta_1$", ylabel=r"$\theta_2$", xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    _legend_above(ax)
    return artists


def gaps(ax: Axes, lines: Mapping[str, Gap], *, relative: bool = False) -> list[Artist]:
    """Draw the distance between iterates and flow over time, on a logarithmic axis."""
    artists: list[Artist] = []
    for (label, gap), colour in zip(lines.items(), _colours(len(lines)), strict=True):
        value = gap.relative if relative else gap.distance
        shown = value > 0
        artists += ax.semilogy(gap.times[shown], value[shown], color=colour, label=label)
    _name_ends(ax, -1)
    ax.set(xlabel="time (iterations)", ylabel="relative distance" if relative else "distance to the flow")
    return artists


def orders(ax: Axes, lines: Mapping[str, Order]) -> list[Artist]:
    """Draw gap against dt, both logarithmic, each line named with its measured slope."""
    artists: list[Artist] = []
    for (label, order), colour in zip(lines.items(), _colours(len(lines)), strict=True):
        artists += ax.loglog(order.dts, order.gaps, "o-", ms=4, color=colour, label=f"{label}: {order.slope:.2f}")
    _name_ends(ax, 0)
    ax.set(xlabel="dt (iterations per update)", ylabel="largest distance to the flow")
    ticks = sorted({float(dt) for order in lines.values() for dt in order.dts})
    ticks = ticks[:: -(-len(ticks) // 5)]  # the labels have room for five
    ax.set_xticks(ticks, [f"1/{round(1 / dt)}" if dt < 1 else f"{dt:g}" for dt in ticks])
    ax.minorticks_off()
    return artists


def training(ax: Axes, lines: Mapping[str, History], *, evaluate: bool = False) -> list[Artist]:
    """Draw the training loss, or what `evaluate` returned (one number per record), over iterations."""
    artists: list[Artist] = []
    dashes = itertools.cycle(("-", "--", "-.", ":"))  # curves that coincide stay visible
    for (label, history), colour in zip(lines.items(), _colours(len(lines)), strict=True):
        value = np.asarray(history.evaluate if evaluate else history.loss)
        draw = ax.plot if evaluate else ax.semilogy
        artists += draw(np.asarray(history.step), value, color=colour, ls=next(dashes), label=label)
    ax.set(xlabel="iterations", ylabel="test accuracy" if evaluate else "training loss")
    _legend_above(ax)
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
    _legend_above(ax)
    return artists


def edge(axes: Sequence[Axes], run: Edge) -> list[Artist]:
    """Draw a run at the edge of stability: loss, sharpness with its bound, distance; iterates, stable and central flow.

    Args:
        axes: three, side by side.
        run: of `inercia.edge`.
    """
    loss, sharp, apart = axes
    blue, orange, green = COLOURS[0], COLOURS[1], COLOURS[2]
    t, path, middle, stable = run.times, run.iterates, run.central, run.stable
    top = stable.observed["sharpness"][:, 0]
    artists: list[Artist] = []

    def draw(ax: Axes, values: Any, colour: str, label: str | None = None, **style: Any) -> None:
        artists.extend(ax.plot(t, values, color=colour, label=label, **style))

    draw(loss, path.loss, blue, lw=0.4, alpha=0.35)
    draw(loss, run.loss, blue, "iterates, averaged")
    draw(loss, stable.loss, orange, "stable flow", ls="--")
    draw(loss, middle.observed["mean_loss"], green, "central flow, predicted", ls="-.")
    loss.set(xlabel="updates", ylabel="training loss", yscale="log")
    draw(sharp, path.observed["sharpness"][:, 0], blue, lw=0.4, alpha=0.35)
    draw(sharp, run.sharpness, blue, "iterates, averaged")
    draw(sharp, top, orange, "stable flow", ls="--")
    draw(sharp, middle.observed["sharpness"][:, 0], green, "central flow", ls="-.")
    sharp.axhline(run.bound, color="0.5", lw=0.8, ls=":")
    sharp.text(t[-1], run.bound * 1.02, f"bound {run.bound:.4g}", ha="right", va="bottom", fontsize=8, color="0.4")
    sharp.set(xlabel="updates", ylabel=r"largest eigenvalue of $P^{-1}H$", ylim=(0, 2.2 * run.bound))
    draw(apart, run.displacement, blue, "displacement of the iterates")
    draw(apart, run.to_stable, orange, "to the stable flow", ls="--")
    draw(apart, run.to_central, green, "to the central flow", ls="-.")
    apart.set(xlabel="updates", ylabel="distance")
    for ax in axes:
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=1, borderaxespad=0.2)
    return artists


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
    for (name, factor), colour in zip(regimes, _colours(3), strict=True):
        theta = exact_flow([[factor * critical]], [1.0], times, learning_rate, beta).params[:, 0]
        artists += ax.plot(times, theta, color=colour)
        # Named where the curve leaves room: at its trough, or halfway down.
        i = int(np.argmin(theta if factor > 1 else np.abs(theta - (0.75 if factor < 1 else 0.3))))
        label = rf"{name}, $\lambda$ = {factor * critical:.3g}"
        _name(ax, times[i], theta[i], label, colour, (8, 6 if factor <= 1 else -4))
    ax.axhline(0, color="0.8", lw=0.8, zorder=0)
    low, high = ax.get_ylim()
    ax.set(xlabel="time (iterations)", ylabel=r"$\theta(t)/\theta(0)$", ylim=(low - 0.1 * (high - low), high))
    return artists


def animate(lines: Mapping[str, Path], loss: Callable, *, seconds: float = 3.0, fps: int = 20) -> FuncAnimation:
    """Show paths as they advance in one clock, over the contours of a loss of two parameters.

    Args:
        lines: label -> path, with two parameters each.
        loss: params -> scalar.
        seconds: length of the film; its last picture stays for one second more.
        fps: pictures a second.

    Returns:
        A film for `save_animation`; in a notebook, its `to_jshtml`.

    Raises:
        ValueError: a path whose params are not two numbers; seconds or fps that are not above 0.
    """
    check.positive("seconds", seconds)
    fps = check.integer("fps", fps)
    with matplotlib.rc_context({**STYLE, "figure.dpi": 100}):
        figure = Figure(figsize=(3.5, 3.3))
        FigureCanvasAgg(figure)
        ax = figure.add_subplot()
        drawn: list[Any] = paths(ax, loss, lines)[1:]
        clock = ax.text(0.98, 0.03, "", transform=ax.transAxes, ha="right")
    figure.canvas.draw()
    figure.set_layout_engine("none")  # the axes are placed once
    points = [path.flat() for path in lines.values()]
    span = np.concatenate([path.times for path in lines.values()])

    def show(now: float) -> list[Artist]:
        for line, path, xy in zip(drawn, lines.values(), points, strict=True):
            shown = xy[path.times <= now + 1e-9]
            if path.solve is not None and path.times[0] <= path.times[-1]:  # a flow is there between the times too
                shown = np.vstack([shown, [np.interp(now, path.times, column) for column in xy.T]])
            line.set_data(*shown.T)
        clock.set_text(f"t = {now:.0f}")
        return [*drawn, clock]

    times = np.linspace(span.min(), span.max(), max(2, round(seconds * fps)))
    return FuncAnimation(figure, show, [*times, *times[-1:].repeat(fps)], interval=1000 / fps, cache_frame_data=False)


def save_animation(film: FuncAnimation, file: FilePath, fps: int = 20) -> FilePath:
    """Write a film as .gif by Pillow, or as .mp4 where ffmpeg is installed; return the file.

    Raises:
        ValueError: another ending, or no ffmpeg.
    """
    writers = {".gif": PillowWriter, ".mp4": FFMpegWriter}
    ending = FilePath(file).suffix.lower()
    check.one_of("the file's ending", ending, tuple(writers))
    if not writers[ending].isAvailable():
        raise ValueError(f"{ending} needs ffmpeg, which is not installed: write a .gif.")
    film.save(file, writers[ending](fps=fps))
    return file


def save(draw: Callable, file: FilePath, size: tuple[float, float] = (3.5, 2.8), columns: int = 1) -> FilePath:
    """Draw one figure at column width, or several side by side, and write it; `draw` gets the axes, one or an array."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size)
        FigureCanvasAgg(figure)
        draw(figure.add_subplot() if columns == 1 else figure.subplots(1, columns))
        figure.savefig(file, bbox_inches="tight")
    return file


def _colours(n: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(n)]


def _legend_above(ax: Axes) -> None:
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, borderaxespad=0.2)


def _name_ends(ax: Axes, end: int) -> None:
    """Write each line's name beside its point `end`, from the bottom up, none closer than a line of text."""
    ax.autoscale_view()
    to_points = ax.transData + ax.figure.dpi_scale_trans.inverted()  # inches
    drawn = [(np.asarray(line.get_xydata())[end], line) for line in ax.get_lines() if np.size(line.get_xydata())]
    height, last = 10.0, -np.inf
    for (x, y), line in sorted(drawn, key=lambda d: d[0][1]):
        place = 72 * to_points.transform((x, y))[1]
        last = max(place, last + height)
        _name(ax, x, y, str(line.get_label()), str(line.get_color()), (4, last - place))


def _name(ax: Axes, x: float, y: float, label: str, colour: str, offset: tuple[float, float]) -> None:
    ax.annotate(
        label, (x, y), xytext=offset, textcoords="offset points", color=colour, va="center", fontsize=8,
        path_effects=[pe.withStroke(linewidth=2, foreground="white")], annotation_clip=False,
    )  # fmt: skip

"""One small figure of each kind, and how they are looked at: `python tests/plot/pictures.py` stores them anew.

A picture is compared as an eye would: 80 points wide, blurred. Fonts and antialiasing may differ a little; a line
that moves, a text that goes or a shade that changes may not.
"""

import io
import sys
from pathlib import Path as FilePath
from typing import NamedTuple

import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import PIL.Image
import PIL.ImageFilter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

import inercia as ia
from inercia import plot
from inercia.plot.equations import Equations
from inercia.plot.network_graph import draw_equations
from inercia.problems.network import Layer

FOLDER = FilePath(__file__).with_name("golden")
#: name -> style and inches; without a style matplotlib's own, and no layout engine that makes room.
SIZES = {"small": (plot.STYLE, (3.5, 2.8)), "plain": ({}, (6.4, 4.8))}
#: Levels of a colour, of 255, that two pictures may differ by in the root mean square, and the most a point may.
#: Other versions of matplotlib than that of the stored pictures write with other heights and ticks.
BOUND, POINT = (0.5, 6.0) if mpl.__version__.startswith("3.11.") else (6.0, 60.0)
WIDE = 80


def momentum_path(n: int, smooth: bool) -> ia.Path:
    """Return the underdamped oscillator in two dimensions, in closed form; the iterates turn a little faster."""
    t = np.linspace(0, 30, 301) if smooth else np.arange(n + 1.0)
    decay, turn = np.exp(-0.05 * t), (0.5 if smooth else 0.53) * t
    theta = np.stack([1.6 * decay * np.cos(turn), decay * np.cos(0.4 * turn)], axis=1)
    m = np.stack([decay * np.sin(turn), 0.4 * decay * np.sin(0.4 * turn)], axis=1)
    solve = ia.Solve("exact", 0, 0, 0, "") if smooth else None
    observed = {"sharpness": np.stack([2 - decay, 1 - decay], axis=1), "norms": {"grad": decay, "step": decay**2}}
    return ia.Path(t, theta, State(t, m), valley(theta.T) + 0.01, None, solve, observed)


class State(NamedTuple):
    count: np.ndarray
    m: np.ndarray


def valley(x):
    return 0.5 * x[0] ** 2 + 1.5 * x[1] ** 2


LINES = {"flow": momentum_path(30, True), "explicit (old m)": momentum_path(30, False)}
RECORDS = np.arange(1, 21) * 10
HISTORIES = {
    name: ia.History(
        RECORDS, np.exp(-rate * RECORDS / 40), {"accuracy": 1 - 0.9 * np.exp(-rate * RECORDS / 30), "loss": 1 / RECORDS}
    )
    for name, rate in (("SGD", 0.5), ("momentum, semi-implicit", 1.0), ("Adam", 2.0))
}


def gap(rate):
    t = np.arange(31.0)
    return ia.Gap(t, rate * t * np.exp(-t / 20), rate * t / 50, 0 * t)


def order(name, factor):
    dts = 2.0 ** -np.arange(6)
    return ia.Order(dts, factor * dts * (1 + 0.1 * np.sin(9 * dts)), 1.01, (0.93, 1.09), name, None)


def edge_run():
    t = np.arange(301.0)
    rise = np.minimum(2 * (1 - np.exp(-t / 60)) / 0.92, 2 + 0.02 * np.sin(t))
    flat = np.zeros((len(t), 1))
    path = ia.Path(t, flat, (), np.exp(-t / 150) * (1 + 0.1 * (-1) ** t), observed={"sharpness": rise[:, None]})
    middle = ia.Path(
        t, flat, (), np.exp(-t / 150), observed={"sharpness": rise[:, None], "mean_loss": np.exp(-t / 150)}
    )
    up = 2.4 * (1 - np.exp(-t / 60))
    stable = ia.Path(t, flat, (), np.exp(-t / 120), observed={"sharpness": up[:, None]})
    return ia.Edge(
        t,
        2.0,
        50,
        path,
        middle,
        stable,
        np.exp(-t / 150),
        rise,
        t / 100,
        0.05 * t / 100,
        (t / 300) ** 2,
        150.0,
        {},
        {},
    )


def network_loss(params, x, y):
    for layer in params:
        x = jnp.tanh(x @ layer.w + layer.b)
    return jnp.sum((x - y) ** 2) / 2


def draw_graph(ax):
    params = [Layer(np.ones((2, 3)), np.ones(3)), Layer(np.ones((3, 1)), np.ones(1))]
    return plot.graph(ax, network_loss, params, np.ones((4, 2)), np.ones((4, 1)))


#: A neuron's loss and gradient, written by hand: what JAX makes of it may differ from version to version.
NEURON = Equations(
    ["w", "b", "x", "y", "@", "+", "tanh", "1 −", "−", "× 2", "( )²", "Σ", "loss", "×", "×", "+", "Σ", "@", "∂b", "∂w"],
    ["argument"] * 4 + ["forward"] * 8 + ["result"] + ["reverse"] * 5 + ["gradient"] * 2,
    [(0, 4), (2, 4), (4, 5), (1, 5), (5, 6), (6, 7), (6, 8), (3, 8), (8, 9), (8, 10), (10, 11), (11, 12), (7, 13),
     (9, 13), (6, 14), (13, 14), (13, 15), (14, 15), (15, 16), (2, 17), (15, 17), (16, 18), (17, 19)],
)  # fmt: skip
NODES = np.concatenate([np.random.default_rng(0).normal(0, 0.05, 60), [1.0, 1.4, 2.0]])
#: name -> how it is drawn, and how many axes it needs.
CASES = {
    "paths": (lambda ax: plot.paths(ax, valley, LINES), 1),
    "gaps": (lambda ax: plot.gaps(ax, {"explicit": gap(0.02), "semi-implicit": gap(0.01)}), 1),
    "orders": (lambda ax: plot.orders(ax, {"old m": order("a", 0.2), "new m": order("b", 0.1)}), 1),
    "training": (lambda ax: plot.training(ax, HISTORIES), 1),
    "metrics": (lambda ax: plot.training(ax, {"SGD": HISTORIES["SGD"]}, evaluate=True), 1),
    "rates": (lambda ax: plot.rates(ax, 10.0 ** np.arange(-4, 2), [2, 1, 0.3, 0.1, np.inf, np.inf], 0.01), 1),
    "edge": (lambda axes: plot.edge(axes, edge_run()), 3),
    "damping": (lambda ax: plot.damping(ax, 0.1), 1),
    "series": (lambda ax: plot.series(ax, {"flow": LINES["flow"]}, ["sharpness", "norms"]), 1),
    "phase": (lambda ax: plot.phase(ax, LINES), 1),
    "spectrum": (lambda ax: plot.spectrum(ax, {"start": [5.0, 2, 1, 0.5], "end": [9.8, 6, 2, 1]}, bound=10.0), 1),
    "density": (lambda ax: plot.density(ax, {"digits": (NODES, np.full(len(NODES), 1 / len(NODES)))}), 1),
    "stability": (lambda ax: plot.stability(ax, marks={"used": (0.9, 1.5)}), 1),
    "regimes": (lambda ax: plot.regimes(ax, learning_rate=0.1), 1),
    "graph": (lambda ax: draw_equations(ax, NEURON), 1),
}


def drawn(name: str, size: str, fixed: bool = False) -> Figure:
    """Return the figure of a case, drawn with a title of the caller's; or with its axes at fixed places, without one.

    Where a layout places the axes depends on the font's exact heights, and so on the version of matplotlib.
    """
    draw, columns = CASES[name]
    style, (width, height) = SIZES[size]
    if columns > 1 or name == "graph":
        width, height = (7.2, 3.0) if size == "small" else (12.0, 4.8)
    with mpl.rc_context({**mpl.rcParamsDefault, **style, "figure.dpi": 100}):
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        axes = figure.add_subplot() if columns == 1 else figure.subplots(1, columns)
        draw(axes)
        if fixed:
            with mpl.rc_context({"figure.constrained_layout.use": False}):
                figure.set_layout_engine(None)
            figure.subplots_adjust(left=0.15, right=0.97, bottom=0.17, top=0.75, wspace=0.4)
        for ax in () if fixed else np.ravel(axes):
            ax.set_title("A title of the caller")
        figure.canvas.draw()
    return figure


def seen(figure: Figure) -> PIL.Image.Image:
    """Return a picture as it is compared."""
    image = PIL.Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    small = image.resize((WIDE, round(WIDE * image.height / image.width)), PIL.Image.Resampling.BOX)
    return small.filter(PIL.ImageFilter.GaussianBlur(1))


def differ(a: PIL.Image.Image, b: PIL.Image.Image) -> tuple[float, float]:
    """Return by how many levels two pictures differ, in the root mean square and at most."""
    difference = np.asarray(a, float) - np.asarray(b, float)
    return float(np.sqrt(np.mean(difference**2))), float(np.abs(difference).max())


def texts(figure: Figure) -> list[Text]:
    """Return the texts that a reader sees."""
    found = []
    for ax in figure.axes:
        legend = ax.get_legend()
        found += [*ax.texts, ax.title, *(legend.get_texts() if legend else ())]
        for axis in (ax.xaxis, ax.yaxis) if ax.axison else ():
            low, high = sorted(axis.get_view_interval())
            ticks = [t for t in [*axis.get_major_ticks(), *axis.get_minor_ticks()] if low <= t.get_loc() <= high]
            found += [axis.label, axis.offsetText, *(tick.label1 for tick in ticks)]
    return [text for text in found if text.get_visible() and text.get_text().strip()]


def faults(figure: Figure) -> list[str]:
    """Return which texts overlap or are cut by the border of the figure."""
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
    border, found = figure.bbox, []
    for i, (text, box) in enumerate(boxes):
        if min(box.x0, box.y0, border.x1 - box.x1, border.y1 - box.y1) < -0.5:
            found.append(f"{text!r} is cut")
        for other, beside in boxes[i + 1 :]:
            wide = min(box.x1, beside.x1) - max(box.x0, beside.x0)
            high = min(box.y1, beside.y1) - max(box.y0, beside.y0)
            if wide > 2 and high > 2:
                found.append(f"{text!r} overlaps {other!r}")
    return found


def stored(image: PIL.Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or CASES:
        for size in SIZES:
            (FOLDER / f"{name}_{size}.png").write_bytes(stored(seen(drawn(name, size, fixed=True))))

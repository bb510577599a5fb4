"""Every kind of figure looks as it did when it was last looked at, at two sizes, and its texts can be read."""

import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pictures
import PIL.Image
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, PathPatch

import inercia as ia
from inercia import plot

BOTH = [(name, size) for name in pictures.CASES for size in pictures.SIZES]


@pytest.mark.parametrize(("name", "size"), BOTH)
def test_the_picture_is_as_it_was(name, size):
    figure = pictures.drawn(name, size, fixed=True)
    with PIL.Image.open(pictures.FOLDER / f"{name}_{size}.png") as golden:
        now = pictures.seen(figure)
        assert now.size == golden.size
        mean, most = pictures.differ(now, golden)
    assert mean < pictures.BOUND, f"{name}: {mean:.2f} of 255 levels in the root mean square"
    assert most < pictures.POINT, f"{name}: {most:.0f} levels at one point"


@pytest.mark.parametrize(("name", "size"), BOTH)
def test_texts_collide_with_nothing(name, size):
    assert not pictures.faults(pictures.drawn(name, size))


@pytest.mark.parametrize("name", ["paths", "edge", "stability", "damping", "graph"])
def test_spanish_words_have_room_too(name):
    with plot.language("es"):
        figure = pictures.drawn(name, "small")
    assert not pictures.faults(figure)


def test_what_changes_is_seen():
    """A line less is beyond the bounds; and what is stored is small, and one picture for each case."""
    lines = pictures.LINES
    with mpl.rc_context({**mpl.rcParamsDefault, **plot.STYLE, "figure.dpi": 100}):
        seen = []
        for kept, label in ((lines, "$b$"), ({"flow": lines["flow"]}, "$b$")):
            figure = Figure(figsize=(3.5, 2.8))
            FigureCanvasAgg(figure)
            plot.phase(figure.add_subplot(xlabel=label), kept)
            figure.canvas.draw()
            seen.append(pictures.seen(figure))
    mean, most = pictures.differ(*seen)
    assert mean > pictures.BOUND or most > pictures.POINT
    assert sum(file.stat().st_size for file in pictures.FOLDER.iterdir()) < 150_000
    assert len(list(pictures.FOLDER.iterdir())) == len(BOTH)


def test_the_legend_makes_way_for_what_replaces_it():
    """A title stands above a legend above; on the axes again once that legend is gone."""
    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.add_subplot()
    plot.phase(ax, pictures.LINES)
    ax.set_title("title")
    figure.canvas.draw()
    above = ax.title.get_position()[1]
    ax.legend(loc="upper left")
    figure.canvas.draw()
    assert above > 1.02 > ax.title.get_position()[1]


@pytest.mark.parametrize(("style", "size"), pictures.SIZES.values(), ids=pictures.SIZES)
def test_names_at_close_ends_stand_apart(style, size):
    rates = {"far": 1.0, "GD": 0.02, "SGD": 0.0202, "Adam": 0.0204, "a longer one": 0.0206}
    t = np.arange(31.0)
    close = {name: ia.Gap(t, rate * np.exp(-t / 10), t, t) for name, rate in rates.items()}
    with mpl.rc_context({**mpl.rcParamsDefault, **style, "figure.dpi": 100}):
        figure = Figure(figsize=size)
        FigureCanvasAgg(figure)
        plot.gaps(figure.add_subplot(), close)
        figure.canvas.draw()
    assert not pictures.faults(figure)
    assert figure.axes[0].get_legend() is None
    heights = [text.get_window_extent().y0 for text in sorted(figure.axes[0].texts, key=lambda t: t.xy[1])]
    assert heights[0] > figure.axes[0].bbox.y0 - 5
    assert heights == sorted(heights)  # in the order of the lines


def test_arrows_end_at_borders_and_run_through_no_node():
    figure = Figure(figsize=(12, 4.8))
    FigureCanvasAgg(figure)
    ax = figure.add_subplot()
    pictures.draw_graph(ax)
    figure.canvas.draw()
    assert not pictures.faults(figure)
    boxes = [text.get_bbox_patch().get_window_extent() for text in ax.texts]
    arrows = [p for p in ax.patches if isinstance(p, FancyArrowPatch)]
    assert len(arrows) > 30
    for arrow in arrows:
        curve = arrow.get_path().transformed(arrow.get_transform()).interpolated(20).vertices
        inside = [box for box in boxes if np.any(_within(curve, box, 3))]
        assert not inside
        tip = curve[np.isfinite(curve).all(axis=1)]
        assert min(_distance(tip, box) for box in boxes) < 3  # points, from the border of its node
    for way in (p for p in ax.patches if isinstance(p, PathPatch)):
        curve = way.get_path().transformed(way.get_transform()).to_polygons(closed_only=False)[0]
        through = [box for box in boxes if np.any(_within(curve, box, 1))]
        assert all(_within(curve[:1], box, -2).any() for box in through)  # at most that in which it starts


def test_the_graph_holds_the_gradient_of_a_loss():
    """y = w x, (y - 1)^2: forward w x, - 1, square; reverse 2 (y - 1) x."""
    nodes = plot.graph(Figure().add_subplot(), lambda w, x: (w * x - 1) ** 2, 0.5, 3.0)
    written = [node.get_text() for node in nodes]
    assert written[:2] == ["w", "x"]
    assert {"− 1", "( )²", "loss", r"$\partial$w"} <= set(written)
    assert written.count("×") == 2  # w x; its derivative times x
    network = plot.graph(Figure().add_subplot(), lambda p, x: jnp.sum(x @ p["a"]), {"a": jnp.ones(2)}, np.ones((3, 2)))
    assert {"a", "x", "@", "Σ", "loss", r"$\partial$a"} <= {node.get_text() for node in network}


def _within(points, box, margin):
    x, y = points.T
    inner_x = (x > box.x0 + margin) & (x < box.x1 - margin)
    return inner_x & (y > box.y0 + margin) & (y < box.y1 - margin)


def _distance(points, box):
    away = np.maximum(np.maximum([box.x0, box.y0] - points, points - [box.x1, box.y1]), 0)
    return np.hypot(*away.T).min()

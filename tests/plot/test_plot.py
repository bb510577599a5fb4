"""Figures hold what they say: their lines carry the data, and they leave pyplot alone."""

import jax
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import pytest
from matplotlib.figure import Figure

import inercia as ia
from inercia import plot
from inercia.commands.run_compare import compare
from inercia.comparison.both_schemes import two_dimensional
from inercia.plot import save


@pytest.fixture
def ax():
    return Figure().add_subplot()


def test_paths(ax):
    loss, lines = two_dimensional(steps=20)
    _, flow, explicit, _ = plot.paths(ax, loss, lines)
    np.testing.assert_array_equal(flow.get_xydata(), lines["flow"].params)
    np.testing.assert_array_equal(explicit.get_xydata(), lines["explicit (old m)"].params)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == list(lines)
    assert ax.get_xlabel()
    assert ax.get_ylabel()


def test_paths_need_two_params(ax):
    path = ia.iterate(ia.sgd(0.1), lambda x: (x**2).sum(), np.ones(3), 2)
    with pytest.raises(ValueError, match="must have two parameters, but 'a' has 3"):
        plot.paths(ax, lambda x: (x**2).sum(), {"a": path})


def test_gaps_and_orders(ax):
    path = ia.exact_iterates([[1.0]], [1.0], 8, 0.5)
    gap = ia.gap(path, ia.exact_flow([[1.0]], [1.0], path.times, 0.5))
    (line,) = plot.gaps(ax, {"gd": gap})
    np.testing.assert_array_equal(line.get_ydata(), gap.distance[1:])
    assert ax.get_yscale() == "log"
    other = Figure().add_subplot()
    order = ia.order(lambda dt: ia.sgd(0.5, dt=dt), ia.quadratic([[1.0]]), np.array([1.0]), 4.0, [1, 0.5, 0.25])
    (line,) = plot.orders(other, {"gd": order})
    np.testing.assert_array_equal(line.get_xydata(), np.stack([order.dts, order.gaps], axis=1))
    assert any(f"gd: {order.slope:.2f}" in text.get_text() for text in other.texts)


def test_training(ax):
    network = ia.mlp([2, 1])
    data, _ = ia.teacher(network, 20, jax.random.key(0))
    run = ia.train(ia.sgd(0.1), ia.risk(network), network.init(jax.random.key(1)), data, epochs=3, batch_size=5, key=0)
    (line,) = plot.training(ax, {"sgd": run.history})
    np.testing.assert_allclose(line.get_ydata(), run.history.loss)


def test_damping_regimes(ax):
    over, critical, under = (line.get_ydata() for line in plot.damping(ax, 0.1)[:3])
    assert (over > 0).all()
    assert (critical > 0).all()
    assert under.min() < -0.1
    # The critical one is the fastest that does not cross zero.
    assert critical[-1] < over[-1]


def test_no_global_setting_changes(tmp_path):
    before = dict(mpl.rcParams)
    save(lambda ax: plot.damping(ax, 0.1), tmp_path / "d.png")
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []
    assert (tmp_path / "d.png").stat().st_size > 10_000


def test_a_film_shows_each_path_up_to_its_clock(tmp_path):
    loss, lines = two_dimensional(steps=8)
    film = plot.animate(lines, loss, seconds=0.4, fps=5)
    flow, explicit, *_, clock = film._func(4.5)
    np.testing.assert_array_equal(explicit.get_xydata(), lines["explicit (old m)"].params[:5])
    smooth = lines["flow"]
    *before, last = flow.get_xydata()
    np.testing.assert_array_equal(before, smooth.params[smooth.times <= 4.5])
    np.testing.assert_allclose(last, [np.interp(4.5, smooth.times, x) for x in smooth.params.T])
    assert clock.get_text() == "t = 4"
    with PIL.Image.open(plot.save_animation(film, tmp_path / "film.gif", fps=5)) as made:
        assert made.n_frames == 2  # Pillow joins those of the last second, which are equal
        assert made.info["duration"] == 200
    with pytest.raises(ValueError, match=r"ending must be"):
        plot.save_animation(film, tmp_path / "film.avi")


def test_only_two_parameters_are_filmed():
    with pytest.raises(ValueError, match="--animate must have a --problem of two parameters"):
        compare(on="digits", animate=True)

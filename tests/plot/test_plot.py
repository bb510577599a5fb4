"""Figures hold what they say: their lines carry the data, and they leave pyplot alone."""

import dataclasses

import jax
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import pytest
import scipy.stats
from matplotlib.figure import Figure
from pictures import LINES, edge_run

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


def test_metrics_are_named_as_they_were_given(ax):
    step = np.array([1, 2, 3])
    one = ia.History(step, 1.0 / step, {"accuracy": step / 3, "inner": {"loss": 1.0 / step}})
    both = plot.training(ax, {"sgd": one}, evaluate=True)
    assert [line.get_label() for line in both] == ["sgd: accuracy", "sgd: inner.loss"]
    (line,) = plot.training(ax, {"sgd": one}, evaluate="accuracy")
    np.testing.assert_array_equal(line.get_ydata(), step / 3)
    assert (line.get_label(), ax.get_ylabel()) == ("sgd", "accuracy")
    plot.training(ax, {"sgd": one._replace(evaluate=step / 3)}, evaluate=True)
    assert ax.get_ylabel() == "evaluate"
    plot.training(ax, {"sgd": one._replace(evaluate=step / 3)}, evaluate=True, label="test accuracy")
    assert ax.get_ylabel() == "test accuracy"
    with pytest.raises(ValueError, match="did you mean 'accuracy'"):
        plot.training(ax, {"sgd": one}, evaluate="acuracy")
    with pytest.raises(ValueError, match="'sgd' does not: give train"):
        plot.training(ax, {"sgd": one._replace(evaluate=None)}, evaluate=True)
    with pytest.raises(ValueError, match=r"one number per record, but that of 'sgd' has shape \(2,\)"):
        plot.training(ax, {"sgd": one._replace(evaluate=np.ones((3, 2)))}, evaluate=True)


def test_series_finds_what_a_path_holds(ax):
    path = LINES["flow"]
    (loss,) = plot.series(ax, {"flow": path})
    np.testing.assert_array_equal(loss.get_xydata().T, [path.times, path.loss])
    for what, column in ((1, path.params[:, 1]), ("params[1]", path.params[:, 1]), ("state.m[0]", path.state.m[:, 0])):
        (line,) = plot.series(ax, {"flow": path}, what)
        np.testing.assert_array_equal(line.get_ydata(), column)
    sharp = plot.series(ax, {"flow": path}, "sharpness")
    assert [line.get_label() for line in sharp] == ["flow: sharpness[0]", "flow: sharpness[1]"]
    np.testing.assert_array_equal(sharp[1].get_ydata(), path.observed["sharpness"][:, 1])
    norms = plot.series(ax, {"flow": path}, "norms")
    assert [line.get_label() for line in norms] == ["flow: norms.grad", "flow: norms.step"]
    layers = dataclasses.replace(path, params=[ia.Layer(np.ones((301, 2, 3)), np.zeros((301, 3)))])
    (line,) = plot.series(ax, {"net": layers}, "params[0].w[1,2]")
    assert (line.get_ydata() == 1).all()
    assert len(plot.series(ax, {"net": layers}, "params[0]")) == 9
    history = ia.History(np.arange(3), np.ones(3), None, validation=np.arange(3.0))
    (line,) = plot.series(ax, {"run": history}, "validation")
    np.testing.assert_array_equal(line.get_ydata(), history.validation)


def test_series_says_what_it_does_not_find(ax):
    path = LINES["flow"]
    for what, message in (
        ("shapness", "did you mean 'sharpness'"),
        ("params[7]", r"entry of shape \(2,\), but it is 'params\[7\]'"),
        (2, "below the number of parameters 2, but it is 2"),
    ):
        with pytest.raises(ValueError, match=message):
            plot.series(ax, {"flow": path}, what)
    wide = dataclasses.replace(path, params=np.ones((301, 30)))
    with pytest.raises(ValueError, match="at most 20 numbers, but 'params' of 'wide' are 30"):
        plot.series(ax, {"wide": wide}, "params")
    with pytest.raises(TypeError, match="'run' is a history: give a name"):
        plot.series(ax, {"run": ia.History(np.arange(3), np.ones(3), None)}, 0)


def test_the_band_of_an_order_is_that_of_the_regression(ax):
    dts = 2.0 ** -np.arange(6)
    gaps = 0.3 * dts * np.exp(0.1 * np.cos(7 * np.arange(6)))
    x, y = np.log(dts), np.log(gaps)
    (slope, at_zero), covariance = np.polyfit(x, y, 1, cov="unscaled")
    rest = y - at_zero - slope * x
    t, variance = scipy.stats.t.ppf(0.975, 4), rest @ rest / 4
    half = t * np.sqrt(variance * covariance[0, 0])
    plot.orders(ax, {"a": ia.Order(dts, gaps, slope, (slope - half, slope + half), "", None)})
    basis = np.stack([x, np.ones(6)])
    expected = t * np.sqrt(variance * np.einsum("ik,ij,jk->k", basis, covariance, basis))
    corners = ax.collections[0].get_paths()[0].vertices
    for place, fit, away in zip(dts, at_zero + slope * x, expected, strict=True):
        found = np.unique(np.log(corners[np.isclose(corners[:, 0], place), 1]).round(12))
        np.testing.assert_allclose(found[[0, -1]], [fit - away, fit + away], rtol=1e-9)


def test_an_order_without_slope_is_drawn_too(ax):
    nan = float("nan")
    (line,) = plot.orders(ax, {"a": ia.Order(np.array([1.0, 0.5]), np.array([1.0]), nan, (nan, nan), "", "unstable")})
    assert line.get_label() == "a"
    assert not ax.collections


def test_phase_draws_parameter_against_memory(ax):
    flow, dots = plot.phase(ax, LINES, 1)
    np.testing.assert_array_equal(flow.get_xydata().T, [LINES["flow"].params[:, 1], LINES["flow"].state.m[:, 1]])
    assert (flow.get_marker(), dots.get_marker()) == ("None", "o")
    nested = dataclasses.replace(LINES["flow"], state=((), (LINES["flow"].state,)))
    (line,) = plot.phase(ax, {"chain": nested}, 1)
    np.testing.assert_array_equal(line.get_xydata(), flow.get_xydata())
    with pytest.raises(ValueError, match="field 'nu' shaped like the params"):
        plot.phase(ax, LINES, memory="nu")
    with pytest.raises(ValueError, match="below the number of parameters 2"):
        plot.phase(ax, LINES, 2)
    bare = dataclasses.replace(LINES["flow"], state=())
    with pytest.raises(ValueError, match="that of 'bare' is tuple"):
        plot.phase(ax, {"bare": bare})


def test_a_density_integrates_to_one(ax):
    nodes, weights = np.array([-1.0, 0.0, 3.0]), np.array([0.2, 0.5, 0.3])
    (line,) = plot.density(ax, {"a": (nodes, weights)})
    x, y = line.get_xydata().T
    assert np.trapezoid(np.nan_to_num(y), x) == pytest.approx(1, rel=1e-4)
    below = x < -0.5
    assert np.trapezoid(np.nan_to_num(y[below]), x[below]) == pytest.approx(0.2, rel=1e-3)
    with pytest.raises(ValueError, match=r"those of 'a' have the shapes \(3,\) and \(2,\)"):
        plot.density(ax, {"a": (nodes, weights[:2])})
    with pytest.raises(ValueError, match="'a' have shape"):
        plot.spectrum(ax, {"a": np.ones((2, 2))})


@pytest.mark.parametrize("given", [{}, {"learning_rate": 0.2}, {"curvature": 3.0}])
def test_bounds_are_those_of_stability(ax, given):
    old, new = plot.stability(ax, **given)
    (critical,) = plot.regimes(Figure().add_subplot(), **given)
    for line, scheme in ((old, "explicit"), (new, "semi-implicit")):
        for k in (0, 90, 199):
            beta, height = line.get_xydata()[k]
            a = given.get("learning_rate", 1.0 if "curvature" not in given else height)
            bound = given.get("curvature", height)
            assert ia.stability(ia.momentum(a, beta, scheme=scheme), [1.0]).threshold == pytest.approx(bound)
    beta, height = critical.get_xydata()[50]
    a, curvature = given.get("learning_rate", 1.0), given.get("curvature", height)
    a = height if "curvature" in given else a
    damping = [ia.stability(ia.momentum(a, beta), [curvature * f]).regime[0] for f in (0.99, 1, 1.01)]
    assert damping == ["overdamped", "critical", "underdamped"]


def test_only_one_of_two_axes_can_be_given(ax):
    with pytest.raises(ValueError, match="only one of learning_rate and curvature"):
        plot.stability(ax, learning_rate=0.1, curvature=1.0)
    with pytest.raises(ValueError, match="curvature must be a finite number above 0"):
        plot.regimes(ax, curvature=0.0)


def test_the_style_is_a_file_that_matplotlib_reads():
    for named in ("inercia.plot.inercia", plot.STYLE_FILE):
        with plt.style.context(named, after_reset=True):
            assert all(mpl.rcParams[name] == value for name, value in plot.STYLE.items())
            assert mpl.rcParams["axes.prop_cycle"].by_key()["color"][0].lstrip("#") == plot.COLOURS[0].lstrip("#")
    assert plt.get_fignums() == []


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


def test_an_edge_run_shows_the_flows_beside():
    run = edge_run()
    short = run.central[:100]  # one whose solver gave up
    away = np.where(run.times < 100, 0.5, np.nan)
    run = run._replace(others={"rod": short, "edge_flow": run.central}, to_others={"rod": away, "edge_flow": 0 * away})
    axes = Figure().subplots(1, 3)
    plot.edge(axes, run)
    loss, _, apart = ({line.get_label(): line for line in ax.lines} for ax in axes)
    assert len(loss["rod flow"].get_xdata()) == 100
    assert list(apart)[-2:] == ["to the rod flow", "to the edge flow"]
    np.testing.assert_array_equal(apart["to the rod flow"].get_ydata(), away)
    assert loss["rod flow"].get_color() != loss["edge flow"].get_color()

"""Runs of central flows: arrays that grow, eigenvalues nobody tracks, runs that stop, are kept, and go on."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import inercia as ia

module = importlib.import_module("inercia.edge_of_stability.central_run")

METHOD, REST = ia.sgd(0.5), np.sqrt(3.0)  # the valleys below rest where 1 + x^2 = 2 / 0.5


def valleys(params):
    """Walls of curvature 1 + x^2 close in as x goes to 3; z has a curvature of its own each, below the bound."""
    x, y, z = params
    own = jnp.where(jnp.arange(z.size) < 12, 2.4, 0.1)
    return jnp.sum((1 + x**2) * y**2 / 2 + 0.02 * (x - 3) ** 2) + own @ z**2 / 2


def start(count, flat, x=1.6):
    return jnp.full(count, x), jnp.zeros(count), jnp.ones(flat)


def ended(params):
    """A loss that is not finite where x passes 1.7."""
    return valleys(params) - 1e-14 * jnp.sum(jnp.log(1.7 - params[0]))


COUPLING = np.random.default_rng(0).normal(size=(10, 10))


def coupled(params):
    """Valleys that turn each other's walls; decoupled ones would leave most of X undetermined."""
    x, y, _ = params
    return valleys(params) + 0.003 * (x * y) @ COUPLING @ y


@pytest.mark.slow
def test_more_become_critical_than_the_first_arrays_hold():
    flow = ia.central(METHOD, coupled, start(10, 108), 60)
    sharp = flow.observed["sharpness"]
    assert sharp.shape == (61, 16)
    exact = 0.5 * ia.curvature(coupled, flow[-1].params, 10).values
    np.testing.assert_allclose(sharp[-1, :10], exact, rtol=1e-3)
    assert (exact[:9] > 0.97 * 2).all()
    assert exact[0] < 2.002


@pytest.mark.slow
def test_an_eigenvalue_that_nobody_tracks_is_found(monkeypatch):
    """The rows are eigenvectors at all times, and orthogonal to the valley's: no residual leads there."""

    real = module._start

    def blind(*arguments):
        begin = real(*arguments)
        return begin._replace(state=begin.state._replace(rows=jnp.eye(*begin.state.rows.shape, 2)))

    monkeypatch.setattr(module, "_start", blind)
    flow = ia.central(METHOD, valleys, start(1, 64, 0.2), 160, every=16)
    assert flow.params[0][-1] == pytest.approx(REST, rel=1e-6)
    assert flow.observed["sharpness"][-1, 0] == pytest.approx(2, rel=1e-6)
    assert np.nanmax(flow.observed["sharpness"]) < 2.1  # it went back to where the valley was below the bound
    monkeypatch.setattr(module, "probe_at", lambda *_: (jnp.asarray(0.0), None))
    assert ia.central(METHOD, valleys, start(1, 64, 0.2), 160, every=16).params[0][-1] > 2


@pytest.mark.slow
def test_a_run_that_must_stop_returns_what_it_has():
    with pytest.raises(ia.CurvatureError, match="not finite") as caught:
        ia.central(METHOD, ended, start(2, 62, 1.0), 60)
    path = caught.value.path
    sound = ia.central(METHOD, valleys, start(2, 62, 1.0), 60)
    assert 10 < len(path) < 60
    assert f"the {len(path)} points before" in str(caught.value)
    np.testing.assert_allclose(path.flat(), sound.flat()[: len(path)], rtol=0, atol=1e-12)
    assert path.params[0].max() < 1.7
    with pytest.raises(ia.CurvatureError) as caught:
        ia.central(METHOD, ended, start(2, 62, 2.0), 60)
    assert len(caught.value.path) == 0


@pytest.mark.slow
def test_a_kept_run_goes_on_to_the_last_bit(tmp_path, monkeypatch):
    file, begin = tmp_path / "run.npz", start(2, 62, 1.0)
    run = lambda **options: ia.central(METHOD, valleys, begin, 100, every=4, **options)  # noqa: E731
    calls, real, in_all = [], module._probed, []
    with monkeypatch.context() as patch:
        patch.setattr(module, "_probed", lambda *arguments: in_all.append(1) or real(*arguments))
        expected = run()

    def stopped(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_probed", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(checkpoint=file)
    count = []
    monkeypatch.setattr(module, "_probed", lambda *arguments: count.append(1) or real(*arguments))
    resumed = run(checkpoint=file, progress=True)
    assert 0 < len(count) < len(in_all)  # not from the start
    for name, column in expected.columns().items():
        np.testing.assert_array_equal(resumed.columns()[name], column)
    for other, named in (({"substeps": 5}, "substeps"), ({"stable": True}, "flow"), ({"k": 9}, "k was")):
        with pytest.raises(ValueError, match=f"another computation: its {named}"):
            run(checkpoint=file, **other)
    for method, loss, theta, named in (
        (ia.sgd(0.4), valleys, begin, "method"), (METHOD, ended, begin, "loss"),
        (METHOD, valleys, jax.tree.map(lambda leaf: leaf + 1, begin), "start"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"another computation: its {named}"):
            ia.central(method, loss, theta, 100, every=4, checkpoint=file)
    file.write_bytes(b"no archive")
    with pytest.raises(ValueError, match="must be a file that this function wrote"):
        run(checkpoint=file)
    with pytest.raises(ValueError, match="must be a file, but"):
        run(checkpoint=tmp_path)
    assert not list(tmp_path.glob("*.part"))

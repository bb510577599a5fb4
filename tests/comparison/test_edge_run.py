"""Edge runs that are cut into calls, kept, and go on."""

import importlib

import jax.numpy as jnp
import numpy as np
import pytest

import inercia as ia

module = importlib.import_module("inercia.comparison.edge_run")


def valley(x):
    return (1 + x[0] ** 2) * x[1] ** 2 / 2 + 0.002 * (x[0] - 3) ** 2


@pytest.mark.slow
@pytest.mark.long
def test_kept_and_cut_into_calls(tmp_path, monkeypatch):
    method, start = ia.sgd(0.5), jnp.array([1.7, 0.1])
    whole = ia.edge(method, valley, start, 100, flows=["edge_flow"])
    beside = whole.others["edge_flow"]
    np.testing.assert_array_equal(beside.flat(), ia.edge_flow(method, valley, start, 100).flat())
    mean = module.averaged(whole.iterates.flat(), 50)
    np.testing.assert_array_equal(whole.to_others["edge_flow"], np.linalg.norm(mean - beside.flat(), axis=1))
    monkeypatch.setattr(module, "_PIECE", 33)
    with monkeypatch.context() as patch:
        patch.setattr(module, "central", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ia.edge(method, valley, start, 100, checkpoint=tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["iterates.npz"]
    monkeypatch.setattr(module, "iterate", lambda *_, **__: 1 / 0)  # they are there
    run = ia.edge(method, valley, start, 100, checkpoint=tmp_path, progress=True)
    for name, column in whole.iterates.columns().items():
        np.testing.assert_allclose(run.iterates.columns()[name], column, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(run.central.flat(), whole.central.flat())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["central.npz", "iterates.npz", "stable.npz"]
    again = ia.edge(method, valley, start, 100, checkpoint=tmp_path)
    np.testing.assert_array_equal(again.to_central, run.to_central)
    with pytest.raises(ValueError, match="another computation: its method"):
        ia.edge(ia.sgd(0.4), valley, start, 100, checkpoint=tmp_path)


def test_iterates_that_diverge_are_returned(monkeypatch):
    monkeypatch.setattr(module, "_PIECE", 10)
    with pytest.raises(ia.CurvatureError, match="the iterates diverge at time") as caught:
        ia.edge(ia.sgd(3.0), lambda x: x @ x / 2 + x[0] ** 4, jnp.array([0.3, 0.1]), 40)
    path = caught.value.path
    assert 1 <= len(path) < 41
    assert np.isfinite(path.flat()).all()

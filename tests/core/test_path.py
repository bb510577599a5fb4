import csv

import jax.numpy as jnp
import numpy as np

import inercia as ia


def make():
    return ia.iterate(
        ia.momentum(0.1), lambda p: (p["w"] ** 2).sum() + p["b"] ** 2, {"b": jnp.ones(()), "w": jnp.ones((2, 2))}, 4
    )


def test_rows_and_flat():
    path = make()
    assert len(path) == 5
    assert path.flat().shape == (5, 5)
    assert path[1:3].params["w"].shape == (2, 2, 2)
    assert path[-1].loss == path.loss[-1]
    assert all(leaf.dtype == np.float64 for leaf in (path.times, path.loss, path.params["w"], path.state.m["w"]))


def test_files_hold_the_path(tmp_path):
    path = make()
    path.save_npz(tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz") as arrays:
        np.testing.assert_array_equal(arrays["params['w']"], path.params["w"])
        np.testing.assert_array_equal(arrays["state.m['b']"], path.state.m["b"])
    path.save_csv(tmp_path / "p.csv")
    with open(tmp_path / "p.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:3] == ["times", "loss", "params['b']"]
    assert [float(r["params['w'][1,0]"]) for r in rows] == path.params["w"][:, 1, 0].tolist()

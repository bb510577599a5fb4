import csv

import jax.numpy as jnp
import numpy as np
import optax

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


def test_the_precision_of_a_state_survives_its_file(tmp_path):
    path = ia.iterate(optax.adam(0.1, mu_dtype="bfloat16"), lambda x: x**2, jnp.ones(()), 3)
    path.save_npz(tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz") as arrays:
        np.testing.assert_array_equal(arrays["state[0].mu"], path.state[0].mu.astype(np.float32))
        assert arrays["state[0].nu"].dtype == np.float64
        assert arrays["state[0].count"].tolist() == [0, 1, 2, 3]


def test_a_piece_diverges_where_the_path_does():
    path = ia.iterate(ia.sgd(10.0), lambda x: x**4, jnp.array(1.0), 20)
    assert path.diverged is not None
    first = int(path.diverged)
    assert path[:first].diverged is None
    assert path[first - 1 :].diverged == path[first].diverged == first
    assert path[first + 2 :].diverged == first + 2

import jax
import jax.numpy as jnp
import numpy as np

from inercia.core import tree


def test_ravel_real_round_trip():
    with jax.enable_x64(True):
        whole = {"a": jnp.arange(3.0), "z": jnp.array([[1 + 2j, 3 - 1j]]), "n": None, "s": (jnp.float64(7),)}
        flat, rebuild = tree.ravel_real(whole)
        assert flat.dtype == jnp.float64
        assert flat.shape == (3 + 4 + 1,)
        back = rebuild(flat)
        assert jax.tree.structure(back) == jax.tree.structure(whole)
        jax.tree.map(np.testing.assert_array_equal, back, whole)


def test_map_grads_keeps_none():
    assert tree.map_grads(lambda g, m: g + m, {"a": 1, "b": None}, {"a": 2, "b": 3}) == {"a": 3, "b": None}


def test_distance_is_euclidean_over_leaves():
    a = {"x": np.zeros((2, 2)), "y": np.zeros((2,))}
    b = {"x": np.array([[0, 0], [3, 0]]), "y": np.array([1.0, 4])}
    np.testing.assert_allclose(tree.distance(a, b), [1, 5])

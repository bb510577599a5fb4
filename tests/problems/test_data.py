import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler

import inercia as ia
from inercia.problems.data import checked, scaled, scaling


def test_digits_are_those_of_scikit_learn():
    train, test = ia.digits()
    theirs = load_digits()
    np.testing.assert_array_equal(np.bincount(np.concatenate([train.y, test.y])), np.bincount(theirs.target))
    assert train.x.dtype == np.float32
    assert train.y.dtype == np.int32


def test_standardised_by_the_training_part():
    train, test = ia.digits()
    varying = train.x.std(axis=0) > 0
    np.testing.assert_allclose(train.x.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(train.x.std(axis=0)[varying], 1, atol=1e-4)
    assert varying.sum() >= 60
    assert np.isfinite(test.x).all()


RNG = np.random.default_rng(0)
HARD = {
    "pressure in float32": (101325 + 50 * RNG.normal(size=100_000)).astype(np.float32),
    "years": RNG.integers(2000, 2021, 100_000).astype(np.float32),
    "integers": RNG.integers(2000, 2021, 1000),
    "bytes": RNG.integers(0, 256, 1000).astype(np.uint8),
    "Unix seconds": 1_700_000_000.0 + np.arange(60),
    "constant 0.1": np.full(1000, 0.1, np.float32),
    "constant 3.3333": np.full(1000, 3.3333, np.float32),
    "constant 123.456": np.full(777, 123.456),
    "constant 0": np.zeros(5),
    "huge": 1e30 * RNG.choice([-1.0, 1.0], 100),
    "huge in float32": (1e30 * RNG.choice([-1.0, 1.0], 100)).astype(np.float32),
    "tiny": 1e-30 * RNG.normal(size=50),
    "one row": np.array([3.7]),
    "two rows": np.array([1e9, 1e9 + 1]),
}


@pytest.mark.parametrize("name", HARD)
def test_standardised_as_scikit_learn_does(name):
    column = HARD[name][:, None]
    theirs = StandardScaler().fit_transform(column.astype(np.float64))
    np.testing.assert_allclose(scaled(column, *scaling(column)), theirs, rtol=1e-12, atol=1e-12)
    train, _ = ia.standardise(ia.Split(ia.Dataset(column, None), ia.Dataset(column, None)))
    assert train.x.dtype == np.float32
    np.testing.assert_allclose(train.x, theirs, rtol=1e-7, atol=1e-12)


@given(
    st.integers(0, 10**6),
    st.integers(1, 60),
    st.sampled_from([0, 1, 1e6, -1e9]),
    st.sampled_from([1e-12, 1e-3, 1, 1e8]),
)
def test_random_columns_are_standardised_as_scikit_learn_does(seed, rows, mean, deviation):
    x = mean + deviation * np.random.default_rng(seed).normal(size=(rows, 3))
    theirs = StandardScaler().fit(x)
    mean, scale = scaling(x)
    np.testing.assert_allclose(scale, theirs.scale_, rtol=1e-9)
    # Where a column barely varies, its mean is known to its rounding alone, which the deviation magnifies.
    np.testing.assert_allclose(
        scaled(x, mean, scale), theirs.transform(x), rtol=0, atol=1e-12 + 1e-14 * max(abs(mean / scale))
    )


def test_beyond_squares():
    train, _ = ia.standardise(ia.Split(*[ia.Dataset(np.array([[1e300], [-1e300]]), None)] * 2))
    np.testing.assert_array_equal(train.x, [[1], [-1]])


def test_split_is_reproducible_and_disjoint():
    rows = (np.arange(20.0)[:, None], np.arange(20))
    (a, b), (c, _), (d, _) = ia.split(rows), ia.split(rows), ia.split(rows, seed=1)
    assert sorted([*a.y.tolist(), *b.y.tolist()]) == list(range(20))
    np.testing.assert_array_equal(a.y, c.y)
    assert (a.y != d.y).any()
    np.testing.assert_array_equal(a.x[:, 0], a.y)


def test_lists_are_data():
    (x, y), _ = ia.split(([[1.0], [2.0], [3.0], [4.0], [5.0]], [0, 1, 0, 1, 0]))
    assert x.shape == (4, 1)
    assert y.shape == (4,)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ((np.ones(3), np.array(["a", "b", "c"])), TypeError, "y must hold numbers, .* number the classes"),
        ((np.ones(3), np.ones(2)), ValueError, "as many rows"),
        ((np.ones(0), np.ones(0)), ValueError, "must not be empty"),
        ((np.array([1, np.nan]), np.ones(2)), ValueError, r"x must be finite, but x\[1\] is nan"),
        ((jnp.ones(2), jnp.array([1, jnp.inf])), ValueError, r"y must be finite, but y\[1\] is inf"),
        (np.ones(3), TypeError, "must be a pair"),
    ],
)
def test_what_is_no_data(data, error, message):
    with pytest.raises(error, match=message):
        checked(data)


def test_teacher_is_its_network_plus_noise():
    network = ia.mlp([3, 8, 2])
    clean, params = ia.teacher(network, 4000, jax.random.key(0))
    np.testing.assert_allclose(clean.y, network.apply(params, clean.x), rtol=1e-5, atol=1e-6)
    noisy, _ = ia.teacher(network, 4000, jax.random.key(0), noise=0.5)
    assert abs((noisy.y - clean.y).std() - 0.5) < 0.02

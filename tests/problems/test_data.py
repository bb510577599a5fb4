import jax
import numpy as np
from sklearn.datasets import load_digits

import inercia as ia


def test_digits_are_the_known_ones():
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


def test_split_is_reproducible_and_disjoint():
    rows = (np.arange(20.0)[:, None], np.arange(20))
    (a, b), (c, _), (d, _) = ia.split(rows), ia.split(rows), ia.split(rows, seed=1)
    assert sorted([*a.y.tolist(), *b.y.tolist()]) == list(range(20))
    np.testing.assert_array_equal(a.y, c.y)
    assert (a.y != d.y).any()
    np.testing.assert_array_equal(a.x[:, 0], a.y)


def test_teacher_is_its_network_plus_noise():
    network = ia.mlp([3, 8, 2])
    clean, params = ia.teacher(network, 4000, jax.random.key(0))
    np.testing.assert_allclose(clean.y, network.apply(params, clean.x), rtol=1e-5, atol=1e-6)
    noisy, _ = ia.teacher(network, 4000, jax.random.key(0), noise=0.5)
    assert abs((noisy.y - clean.y).std() - 0.5) < 0.02

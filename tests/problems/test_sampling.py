import jax
import numpy as np
import pytest

import inercia as ia
from inercia.problems.sampling import permutation

KEY = jax.random.key(3)


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "size"), [(12, 4), (13, 4), (5, 5), (7, 1)])
def test_shuffle_is_without_replacement(rows, size):
    s = ia.sampler("shuffle", rows, size)
    assert s.epoch == rows // size
    epochs = np.asarray(s.rows(KEY, 0, 3 * s.epoch, aligned=True)).reshape(3, -1)
    for epoch in epochs:
        assert len(set(epoch.tolist())) == s.epoch * size
    if rows > 5:
        assert (epochs[0] != epochs[1]).any()
    if rows % size:
        # The remainder changes from epoch to epoch, so that no row is left out for good.
        many = np.asarray(s.rows(KEY, 0, 40 * s.epoch, aligned=True))
        assert set(many.ravel().tolist()) == set(range(rows))


@pytest.mark.parametrize("name", ["shuffle", pytest.param("partition", marks=pytest.mark.slow)])
def test_any_stretch_is_reproduced(name):
    s = ia.sampler(name, 23, 4)
    whole = np.asarray(s.rows(KEY, 0, 31))
    for start, steps in [(3, 9), (30, 1)]:
        np.testing.assert_array_equal(
            jax.jit(s.rows, static_argnums=2)(KEY, start, steps), whole[start : start + steps]
        )


def test_partition_keeps_its_batches():
    s = ia.sampler("partition", 23, 4)
    assert s.epoch == 6
    drawn = np.asarray(s.rows(KEY, 0, 3000))
    batches, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(batches) == 6
    assert set(batches.ravel().tolist()) == set(range(23))
    # 6 equally likely batches, 3000 draws: 500 each, with deviation sqrt(3000 5/36) = 20.4.
    assert (abs(counts - 500) < 5 * 20.4).all()


def test_keys_differ():
    s = ia.sampler("shuffle", 50, 5)
    assert (s.rows(KEY, 0, 10) != s.rows(jax.random.key(4), 0, 10)).any()


def test_full_takes_every_row():
    assert ia.sampler("full", 9) == ia.Sampler(1, 9, None)


@pytest.mark.parametrize("n", [1, 2, 3, 1438, 70_000])
def test_permutation_is_one(n):
    assert sorted(permutation(KEY, n).tolist()) == list(range(n))


@pytest.mark.slow
def test_permutation_is_uniform():
    draws = np.asarray(jax.vmap(lambda k: permutation(k, 4))(jax.random.split(KEY, 24_000)))
    _, counts = np.unique(draws, axis=0, return_counts=True)
    assert len(counts) == 24
    assert ((counts - 1000) ** 2 / 1000).sum() < 50  # chi-square, 23 degrees of freedom: exceeded with p = 0.001
    # Where one round leaves ties: is a row as often before its neighbour as after, at every place?
    place = np.argsort(jax.vmap(lambda k: permutation(k, 1438))(jax.random.split(KEY, 400)), axis=1)
    before = (place[:, :-1] < place[:, 1:]).mean(axis=1)
    assert abs(before.mean() - 0.5) < 4 * before.std() / 20

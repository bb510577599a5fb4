"""Gradients of SVAG against their definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import inercia as ia

BATCHES = (np.arange(6.0).reshape(3, 2) ** 2, np.array([1.0, -2.0, 0.5]))  # 3 batches


def loss(x, batch):
    return jnp.sum(batch[0]) * x + batch[1] * x**2


def test_each_gradient_is_of_two_batches_drawn_independently():
    """All nine pairs, equally often; hence the mean of the batches' and l times their covariance."""
    l, x, n = 2.5, 0.7, 4000
    given = jax.jit(jax.vmap(jax.grad(ia.svag(loss, l)), (None, None, 0)))(
        x, BATCHES, jax.random.split(jax.random.key(0), n)
    )
    g, s = BATCHES[0].sum(axis=1) + 2 * x * BATCHES[1], np.sqrt(2 * l - 1)
    pairs = ((1 + s) / 2 * g[:, None] + (1 - s) / 2 * g).ravel()
    nearest = abs(np.asarray(given)[:, None] - pairs).argmin(axis=1)
    np.testing.assert_allclose(given, pairs[nearest], rtol=1e-5)
    assert abs(np.bincount(nearest, minlength=9) - n / 9).max() < 4 * np.sqrt(n / 9)
    assert pairs.mean() == pytest.approx(g.mean())
    assert pairs.var() == pytest.approx(l * g.var())


def test_in_a_training():
    """`train` gives it a key of every iteration's own; l = 1 draws one batch at a time."""
    ran = ia.train(ia.sgd(0.1), ia.svag(loss, 1), 0.0, BATCHES, epochs=1, key=0, sampler="full")
    assert np.isclose(ran.params, -0.1 * BATCHES[0].sum(axis=1), rtol=1e-5).any()
    assert ia.svag(loss, 4) == ia.svag(loss, 4.0)


def test_bad_input():
    with pytest.raises(ValueError, match=r"l must be at least 1, the noise as it is, but it is 0\.5"):
        ia.svag(loss, 0.5)
    with pytest.raises(ValueError, match=r"must share one leading axis, that of the N_b batches"):
        ia.svag(loss, 2)(0.0, (np.ones((3, 2)), np.ones(2)), jax.random.key(0))

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import inercia as ia

IDENTITY = ia.Network(lambda key: [], lambda params, x: x)


def test_squared_by_hand():
    x, y = jnp.array([[1.0, 2.0], [0.0, 0.0]]), jnp.array([[0.0, 0.0], [0.0, 4.0]])
    assert float(ia.risk(IDENTITY)([], (x, y))) == (5 / 2 + 16 / 2) / 2


def test_cross_entropy_is_minus_log_probability():
    x, y = jax.random.normal(jax.random.key(0), (6, 3)), jnp.array([0, 1, 2, 2, 1, 0])
    expected = -np.mean(np.log(np.asarray(jax.nn.softmax(x)))[np.arange(6), np.asarray(y)])
    assert float(ia.risk(IDENTITY, "cross-entropy")([], (x, y))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_cross_entropy_is_optaxs():
    x, y = 30 * jax.random.normal(jax.random.key(0), (50, 4)), jax.random.randint(jax.random.key(1), (50,), 0, 4)
    theirs = lambda x: optax.losses.softmax_cross_entropy_with_integer_labels(x, y).mean()  # noqa: E731
    ours = jax.value_and_grad(lambda x: ia.risk(IDENTITY, "cross-entropy")([], (x, y)))(x)
    for a, b in zip(ours, jax.value_and_grad(theirs)(x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)


def test_a_loss_of_ones_own():
    loss = ia.risk(IDENTITY, lambda p, y: optax.losses.huber_loss(p, y).sum(-1))
    assert float(loss([], (jnp.array([[3.0]]), jnp.array([[0.0]])))) == 2.5


def test_equal_risks_are_equal():
    assert ia.risk(IDENTITY, "squared") == ia.risk(IDENTITY, "squared")
    assert hash(ia.risk(IDENTITY, "squared")) == hash(ia.risk(IDENTITY, "squared"))
    assert ia.risk(IDENTITY, "squared") != ia.risk(IDENTITY, "cross-entropy")

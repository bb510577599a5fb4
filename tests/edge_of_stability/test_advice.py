"""Advice on the learning rate, and sharpness along updates and batches: closed forms, and what the iterates then do."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import inercia as ia

H = np.diag([1.0, 4.0])
LOSS = ia.quadratic(H)


@pytest.mark.parametrize(
    ("method", "largest"),
    [
        (ia.sgd(0.1), 0.5),
        (ia.momentum(0.1, 0.5), 1.5),
        (ia.momentum(0.1, 0.5, scheme="explicit"), 0.25),
        (ia.sgd(optax.linear_schedule(0.1, 0.2, 10)), 0.5),
    ],
)
def test_the_largest_rate_is_the_bound(method, largest):
    found = ia.advise(method, LOSS, jnp.ones(2))
    assert found.largest == pytest.approx(largest, rel=1e-5)
    assert found.rate == pytest.approx(0.1)
    assert found.margin == pytest.approx(1 - 0.1 / largest, rel=1e-5)
    assert f"up to {largest:.3g}." in str(found)


def test_rates_below_converge_and_above_diverge():
    largest = ia.advise(ia.sgd(1.0), LOSS, jnp.ones(2)).largest
    ends = [float(ia.iterate(ia.sgd(c * largest), LOSS, jnp.ones(2), 300).loss[-1]) for c in (0.98, 1.02)]
    assert ends[0] < 1e-4
    assert ends[1] > 1


@pytest.mark.slow
def test_of_an_optax_transformation_the_factor():
    params = jnp.array([1.0, 2.0])
    method = optax.chain(optax.clip(9.0), optax.sgd(0.1, momentum=0.5, nesterov=True))
    found = ia.advise(method, LOSS, params)
    assert (found.rate, found.largest) == (None, None)
    assert found.bound == pytest.approx(3.0)
    assert found.factor == pytest.approx(3.0 / (0.2 * 4), rel=1e-5)  # P = (1-b)/a
    assert "multiplied by 3.75." in str(found)


def test_beyond_the_bound_and_without_curvature():
    found = ia.advise(ia.sgd(1.0), LOSS, jnp.ones(2))
    assert found.margin == pytest.approx(-1.0, rel=1e-5)
    assert "100% beyond the bound 2" in str(found)
    flat = ia.advise(ia.sgd(1.0), lambda x: -jnp.sum(x**2), jnp.ones(2))
    assert np.isinf(flat.factor)
    assert "bounds no learning rate" in str(flat)
    with pytest.raises(ValueError, match="sign method"):
        ia.advise(optax.sign_sgd(0.1), LOSS, jnp.ones(2))


def test_critical_sharpness_of_gradient_descent_is_its_quotient():
    start = jnp.array([1.0, -2.0])
    method = ia.sgd(0.1)
    path = ia.iterate(method, LOSS, start, 5, observe={"critical": ia.critical_sharpness(method, LOSS)})
    g = path.params @ H
    exact = 0.1 * np.einsum("ni,ij,nj->n", g, H, g) / (g**2).sum(axis=1)
    np.testing.assert_allclose(path.observed["critical"], exact, rtol=1e-6)


def test_critical_sharpness_where_nothing_raises_the_loss_or_all_does():
    for loss, expected in ((lambda x: -jnp.sum(x), 0.0), (lambda x: jnp.sum(x**2), np.inf)):
        uphill = optax.sgd(-0.1 if expected else 0.1)
        path = ia.iterate(uphill, loss, jnp.ones(2), 1, observe={"c": ia.critical_sharpness(uphill, loss)})
        assert path.observed["c"][0] == expected


def rows_loss(w, batch):
    h, c = batch
    return jnp.mean(h * jnp.sum((w - c) ** 2, axis=-1)) / 2


@pytest.mark.slow
def test_batch_sharpness_is_the_mean_over_batches():
    """All batches of one row, each drawn once an epoch: the ratio of two plain means."""
    rng = np.random.default_rng(0)
    h, c, w = rng.uniform(1, 5, 6), rng.normal(size=(6, 2)), np.array([0.3, -0.2])
    g = h[:, None] * (w - c)
    exact = (h * (g**2).sum(axis=1)).mean() / (g**2).sum(axis=1).mean()
    found, error = ia.batch_sharpness(rows_loss, w, (h, c), 1, batches=6)
    assert found == pytest.approx(exact, rel=1e-12)
    assert error > 0
    whole, _ = ia.batch_sharpness(rows_loss, w, (h, c), 6, batches=1)
    assert whole == pytest.approx(h.mean(), rel=1e-12)


def test_batch_sharpness_weighs_by_the_gradients():
    h = np.array([1.0, 3.0])
    data = (h, np.zeros((2, 1)))
    # At c = 0 the gradient of a row is h w: the ratio is E h^3 / E h^2 for any w.
    found, _ = ia.batch_sharpness(rows_loss, jnp.ones(1), data, 1, batches=2)
    assert found == pytest.approx((h**3).mean() / (h**2).mean())


@pytest.mark.slow
def test_one_sentence():
    x = np.zeros((4, 1))
    for call, message in (
        (lambda: ia.batch_sharpness(rows_loss, jnp.ones(1), (np.ones(4), x), 5), "batch_size"),
        (lambda: ia.batch_sharpness(rows_loss, jnp.ones(1), (np.ones(3), x), 2), "as many rows in each array"),
        (lambda: ia.batch_sharpness(lambda w, b: w, jnp.ones(2), x, 2), "one real number"),
    ):
        with pytest.raises((ValueError, TypeError), match=message) as caught:
            call()
        assert "\n" not in str(caught.value)

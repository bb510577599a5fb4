"""A loss that closes over float32 images is computed as with float64 images."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.flatten_util import ravel_pytree

import inercia as ia
from inercia.core.partial_loss import one_of_equals
from inercia.core.precision import in_float64

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(5, 1, 6, 6)), jnp.float32)
NET = eqx.nn.Conv2d(1, 2, 3, stride=2, key=jax.random.key(0))
PARAMS, STATIC = eqx.partition(NET, eqx.is_array)


def loss_on(images):
    def loss(params):
        out = jax.nn.softplus(jax.vmap(eqx.combine(params, STATIC))(images))
        return 0.1 * jnp.mean((jax.nn.relu(out - 0.3) - 0.7) ** 2)

    return loss


SINGLE = loss_on(IMAGES)
with jax.enable_x64(True):
    DOUBLE = loss_on(IMAGES.astype(float))


@pytest.mark.slow
@pytest.mark.parametrize(
    "run",
    [
        lambda loss: ia.iterate(ia.momentum(0.5), loss, PARAMS, 5).flat(),
        lambda loss: ia.integrate(ia.sgd(0.5), loss, PARAMS, [0.0, 3.0]).flat(),
        lambda loss: ia.curvature(loss, PARAMS, 3).values,
    ],
    ids=["iterate", "integrate", "curvature"],
)
def test_images_in_float32_and_in_float64(run):
    single, double = run(SINGLE), run(DOUBLE)
    np.testing.assert_allclose(single, double, rtol=1e-12, atol=1e-13)


@jax.custom_vjp
def cubed(x):
    return x**3


cubed.defvjp(lambda x: (x**3, x), lambda x, c: (5 * x * c,))  # wrong on purpose, to be told from x**3's own


def everything(images):
    """Return a loss with loops, branches, remat, own derivatives, random numbers and conversions."""

    def loss(w):
        h = lax.conv(images, w, (2, 2), "SAME")
        h = jax.nn.relu(h) + cubed(h) + jax.checkpoint(jnp.tanh)(h)
        h = h + jax.random.uniform(jax.random.key(0), h.shape, jnp.float32)
        h, _ = lax.scan(lambda c, _: (jnp.sin(c) * 0.3, c), h, length=2)
        h = lax.cond(h[0, 0, 0, 0] > 0, lambda h: h * 2.0, lambda h: h, h)
        h = lax.fori_loop(0, 2, lambda _, h: h + jnp.arange(3, dtype=h.dtype)[:, None], h)
        return jnp.mean(h**2)

    return loss


@pytest.mark.slow
def test_every_kind_of_operation():
    with jax.enable_x64(True):
        w = jnp.asarray(np.random.default_rng(1).normal(size=(2, 1, 3, 3)))
        single, double = in_float64(everything(IMAGES), w), everything(IMAGES.astype(float))
        for mine, other in zip(jax.value_and_grad(single)(w), jax.value_and_grad(double)(w), strict=True):
            assert mine.dtype == np.float64
            np.testing.assert_allclose(mine, other, rtol=1e-12, atol=1e-14)


def test_losses_that_can_be_traced_stay():
    with jax.enable_x64(True):
        loss = everything(IMAGES)
        w = jnp.ones((2, 1, 3, 3))
        assert in_float64(DOUBLE, jax.tree.map(lambda leaf: leaf.astype(float), PARAMS)) is DOUBLE
        assert in_float64(loss, w) is in_float64(loss, w)  # or it would be compiled again


def test_a_loss_that_is_wrong_says_so():
    def wrong(w):
        return lax.conv(jnp.ones((1, 1, 3, 3), jnp.int32), w, (1, 1), "SAME").sum()

    with pytest.raises(TypeError, match="same dtypes, got int32"):
        ia.iterate(ia.sgd(0.1), wrong, jnp.ones((1, 1, 2, 2)), 1)


def rows(dtype):
    train, _ = ia.digits()
    return train.x[:200].astype(dtype), np.eye(10, dtype=dtype)[train.y[:200]]


@pytest.mark.slow
def test_products_in_float32():
    """Gradients are float32's; curvature, made in float64 of many products, stays near."""
    network = ia.mlp([64, 12, 10], "tanh")
    params, risk = network.init(jax.random.key(0)), ia.risk(network)
    double, single = (partial(risk, batch=rows(dtype)) for dtype in (np.float64, np.float32))
    single = ia.in_float32(single)
    with jax.enable_x64(True):
        theta = jax.tree.map(lambda leaf: leaf.astype(float), params)
        exact, rounded = (ravel_pytree(jax.grad(loss)(theta))[0] for loss in (double, single))
    assert rounded.dtype == np.float64
    assert 1e-9 < np.abs(rounded - exact).max() / np.abs(exact).max() < 1e-5
    sharp = ia.curvature(double, params, 2).values
    np.testing.assert_allclose(ia.curvature(single, params, 2).values, sharp, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.long
def test_central_flow_of_products_in_float32():
    network = ia.mlp([64, 12, 10], "tanh")
    params, risk = network.init(jax.random.key(0)), ia.risk(network)
    method = ia.sgd(2.1 / float(ia.curvature(partial(risk, batch=rows(np.float64)), params).values[0]))
    losses = partial(risk, batch=rows(np.float64)), ia.in_float32(partial(risk, batch=rows(np.float32)))
    one, other = (ia.central(method, loss, params, 10).params for loss in losses)
    one, other = (np.concatenate([np.reshape(leaf, (11, -1)) for leaf in jax.tree.leaves(p)], 1) for p in (one, other))
    assert 0 < np.linalg.norm(one[-1] - other[-1]) < 1e-5 * np.linalg.norm(one[-1] - one[0])


def test_float64_data_are_told():
    network = ia.mlp([64, 10])
    loss = ia.in_float32(partial(ia.risk(network), batch=rows(np.float64)))
    with pytest.raises(TypeError, match="must read data in float32, but it gives float64"):
        ia.curvature(loss, network.init(jax.random.key(0)))


def test_equal_losses_in_float32_are_equal():
    network = ia.mlp([64, 10])
    one, two = (one_of_equals(ia.in_float32(partial(ia.risk(network), batch=rows(np.float32)))) for _ in range(2))
    assert one is two
    params = network.init(jax.random.key(0))
    np.testing.assert_array_equal(one(params), ia.risk(network)(params, rows(np.float32)))

"""Networks of flax (nnx, linen), Equinox and plain functions go through everything, with at most three lines more."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from jax.flatten_util import ravel_pytree

import inercia as ia

TRAIN, _ = ia.digits()
X, Y = TRAIN.x[:48].reshape(-1, 8, 8, 1) / 2, np.eye(10, dtype=np.float32)[TRAIN.y[:48]]


class NnxCnn(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 3, (3, 3), strides=2, rngs=rngs)
        self.out = nnx.Linear(48, 10, rngs=rngs)

    def __call__(self, x):
        return self.out(jnp.tanh(self.conv(x)).reshape(len(x), -1))


class LinenCnn(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.swish(linen.LayerNorm()(linen.Conv(3, (3, 3), strides=2)(x)))
        return linen.Dense(10)(x.reshape(len(x), -1))


class EqxCnn(eqx.Module):
    conv: eqx.nn.Conv2d
    out: eqx.nn.Linear
    activation: object = jax.nn.tanh

    def __call__(self, x):
        return jax.vmap(lambda image: self.out(self.activation(self.conv(image.transpose(2, 0, 1))).ravel()))(x)


def nnx_network():
    graph, params = nnx.split(NnxCnn(nnx.Rngs(0)))
    return params, lambda params, x: nnx.merge(graph, params)(x)


def linen_network():
    model = LinenCnn()
    return model.init(jax.random.key(0), X), model.apply


def equinox_network():
    a, b = jax.random.split(jax.random.key(0))
    model = EqxCnn(eqx.nn.Conv2d(1, 3, 3, stride=2, key=a), eqx.nn.Linear(27, 10, key=b))
    params, static = eqx.partition(model, eqx.is_inexact_array)
    return params, lambda params, x: eqx.combine(params, static)(x)


def haiku_style_network():
    a, b = jax.random.split(jax.random.key(0))
    params = {
        "conv": {"w": 0.3 * jax.random.normal(a, (3, 3, 1, 3)), "b": jnp.zeros(3)},
        "linear": {"w": 0.1 * jax.random.normal(b, (48, 10)), "b": jnp.zeros(10)},
    }

    def apply(params, x):
        dimensions = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(x, params["conv"]["w"], (2, 2), "SAME", dimension_numbers=dimensions)
        y = jnp.tanh(y + params["conv"]["b"]).reshape(len(x), -1)
        return y @ params["linear"]["w"] + params["linear"]["b"]

    return params, apply


NETWORKS = {f.__name__: f for f in (nnx_network, linen_network, equinox_network, haiku_style_network)}


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow if name != "linen_network" else ()) for name in NETWORKS],
)
def network(request):
    """Params, loss(params, batch) and loss(params) on all rows."""
    params, apply = NETWORKS[request.param]()

    def of_batch(params, batch):
        x, y = batch
        return 0.5 * jnp.mean(jnp.sum((apply(params, x) - y) ** 2, axis=-1))

    return params, of_batch, lambda params: of_batch(params, (X, Y))


#: Two kinds of module; the others differ in nothing that is tested.
most = pytest.mark.parametrize(
    "network",
    [
        "nnx_network",
        "equinox_network",
        *(pytest.param(n, marks=pytest.mark.long) for n in ("linen_network", "haiku_style_network")),
    ],
    indirect=True,
)


def by_hand(method, loss, params, steps):
    """Iterate with optax alone, in float64 as far as the loss lets it."""
    state, step = method.init(params), jax.jit(jax.value_and_grad(loss))
    for _ in range(steps):
        updates, state = method.update(step(params)[1], state, params)
        params = optax.apply_updates(params, updates)
    return ravel_pytree(params)[0]


def test_train_is_the_loop_by_hand(network):
    params, of_batch, loss = network
    result = ia.train(ia.adam(3e-3), of_batch, params, (X, Y), epochs=5, sampler="full", key=0)
    right = by_hand(optax.adam(3e-3), loss, params, 5)
    np.testing.assert_allclose(ravel_pytree(result.params)[0], right, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@most
def test_iterates_and_flow(network):
    params, _, loss = network
    path = ia.iterate(ia.momentum(0.05), loss, params, 8)
    right = by_hand(ia.momentum(0.05), loss, params, 8)
    np.testing.assert_allclose(path.flat()[-1], right, rtol=1e-3, atol=1e-5)
    flow = ia.integrate(ia.momentum(0.05), loss, params, path.times)
    assert 0 < ia.gap(path, flow).relative[-1] < 0.3
    assert flow.loss[-1] < flow.loss[0]


@pytest.mark.slow
@most
def test_order(network):
    params, _, loss = network
    result = ia.order(lambda dt: ia.sgd(0.01, dt=dt), loss, params, 2.0, [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32])
    assert result.doubt is None, result
    assert abs(result.slope - 1) < 0.1


@pytest.mark.slow
@most
def test_curvature_is_that_of_the_matrix(network):
    params, _, loss = network
    found = ia.curvature(loss, params, k=3)
    z, rebuild = ravel_pytree(params)
    hessian = jax.hessian(lambda z: loss(rebuild(z)))(z)
    np.testing.assert_allclose(found.values, np.linalg.eigvalsh(np.float64(hessian))[::-1][:3], rtol=1e-4)


@pytest.mark.slow
@most
def test_sharpness_and_central_flow(network):
    params, _, loss = network
    top = ia.curvature(loss, params).values[0]
    method = ia.sgd(float(0.5 / top))  # far below the edge: the central flow is the plain flow
    path = ia.iterate(method, loss, params, 10, observe={"sharpness": ia.sharpness(method, loss)})
    assert path.observed["sharpness"][0, 0] == pytest.approx(0.5, rel=1e-4)
    flow = ia.central(method, loss, params, 10, k=2)
    plain = ia.integrate(method, loss, params, flow.times)
    assert ia.gap(flow, plain).relative[-1] < 0.05


def test_a_model_with_functions_for_leaves_is_told_to_be_partitioned():
    a, b = jax.random.split(jax.random.key(0))
    model = EqxCnn(eqx.nn.Conv2d(1, 3, 3, stride=2, key=a), eqx.nn.Linear(27, 10, key=b))
    for call in (
        lambda: ia.iterate(ia.sgd(0.1), jnp.sum, model, 1),
        lambda: ia.integrate(ia.sgd(0.1), jnp.sum, model, [0, 1]),
        lambda: ia.curvature(jnp.sum, model),
        lambda: ia.central(ia.sgd(0.1), jnp.sum, model, 1),
        lambda: ia.train(ia.sgd(0.1), lambda p, batch: 0.0, model, (X, Y), epochs=1, batch_size=2, key=0),
    ):
        with pytest.raises(TypeError, match=r"params.activation is a function: partition the model, for example"):
            call()

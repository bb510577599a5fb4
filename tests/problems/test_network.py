import jax
import jax.numpy as jnp
import numpy as np
import pytest

import inercia as ia


@pytest.mark.slow
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("activation", "output"),
    [("tanh", "identity"), ("sigmoid", "tanh"), (["relu", "swish"], "sigmoid"), (jnp.cos, "softplus")],
)
def test_backprop_equals_grad(activation, output, bias):
    with jax.enable_x64(True):
        network = ia.mlp([3, 5, 4, 2], activation, output, bias)
        params = network.init(jax.random.key(1))
        x, y = jax.random.normal(jax.random.key(2), (7, 3)), jax.random.normal(jax.random.key(3), (7, 2))
        by_hand = ia.backprop(params, x, lambda p: (p - y) / len(x), activation=activation, output=output)
        by_jax = jax.grad(ia.risk(network, "squared"))(params, (x, y))
        assert jax.tree.structure(by_hand) == jax.tree.structure(by_jax)
        for h, j in zip(jax.tree.leaves(by_hand), jax.tree.leaves(by_jax), strict=True):
            np.testing.assert_allclose(h, j, rtol=1e-12, atol=1e-14)


def test_forward_pass_by_hand():
    network = ia.mlp([2, 1, 1], "relu", "identity")
    params = [ia.Layer(jnp.array([[2.0], [-1.0]]), jnp.array([0.5])), ia.Layer(jnp.array([[3.0]]), jnp.array([1.0]))]
    np.testing.assert_allclose(network.apply(params, jnp.array([[1.0, 1.0], [0.0, 4.0]])), [[5.5], [1.0]])


def test_leading_dimensions():
    network = ia.mlp([3, 4, 2])
    params = network.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (5, 6, 3))
    assert network.apply(params, x).shape == (5, 6, 2)
    np.testing.assert_allclose(network.apply(params, x)[2, 3], network.apply(params, x[2, 3]), rtol=1e-6)


@pytest.mark.parametrize(("init", "variance"), [("lecun", 1 / 400), ("glorot", 2 / 700), ("he", 2 / 400)])
def test_variance_of_the_weights(init, variance):
    (layer,) = ia.mlp([400, 300], init=init).init(jax.random.key(0))
    assert float(layer.w.var()) == pytest.approx(variance, rel=0.03)
    assert layer.b is not None
    assert not layer.b.any()

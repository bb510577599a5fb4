"""Muon is optax's to the bit, and its flow that of the polynomial, or of the exact polar factor where smoothed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.linalg import polar

import inercia as ia

PARAMS = {"w": np.array([[1.0, -0.5, 0.3], [0.2, 0.8, -1.0]]), "b": np.array([0.5, -0.2, 0.1])}
SLOW = optax.cosine_decay_schedule(0.05, 40)


def fit(p):
    """A small smooth loss that couples all."""
    x = jnp.asarray([[1.0, 0.3], [-0.4, 1.2], [0.8, -0.9]])
    return jnp.mean((jnp.tanh(x @ p["w"] + p["b"]) - jnp.asarray([[0.9, -0.5, 0.2]])) ** 2)


@pytest.mark.parametrize(
    "options", [{}, {"nesterov": False, "weight_decay": 0.1, "adam_weight_decay": 0.05, "ns_steps": 3}]
)
def test_equal_to_optax_to_the_bit(options):
    params = jax.tree.map(jnp.float32, PARAMS)
    ours, theirs = ia.muon(SLOW, **options), optax.contrib.muon(SLOW, **options)
    one, two = ours.init(params), theirs.init(params)
    both = jax.jit(ours.update), jax.jit(theirs.update)
    for _ in range(10):
        grads = jax.grad(fit)(params)
        u, one = both[0](grads, one, params)
        v, two = both[1](grads, two, params)
        jax.tree.map(np.testing.assert_array_equal, u, v)
        params = optax.apply_updates(params, v)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "halvings"),
    [({}, 5), ({"nesterov": False}, 4), ({"smooth": 0.1}, 3), ({"smooth": 0.5, "nesterov": False}, 3)],
)
def test_order_one(options, halvings):
    def family(dt):
        return ia.muon(0.02, beta=0.8, adam_b2=0.9, eps=1e-4, dt=dt, **options)

    dts = [2.0**-k for k in range(halvings, halvings + 5)]
    result = ia.order(family, fit, PARAMS, 4.0, dts, rtol=1e-9, atol=1e-11)
    assert result.doubt is None, result
    assert result.slope == pytest.approx(1, abs=0.1)


def test_flow_at_the_start_is_along_the_polar_factor():
    grads = jax.tree.map(jnp.float32, PARAMS)
    exact = np.sqrt(1.5) * polar(PARAMS["w"])[0]

    def speed(**options):
        method = ia.muon(0.1, **options)
        return -10 * np.asarray(method.flow(grads, method.init(grads), grads)[0]["w"])

    np.testing.assert_allclose(speed(smooth=1e-4), exact, atol=1e-5)
    rough = np.linalg.svd(speed(), compute_uv=False) / np.sqrt(1.5)
    assert (rough > 0.6).all()
    assert (rough < 1.3).all()
    assert abs(rough - 1).max() > 0.02  # Newton-Schulz is not exact, and its flow is another


def test_bad_input():
    with pytest.raises(ValueError, match="smooth must be a finite number above 0"):
        ia.muon(0.1, smooth=0.0)
    with pytest.raises(ValueError, match=r"beta must lie in \[0, 1\)"):
        ia.muon(0.1, beta=1.0)

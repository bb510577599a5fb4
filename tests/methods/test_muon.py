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


AXES = optax.contrib.MuonDimensionNumbers
KERNELS = {"kernel": np.random.default_rng(0).normal(size=(2, 3, 4)), "w": PARAMS["w"], "b": PARAMS["b"]}


@pytest.mark.slow
def test_every_option_is_optax():
    """A batch of matrices, a matrix left to AdamW, coefficients by name, and all that scales."""
    params = jax.tree.map(jnp.float32, KERNELS)
    options = {
        "ns_coeffs": "dion", "adaptive": True, "preconditioning": "schatten", "adam_learning_rate": 0.3,
        "consistent_rms": 0.2, "muon_weight_dimension_numbers": {"kernel": AXES(2, 1), "w": None, "b": None},
    }  # fmt: skip
    ours, theirs = ia.muon(0.1, **options), optax.contrib.muon(0.1, **options)
    one, two = ours.init(params), theirs.init(params)
    for _ in range(3):
        u, one = jax.jit(ours.update)(params, one, params)
        v, two = jax.jit(theirs.update)(params, two, params)
        jax.tree.map(np.testing.assert_array_equal, u, v)
    by_rule = ia.muon(0.1, **options | {"muon_weight_dimension_numbers": _only_kernels})
    w, _ = by_rule.update(params, by_rule.init(params), params)
    first, _ = theirs.update(params, theirs.init(params), params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), w, first)


def _only_kernels(params):
    return jax.tree.map(lambda p: AXES(2, 1) if p.ndim == 3 else None, params)


@pytest.mark.slow
def test_the_exact_factor_of_a_batch():
    grads = jax.tree.map(jnp.float32, KERNELS)
    for adaptive in (False, True):
        method = ia.muon(1.0, smooth=1e-5, muon_weight_dimension_numbers=_only_kernels, adaptive=adaptive)
        speed = np.asarray(method.flow(grads, method.init(grads), grads)[0]["kernel"])
        exact = np.stack([polar(M.T)[0].T for M in KERNELS["kernel"]])
        scale = (exact * KERNELS["kernel"]).sum() if adaptive else 1.0
        np.testing.assert_allclose(-speed, scale * exact, atol=1e-4 * scale)


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


@pytest.mark.slow
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
    with pytest.raises(ValueError, match=r"preconditioning must be one of .* did you mean 'spectral'"):
        ia.muon(0.1, preconditioning="spectrl")
    with pytest.raises(ValueError, match="Unknown ns_coeff preset string: dino"):
        ia.muon(0.1, "dino")
    with pytest.raises(ValueError, match=r"beta must lie in \[0, 1\)"):
        ia.muon(0.1, beta=1.0)

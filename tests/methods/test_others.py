"""Nesterov's equation against its Bessel solution, and the methods that have no flow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import j1

import inercia as ia


def test_nesterov_is_the_published_recursion():
    A, s = np.array([[2.0, 0.5], [0.5, 1.0]]), 0.2
    x = y = np.array([1.0, -2.0])
    expected = [y]
    for k in range(1, 40):
        x_new = y - s * A @ y
        y = x_new + (k - 1) / (k + 2) * (x_new - x)
        x = x_new
        expected.append(y)
    path = ia.iterate(ia.nesterov(s), ia.quadratic(A), expected[0], 39)
    np.testing.assert_allclose(path.params, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("curvature", [0.1, 1.0, 7.0])
def test_nesterov_flow_is_bessel(curvature):
    s, times = 0.3, np.linspace(0, 30, 61)
    flow = ia.integrate(ia.nesterov(s), ia.quadratic([[curvature]]), np.array([1.0]), times, rtol=1e-12, atol=1e-13)
    z = times[1:] * np.sqrt(s * curvature)
    np.testing.assert_allclose(flow.params[1:, 0], 2 * j1(z) / z, rtol=0, atol=1e-8)


def test_sign_methods_say_that_they_have_no_flow():
    for method in (ia.lion(0.1), ia.sign_sgd(0.1)):
        with pytest.raises(TypeError, match="has no smooth flow: its update jumps where a sign changes"):
            ia.integrate(method, lambda x: x**2, jnp.array(1.0), [0.0, 1.0])
        with pytest.raises(TypeError, match="has no smooth flow"):
            method.flow(jnp.ones(1), None)


def test_sign_descent_chatters_at_the_step_size():
    for dt in (1.0, 0.5, 0.125):
        path = ia.iterate(ia.sign_sgd(0.1, dt=dt), lambda x: x**2, jnp.array(0.034), 400)
        assert abs(path.params[-20:]).max() <= 0.1 * dt
        assert abs(np.diff(path.params[-20:])).min() == pytest.approx(0.1 * dt)


def test_adagrad_flow_on_a_constant_gradient():
    # v = v0 + g^2 t, theta' = -a g / sqrt(v): theta = -(2 a / g) (sqrt(v0 + g^2 t) - sqrt(v0)).
    a, g, v0, times = 0.5, 3.0, 0.1, np.linspace(0, 10, 6)
    flow = ia.integrate(ia.adagrad(a, v0, eps=0.0), lambda x: g * x, jnp.array(0.0), times)
    np.testing.assert_allclose(flow.params, -2 * a / g * (np.sqrt(v0 + g**2 * times) - np.sqrt(v0)), atol=1e-9)


@pytest.mark.parametrize("centered", [False, True])
def test_rmsprop_corrected_from_above_zero_starts_at_rest(centered):
    """v = g^2 + (v0 - g^2) e^{-c t} over 1 - e^{-c t} is infinite at t = 0; m = (1 - e^{-c t}) g is corrected to g."""
    a, b, g, v0, times = 0.1, 0.8, 3.0, 2.0, np.array([0.0, 0.01, 1.0, 8.0])
    options = {"eps": 0.1, "initial_scale": v0, "bias_correction": True, "centered": centered}
    flow = ia.integrate(ia.rmsprop(a, b, **options), lambda x: g * x, jnp.array(0.0), times)

    def speed(t):
        gone = -np.expm1(-(1 - b) * t)
        return -a * g / np.sqrt((g**2 + (v0 - g**2) * (1 - gone)) / gone - centered * g**2 + 0.1) if t else 0.0

    exact = [quad(speed, 0, t, epsabs=1e-13)[0] for t in times]
    np.testing.assert_allclose(flow.params, exact, rtol=0, atol=1e-8)

    def last(dt):
        return ia.iterate(ia.rmsprop(a, b, **options, dt=dt), lambda x: g * x, jnp.array(0.0), round(8 / dt)).params[-1]

    assert 1.8 < (last(1 / 8) - exact[-1]) / (last(1 / 16) - exact[-1]) < 2.2


def test_rmsprop_layer_at_the_start():
    # v = (1 - e^{-c t}) g^2: theta' = -a / sqrt(1 - e^{-c t}), near t = 0 like 1/sqrt(c t).
    a, b = 0.1, 0.9
    flow = ia.integrate(ia.rmsprop(a, b, eps=1e-16), lambda x: 3.0 * x, jnp.array(0.0), [0.0, 0.01, 1.0], rtol=1e-10)
    c = 1 - b
    exact = lambda t: -a * 2 / c * np.arctanh(np.sqrt(1 - np.exp(-c * t)))  # noqa: E731
    np.testing.assert_allclose(flow.params[1:], [exact(0.01), exact(1.0)], rtol=1e-6)


def test_a_centred_corrected_variance_is_never_negative():
    """After the first update v and m^2, both corrected, are equal but for rounding."""
    g = jnp.asarray(np.random.default_rng(0).normal(size=1000), jnp.float32)
    for inside in (True, False):
        method = ia.rmsprop(0.1, centered=True, bias_correction=True, eps_in_sqrt=inside)
        assert jnp.isfinite(jax.jit(method.update)(g, method.init(jnp.zeros(1000)))[0]).all()

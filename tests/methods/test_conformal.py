"""Leapfrog with friction: order 2, a heavy ball after half a kick, areas that shrink exactly, the published RGD."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import inercia as ia
from inercia.problems.toy_losses import wells

START = np.array([0.8, 1.2])
FAMILIES = {
    "conformal": lambda dt: ia.conformal(0.5, 0.7, dt=dt),
    "relativistic": lambda dt: ia.relativistic(0.5, 0.7, 20.0, dt=dt),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_order_two(name):
    dts = [2.0**-k for k in range(2, 7)]
    result = ia.order(FAMILIES[name], wells, START, 8.0, dts, rtol=1e-11, atol=1e-13)
    assert result.doubt is None
    assert result.slope == pytest.approx(2, abs=0.1)


def test_first_steps_by_hand():
    a, b, g0, g1 = 0.5, 0.75, 8.0, -2.0
    method = ia.conformal(a, b)
    kept = np.exp(-0.25)
    first, state = method.update(jnp.array(g0), method.init(jnp.array(1.0)))
    second, after = method.update(jnp.array(g1), state)
    m0 = 0.25 * g0 / 2
    m1 = kept * m0 + 0.25 * g1
    np.testing.assert_allclose([first, second], [-a * m0 * (1 + kept) / 2, -a * m1 * (1 + kept) / 2], rtol=1e-6)
    np.testing.assert_allclose([state.m, after.m], [kept * m0, kept * m1], rtol=1e-6)


def test_conformal_is_a_heavy_ball_whose_first_kick_is_halved():
    a, b, dt = 0.3, 0.8, 0.5
    kept = np.exp(-(1 - b) * dt)
    with jax.enable_x64(True):
        theirs = optax.sgd(a * (1 - b) * dt**2 * (1 + kept) / 2, momentum=kept)
        ours, x = ia.conformal(a, b, dt=dt), {"w": jnp.array([1.0, -2.0])}
        one, two, y = ours.init(x), theirs.init(x), x
        for k in range(12):
            g, h = (jax.tree.map(lambda w: jnp.sin(3 * w), z) for z in (x, y))
            u, one = ours.update(g, one)
            v, two = theirs.update(jax.tree.map(lambda h: h / 2, h) if k == 0 else h, two)
            x, y = optax.apply_updates(x, u), optax.apply_updates(y, v)
        np.testing.assert_allclose(x["w"], y["w"], rtol=1e-13)


def test_relativistic_is_the_published_algorithm_from_kick_to_kick():
    """RGD with alpha = 1 (Franca et al. 2020), its v and delta in our units."""
    a, b, dt, delta = 0.4, 0.7, 0.5, 3.0
    mu, eps, scale = np.exp(-(1 - b) * dt), a * (1 - b) * dt**2 / 2, a * dt / 2
    D = delta / scale**2
    gradient = jax.grad(wells)
    with jax.enable_x64(True):
        x, v, kicks = START, scale * np.array([0.3, -0.2]), []
        for _ in range(8):
            half = x + np.sqrt(mu) * v / np.sqrt(mu * D * v @ v + 1)
            kicks.append(half)
            w = np.sqrt(mu) * v - eps * np.asarray(gradient(jnp.asarray(half)))
            x, v = half + w / np.sqrt(D * w @ w + 1), np.sqrt(mu) * w
        method = ia.relativistic(a, b, delta, dt=dt)
        m = jnp.asarray(-np.sqrt(mu) * np.array([0.3, -0.2]))  # -v / scale, after the friction
        theta, state = jnp.asarray(kicks[0]), ia.RelativisticState(jnp.int32(1), m)
        for kick in kicks:
            np.testing.assert_allclose(theta, kick, rtol=1e-13)
            updates, state = method.update(gradient(theta), state)
            theta = theta + updates


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_areas_shrink_as_those_of_the_flow(name):
    """The map's Jacobian J satisfies J^T Omega J = e^{-(1-b) dt} Omega, on a loss that is no quadratic."""
    method = FAMILIES[name](0.5)

    def step(z):
        state = method.init(z[:2])._replace(count=jnp.int32(3))
        updates, after = method.update(jax.grad(wells)(z[:2]), type(state)(state.count, z[2:]))
        return jnp.concatenate([z[:2] + updates, after[1]])

    with jax.enable_x64(True):
        J = np.asarray(jax.jacfwd(step)(jnp.array([0.8, 1.2, 0.3, -0.7])))
    omega = np.kron([[0, 1], [-1, 0]], np.eye(2))
    np.testing.assert_allclose(J.T @ omega @ J, np.exp(-0.15) * omega, atol=1e-14)


def test_a_quadratic_keeps_a_form_of_two_iterates_up_to_the_friction():
    """theta_k.m_{k+1} - m_k.theta_{k+1} is a quadratic form of (theta_k, m_k): the exact modified energy."""
    curvatures = np.diag([1.0, 3.0, 0.2])
    path = ia.iterate(ia.conformal(0.5, 0.9), ia.quadratic(curvatures), np.array([1.0, -1.0, 2.0]), 60)
    x, m = path.params[1:], path.state.m[1:]
    area = (x[:-1] * m[1:] - m[:-1] * x[1:]).sum(axis=1)
    np.testing.assert_allclose(area, area[0] * np.exp(-0.1 * np.arange(len(area))), rtol=1e-12)


@pytest.mark.slow
def test_stable_up_to_four_whatever_the_friction():
    for b in (0.0, 0.9):
        bound = 4 / (0.5 * (1 - b))
        for ratio, stays in ((0.99, True), (1.01, False)):
            path = ia.iterate(ia.conformal(0.5, b), ia.quadratic([[ratio * bound]]), np.ones(1), 4000)
            assert (abs(path.params[-1, 0]) < 1) == stays
        assert ia.threshold(ia.conformal(0.5, b)).curvature == pytest.approx(bound, rel=1e-9)


def test_steps_are_bounded_and_small_ones_are_conformal():
    params = {"a": jnp.zeros(3), "b": None}
    huge = {"a": jnp.array([1e8, -1e8, 3e8]), "b": None}
    method = ia.relativistic(0.1, 0.9, 4.0)
    updates, _ = method.update(huge, method.init(params))
    assert updates["b"] is None
    np.testing.assert_allclose(optax.tree.norm(updates), 0.1 / 2, rtol=1e-5)
    small, plain = ia.relativistic(0.1, 0.9, 1e-12), ia.conformal(0.1, 0.9)
    g = jnp.array([0.5, -2.0])
    np.testing.assert_allclose(small.update(g, small.init(g))[0], plain.update(g, plain.init(g))[0], rtol=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_lyapunov_falls_along_the_flow(name):
    method = FAMILIES[name](1.0)
    flow = ia.integrate(method, wells, START, np.linspace(0, 20, 41), rtol=1e-9, atol=1e-12)
    assert (np.diff(ia.lyapunov(method, flow)) < 0).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "complex64"])
def test_dtypes_stay(dtype):
    x = jnp.linspace(-1, 1, 4).astype(dtype)
    for make in FAMILIES.values():
        method = make(1.0)
        updates, state = method.update(x, method.init(x))
        assert updates.dtype == state[1].dtype == x.dtype
        assert np.isfinite(np.asarray(updates, complex)).all()


def test_bad_input():
    with pytest.raises(ValueError, match="delta must be a finite number above 0, but it is -1"):
        ia.relativistic(0.1, 0.9, -1.0)
    with pytest.raises(ValueError, match=r"beta must lie in \[0, 1\), but it is 1"):
        ia.conformal(0.1, 1.0)

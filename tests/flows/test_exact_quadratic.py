"""The exact solutions are the oracles: here they are checked against formulas that need no matrix."""

import numpy as np
import pytest

import inercia as ia

RNG = np.random.default_rng(0)
Q = np.linalg.qr(RNG.normal(size=(4, 4)))[0]
A = Q @ np.diag([0.1, 0.5, 1.0, 3.0]) @ Q.T
X0 = RNG.normal(size=4)


def test_gradient_flow_is_exponential():
    times = np.linspace(0, 9, 10)
    expected = np.array([Q @ np.diag(np.exp(-0.2 * t * np.array([0.1, 0.5, 1, 3]))) @ Q.T @ X0 for t in times])
    np.testing.assert_allclose(ia.exact_flow(A, X0, times, 0.2).params, expected, rtol=0, atol=1e-13)


def test_momentum_flow_is_the_damped_oscillator():
    a, b, lam = 0.5, 0.8, 2.0
    times = np.linspace(0, 30, 31)
    c = 1 - b
    w = np.sqrt(a * c * lam - c**2 / 4)
    expected = np.exp(-c * times / 2) * (np.cos(w * times) + c / (2 * w) * np.sin(w * times))
    np.testing.assert_allclose(ia.exact_flow([[lam]], [1.0], times, a, b).params[:, 0], expected, rtol=0, atol=1e-13)


def test_exact_paths_carry_loss_and_moment():
    path = ia.exact_iterates(A, X0, 5, 0.1, 0.5)
    np.testing.assert_allclose(path.loss, [0.5 * x @ A @ x for x in path.params])
    np.testing.assert_allclose(path.state[1], 0.5 * A @ X0)


@pytest.mark.parametrize("solver", ["DOP853", "RK45", "RK23", "Radau", "BDF", "LSODA"])
@pytest.mark.parametrize("beta", [None, 0.9])
def test_every_solver_reaches_the_exact_flow(solver, beta):
    method = ia.sgd(0.3) if beta is None else ia.momentum(0.3, beta)
    loose = solver in ("RK23", "BDF")  # low orders: as exact as their step count allows
    tolerance = 1e-9 if loose else 1e-12
    times = np.linspace(0, 20, 11)
    flow = ia.integrate(method, ia.quadratic(A), X0, times, solver=solver, rtol=max(tolerance, 1e-12), atol=tolerance)
    np.testing.assert_allclose(
        flow.params, ia.exact_flow(A, X0, times, 0.3, beta).params, rtol=0, atol=1e-6 if loose else 1e-9
    )
    if solver == "DOP853":
        np.testing.assert_allclose(flow.params, ia.exact_flow(A, X0, times, 0.3, beta).params, rtol=0, atol=1e-10)


@pytest.mark.parametrize("scheme", ia.SCHEMES)
@pytest.mark.parametrize("dt", [1.0, 0.25])
def test_iterates_are_exact_to_1e_10(scheme, dt):
    path = ia.iterate(ia.momentum(0.3, 0.9, scheme=scheme, dt=dt), ia.quadratic(A), X0, 300)
    exact = ia.exact_iterates(A, X0, 300, 0.3, 0.9, scheme=scheme, dt=dt)
    np.testing.assert_allclose(path.params, exact.params, rtol=0, atol=1e-10)
    np.testing.assert_allclose(path.state.m, exact.state, rtol=0, atol=1e-10)
    np.testing.assert_allclose(path.loss, exact.loss, rtol=0, atol=1e-10)
    np.testing.assert_array_equal(path.times, exact.times)


def test_gradient_descent_is_exact_to_1e_10():
    path = ia.iterate(ia.sgd(0.3), ia.quadratic(A), X0, 300)
    np.testing.assert_allclose(path.params, ia.exact_iterates(A, X0, 300, 0.3).params, rtol=0, atol=1e-10)


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.99])
def test_only_the_lecture_order_diverges_above_one(beta):
    """On curvature l the explicit order is stable iff a l < 1, for every beta."""

    def final(scheme, a):
        method = ia.momentum(a, beta, scheme=scheme)
        path = ia.iterate(method, ia.quadratic([[1.0]]), np.array([1.0]), 120_000, every=40_000)
        return abs(path.params[-1, 0]), path.diverged

    growth = final("explicit", 1.02)
    assert growth[1] is not None or growth[0] > 10
    assert final("explicit", 0.98)[0] < 1e-4
    assert final("semi-implicit", 1.02)[0] < 1e-4
    # ... which is stable up to (2 + 2 beta) / (1 - beta).
    edge = (2 + 2 * beta) / (1 - beta)
    assert final("semi-implicit", 0.99 * edge)[0] < 1e-3
    over = final("semi-implicit", 1.01 * edge)
    assert over[1] is not None or over[0] > 10

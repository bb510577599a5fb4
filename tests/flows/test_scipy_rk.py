"""The compiled steps are scipy's: same steps, same evaluations, same numbers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
from scipy.integrate import solve_ivp

from inercia import integrate, momentum
from inercia.flows import scipy_rk
from inercia.flows.vector_field import Field


def rate(z):
    """Return a pendulum's velocity and acceleration."""
    return jnp.array([z[1], -jnp.sin(z[0]) - 0.1 * z[1]])


@pytest.mark.parametrize("name", scipy_rk.EXPLICIT)
def test_equal_to_scipy(name):
    times = np.array([0.0, 0.3, 7.0, 7.1, 20.0])
    with jax.enable_x64(True):
        options = {"t_eval": times, "rtol": 1e-6, "atol": 1e-9}
        march = jax.jit(partial(scipy_rk.march, name, rate), donate_argnums=0)
        plain = solve_ivp(lambda t, z: np.asarray(rate(z)), (0, 20), [2.0, 0.0], method=name, **options)
        solver = scipy_rk.compiled(name, march)
        ours = solve_ivp(lambda t, z: np.asarray(rate(z)), (0, 20), [2.0, 0.0], method=solver, **options)
    np.testing.assert_allclose(ours.y, plain.y, rtol=0, atol=1e-11)
    # Where an output falls on an end of a step, no polynomial is made; DOP853's costs three evaluations.
    assert plain.nfev - 6 <= ours.nfev <= plain.nfev


@pytest.mark.parametrize("name", scipy_rk.EXPLICIT)
def test_stiffness_is_the_slope_of_the_field(name):
    """On z' = -l z the ratio is h l, whatever the step; compiled or not."""
    with jax.enable_x64(True):
        march = jax.jit(partial(scipy_rk.march, name, lambda z: -7 * z), donate_argnums=0)
        for kind in (getattr(scipy.integrate, name), scipy_rk.compiled(name, march)):
            solver = kind(lambda t, z: -7 * z, 0.0, np.array([1.0, 2.0]), 9.0, rtol=1e-6)
            for _ in range(3):
                solver.step()
                assert scipy_rk.made(solver)[-1].stiffness == pytest.approx(7 * (solver.t - solver.t_old), rel=1e-6)


def test_another_scipy_is_refused_in_a_sentence(monkeypatch):
    assert scipy_rk.missing_in_scipy() == []
    monkeypatch.delattr(scipy.integrate.RK23, "E")
    scipy_rk.scipy_solver.cache_clear()
    with pytest.raises(ImportError, match=r"attributes of SciPy's Runge-Kutta classes .* does not have \(RK23\.E\)"):
        scipy_rk.scipy_solver("RK45")
    monkeypatch.undo()
    assert scipy_rk.scipy_solver("RK45") is scipy.integrate.RK45


@pytest.mark.parametrize("name", scipy_rk.EXPLICIT)
def test_blow_up_stops(name):
    with jax.enable_x64(True):
        march = jax.jit(partial(scipy_rk.march, name, lambda z: z**2), donate_argnums=0)
        solver = scipy_rk.compiled(name, march)
        result = solve_ivp(lambda t, z: z**2, (0, 3), [1.0], method=solver, rtol=1e-6)
    assert not result.success
    assert result.t[-1] == pytest.approx(1.0, abs=1e-3)


def valley(x):
    """Return a loss whose valley bends."""
    return jnp.sum((1 - x[:-1]) ** 2 + 3 * (x[1:] - x[:-1] ** 2) ** 2) / 20


@jax.jit
def damped(z):
    """Return the momentum equation's rate in that valley, for (params, m, clock)."""
    x, m = z[:300], z[300:600]
    return jnp.concatenate([-0.5 * m, 0.2 * (jax.grad(valley)(x) - m), jnp.ones(1)])


@pytest.mark.parametrize("name", scipy_rk.EXPLICIT)
@pytest.mark.parametrize("end", [25.0, -4.0])
def test_many_steps_a_call_are_scipys(name, end, monkeypatch):
    """Up to 64 steps a call, rejected ones among them: scipy's steps, evaluations and point, in few calls."""
    calls, march = [], Field.march
    monkeypatch.setattr(Field, "march", lambda *a: calls.append(a) or march(*a))
    start, tolerances = np.random.default_rng(0).uniform(-1, 1, 300), {"rtol": 1e-5, "atol": 1e-8}
    path = integrate(momentum(0.5, 0.8), valley, start, [0.0, end], solver=name, **tolerances)
    with jax.enable_x64(True):
        z0 = np.concatenate([start, np.zeros(301)])
        plain = solve_ivp(lambda t, z: np.asarray(damped(z)), (0, end), z0, method=name, **tolerances)
    rejected = (plain.nfev - 2) / getattr(scipy.integrate, name).n_stages - len(plain.t) + 1
    assert rejected >= (1 if end > 0 else 0)
    assert (path.solve.nfev, path.solve.steps) == (plain.nfev, len(plain.t) - 1)
    assert end < 0 or len(calls) <= 4 + path.solve.steps / 8  # there stability limits steps, told one by one
    np.testing.assert_allclose(path.params[-1], plain.y[:300, -1], rtol=0, atol=1e-11)

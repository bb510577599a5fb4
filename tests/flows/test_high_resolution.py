"""High-resolution equations: order 2 where the plain flow has order 1, and what only they tell apart."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import inercia as ia
from inercia.core import tree
from inercia.problems.toy_losses import wells

START = np.array([0.8, 1.2])
DTS = [2.0**-k for k in range(3, 8)]
FAMILIES = {
    "vanishing friction": lambda dt: ia.nesterov(0.2, dt=dt),
    "constant friction": lambda dt: ia.sgd(0.2, 0.7, nesterov=True, dt=dt),
    "heavy ball": lambda dt: ia.sgd(0.2, 0.7, dt=dt),
}


def begun(family, dt, **change):
    flow, start = ia.high_resolution(family(dt), wells)
    params, state = start(START, family(dt).init(START))
    return flow, params, state._replace(**change)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_order_two(name):
    family = FAMILIES[name]
    result = ia.order(family, wells, START, 8.0, DTS, flows=lambda dt: begun(family, dt), rtol=1e-11, atol=1e-13)
    assert result.doubt is None
    assert result.slope == pytest.approx(2, abs=0.1)


def test_the_averaged_form_has_the_heavy_balls_equation():
    g, at = jnp.array([0.3, -0.2]), ia.OscillatorState(jnp.float32(2), jnp.array([0.1, 0.4]))
    rates, starts = [], []
    for method, memory in ((ia.momentum(0.5, 0.7, dt=0.5), 0.3), (ia.sgd(0.15, 0.7, dt=0.5), 1.0)):
        flow, start = ia.high_resolution(method, wells)
        rates.append(flow(g, at, jnp.asarray(START))[1].velocity)
        starts.append(start(START, type(method.init(g))(jnp.int32(4), memory * g))[1])
    np.testing.assert_allclose(*rates, rtol=1e-6)
    np.testing.assert_allclose(*(s.velocity for s in starts), rtol=1e-6)
    assert [float(s.count) for s in starts] == [2.0, 2.0]


@pytest.mark.slow
@pytest.mark.long  # analysis/nesterov.py asserts it too
def test_the_published_start_has_order_one():
    """Shi et al. start at the first update over dt, which is the velocity half a step later."""
    family = FAMILIES["constant friction"]
    with jax.enable_x64(True):
        g = np.asarray(jax.grad(wells)(jnp.asarray(START)))

    def flows(dt):
        decay = 1 - 0.3 * dt
        return begun(family, dt, velocity=-(1 + decay) * dt * 0.2 * g)  # 2 / (1 + q) = 1 + b'

    result = ia.order(family, wells, START, 8.0, [d / 4 for d in DTS], flows=flows, rtol=1e-11, atol=1e-13)
    assert result.slope == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("name", ["vanishing friction", "constant friction"])
def test_order_two_from_the_middle_of_a_run(name):
    """A later state starts the equation, too: its memory is not zero."""
    family, gaps = FAMILIES[name], []
    for dt in (1 / 16, 1 / 32):
        path = ia.iterate(family(dt), wells, START, round(6 / dt))
        k = round(2 / dt)
        flow, start = ia.high_resolution(family(dt), wells)
        params, state = start(path.params[k], tree.row(path.state, k))
        later = ia.integrate(flow, wells, params, path.times[k:], state=state, rtol=1e-11, atol=1e-13)
        gaps.append(abs(later.params - path.params[k:]).max())
    assert np.log2(gaps[0] / gaps[1]) == pytest.approx(2, abs=0.1)


def test_on_a_quadratic_the_equation_is_the_published_one():
    """X'' + 2 sqrt(mu) X' + sqrt(s) H X' + (1 + sqrt(mu s)) grad f = 0 in the time k sqrt(s), linear there."""
    s, mu, curvature = 0.04, 0.5, 3.0
    root = np.sqrt(mu * s)
    method = ia.sgd(s, (1 - root) / (1 + root), nesterov=True)
    flow, start = ia.high_resolution(method, ia.quadratic([[curvature]]))
    params, state = start(np.ones(1), method.init(np.ones(1)))
    times = np.arange(0.0, 41.0, 5.0)
    ours = ia.integrate(flow, ia.quadratic([[curvature]]), params, times, state=state, rtol=1e-11, atol=1e-13)
    A = np.array([[0, 1], [-(1 + root) * curvature, -2 * np.sqrt(mu) - np.sqrt(s) * curvature]])
    values, vectors = np.linalg.eig(A)
    begin = np.array([1.0, float(state.velocity[0]) / np.sqrt(s)])
    weights = np.linalg.solve(vectors, begin)
    exact = [(vectors * np.exp(values * t * np.sqrt(s))) @ weights for t in times]
    np.testing.assert_allclose(ours.params[:, 0], np.real(exact)[:, 0], atol=1e-9)


def test_modified_takes_nesterov_there():
    for make in (FAMILIES["vanishing friction"], FAMILIES["constant friction"]):
        method = make(0.5)
        one, two = ia.modified(method, wells), ia.high_resolution(method, wells)
        (theta, state), (_, same) = (e.start(START, method.init(START)) for e in (one, two))
        np.testing.assert_array_equal(state.velocity, same.velocity)
        g, v = jnp.array([0.3, -0.2]), jnp.array([0.1, 0.4])
        at = ia.OscillatorState(jnp.float32(2), v)
        np.testing.assert_array_equal(*(e.flow(g, at, jnp.asarray(theta))[1].velocity for e in (one, two)))


def test_bad_input():
    with pytest.raises(ValueError, match=r"method must be inercia's nesterov, sgd with momentum, .* but it is adam"):
        ia.high_resolution(ia.adam(0.1), wells)
    with pytest.raises(ValueError, match="but it is sgd"):
        ia.high_resolution(ia.sgd(0.1), wells)
    with pytest.raises(ValueError, match="need constant hyperparameters, but one is a schedule"):
        ia.high_resolution(ia.sgd(optax.constant_schedule(0.1), 0.9), wells)


def test_portrait_of_a_method_and_of_an_equation():
    x, v = np.linspace(-1, 1, 3), np.linspace(-2, 2, 5)

    def loss(x):
        return 1.5 * x**2

    field = ia.portrait(ia.nesterov(0.2), loss, x, v, time=6.0)
    np.testing.assert_allclose(field.theta_rate, np.tile(v[:, None], (1, 3)))
    np.testing.assert_allclose(field.memory_rate, -0.5 * v[:, None] - 0.2 * 3 * x, atol=1e-15)
    flow = ia.high_resolution(ia.nesterov(0.2), loss).flow
    fine = ia.portrait(flow, loss, x, v, time=6.0, state=ia.OscillatorState(0.0, 0.0))
    expected = -3 / 7.5 * v[:, None] - 0.6 * v[:, None] - (1 + 1.5 / 7.5) * 0.6 * x
    np.testing.assert_allclose(fine.memory_rate, expected, atol=1e-15)
    assert fine.theta.dtype == np.float64
    with pytest.raises(TypeError, match="a bare flow needs state="):
        ia.portrait(flow, loss, x, v)
    with pytest.raises(ValueError, match="this one holds 2"):
        ia.portrait(ia.adam(0.1), loss, x, v)

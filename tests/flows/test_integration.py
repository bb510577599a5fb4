import jax
import jax.numpy as jnp
import numpy as np
import pytest

import inercia as ia
from inercia.problems.toy_losses import wells


def stiff(x):
    return 0.5 * (x[0] ** 2 + 1e4 * (x[1] - jnp.sin(x[0])) ** 2)


def test_implicit_solvers_use_the_jacobian_and_win_on_stiffness():
    times = [0.0, 20.0]
    start = np.array([2.0, 0.0])
    explicit = ia.integrate(ia.sgd(0.5), stiff, start, times, solver="RK45", rtol=1e-6, atol=1e-9)
    implicit = ia.integrate(ia.sgd(0.5), stiff, start, times, solver="Radau", rtol=1e-6, atol=1e-9)
    assert implicit.solve.njev > 0
    assert implicit.solve.steps < explicit.solve.steps / 20
    np.testing.assert_allclose(implicit.params, explicit.params, atol=1e-5)


def test_report_and_types():
    flow = ia.integrate(ia.adam(0.1), stiff, np.array([1.0, 1.0]), [0.0, 0.5, 1.0])
    assert flow.solve.nfev > 10
    assert flow.solve.steps > 1
    assert "successfully reached the end" in flow.solve.reason
    assert flow.params.dtype == np.float64
    np.testing.assert_allclose(flow.state.count, flow.times, atol=1e-12)
    np.testing.assert_allclose(flow.loss, [stiff(p) for p in flow.params], rtol=1e-5)


def test_memory_of_implicit_solvers_is_bounded():
    big = np.zeros(170_000)
    with pytest.raises(ValueError, match=r"'LSODA' on 170001 unknowns would ask for 431 GiB.*use an explicit one"):
        ia.integrate(ia.sgd(0.1), lambda x: jnp.sum(x**2), big, [0.0, 1.0], solver="LSODA")


def test_blow_up_gives_the_partial_path():
    # theta' = theta^2 from 1 reaches infinity at t = 1.
    with pytest.raises(ia.IntegrationError, match=r"gave up at time 0\.99|gave up at time 1 ") as caught:
        ia.integrate(ia.sgd(1.0), lambda x: -(x**3) / 3, jnp.array(1.0), np.linspace(0, 2, 21))
    path = caught.value.path
    assert 9 <= len(path) <= 10 or path.times[-1] == pytest.approx(1.0)
    np.testing.assert_allclose(path.params[:9], 1 / (1 - path.times[:9]), rtol=1e-6)
    assert path.solve.steps > 10


def test_blow_up_in_an_implicit_solver_is_typed_too():
    with pytest.raises(ia.IntegrationError):
        ia.integrate(ia.sgd(1.0), lambda x: -jnp.exp(x), jnp.array(1.0), [0.0, 50.0], solver="BDF")


def test_goes_on_from_a_discrete_state():
    method = ia.momentum(0.1, dt=0.5)
    path = ia.iterate(method, wells, np.array([1.0, 0.8]), 6)[-1]
    flow = ia.integrate(method, wells, path.params, [3.0, 4.0], state=path.state)
    np.testing.assert_allclose(flow.state.count, [3, 4])
    np.testing.assert_array_equal(flow.state.m[0], path.state.m)


def test_goes_on_from_a_continuous_state():
    method, start = ia.adam(0.05), np.array([1.0, 0.8])
    whole = ia.integrate(method, wells, start, [0.0, 1.0, 2.0], rtol=1e-11)
    rest = ia.integrate(method, wells, whole.params[1], [1.0, 2.0], rtol=1e-11, state=whole[1].state)
    np.testing.assert_allclose(rest.params[-1], whole.params[-1], atol=1e-9)


def test_complex_params():
    target = 1 + 2j
    flow = ia.integrate(ia.sgd(0.5), lambda z: jnp.abs(z - target) ** 2, jnp.complex64(0), [0.0, 1.0])
    # jax's gradient of |z - c|^2 conjugated is 2 (z - c), so z' = -(z - c).
    np.testing.assert_allclose(flow.params, [0, target * (1 - np.exp(-1))], atol=1e-8)


def test_what_has_no_flow():
    with pytest.raises(TypeError, match="method must be an optimizer or a flow, but it is int"):
        ia.integrate(3, wells, np.ones(2), [0.0, 1.0])
    with pytest.raises(ValueError, match="must return trees like params and state, 5 numbers, but it returns 2"):
        ia.integrate(lambda g, s, p: (g, ()), wells, np.ones(2), [0.0, 1.0], state=ia.momentum(0.1).init(np.ones(2)))


def test_gradient_is_the_only_cost():
    calls = []

    def counted(x):
        jax.debug.callback(lambda: calls.append(1))
        return jnp.sum(x**4)

    flow = ia.integrate(ia.sgd(0.1), counted, np.ones(3), [0.0, 1.0])
    jax.effects_barrier()
    assert len(calls) <= flow.solve.nfev + 2 + len(flow)  # the check of the start, and the loss at each time

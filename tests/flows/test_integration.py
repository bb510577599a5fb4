import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.integrate import solve_ivp

import inercia as ia
from inercia.problems.toy_losses import wells

START = np.array([1.0, 0.8])


def half(x):
    return jnp.sum(x**2) / 2


def quartic(x):
    return jnp.sum(x**4) / 4


def cubic(x):
    return -jnp.sum(x**3) / 3


def stiff(x):
    return 0.5 * (x[0] ** 2 + 1e4 * (x[1] - jnp.sin(x[0])) ** 2)


@pytest.mark.slow
def test_implicit_solvers_use_the_jacobian_and_win_on_stiffness():
    times = [0.0, 2.0]
    start = np.array([2.0, 0.0])
    explicit = ia.integrate(ia.sgd(0.5), stiff, start, times, solver="RK45", rtol=1e-6, atol=1e-9)
    implicit = ia.integrate(ia.sgd(0.5), stiff, start, times, solver="Radau", rtol=1e-6, atol=1e-9)
    assert implicit.solve.njev > 0
    assert implicit.solve.steps < explicit.solve.steps / 10
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


# -- Stiffness, singularities.


def very_stiff(x):
    return ((x[0] + x[1]) ** 2 + 1e6 * (x[0] - x[1]) ** 2) / 4


def test_an_explicit_solver_says_early_that_the_flow_is_stiff():
    with pytest.raises(ia.IntegrationError, match=r"the flow is stiff.*e\+07 evaluations.*use solver='auto'") as caught:
        ia.integrate(ia.sgd(0.5), very_stiff, np.array([2.0, 0.0]), [0.0, 20.0])
    path = caught.value.path
    assert path.solve.nfev < 12_000
    assert path.times[-1] > 0.005  # as far as it came
    np.testing.assert_allclose(path.params[-1], np.exp(-path.times[-1] / 2), rtol=1e-8)


def test_auto_hands_over_to_an_implicit_solver():
    flow = ia.integrate(ia.sgd(0.5), very_stiff, np.array([2.0, 0.0]), [0.0, 10.0, 20.0], solver="auto", dense=True)
    assert flow.solve.solver == "DOP853, then Radau"
    assert flow.solve.nfev < 6_000
    np.testing.assert_allclose(flow.params[1:, 0], np.exp(-flow.times[1:] / 2), rtol=1e-7)
    np.testing.assert_allclose(flow.params[1:, 1], np.exp(-flow.times[1:] / 2), rtol=1e-7)
    np.testing.assert_allclose(flow.dense([0.5, 3.0])[0][:, 1], np.exp([-0.25, -1.5]), rtol=1e-6)


def test_auto_stays_explicit_where_nothing_is_stiff():
    auto, plain = (ia.integrate(ia.adam(0.1), wells, START, [0.0, 30.0], solver=s) for s in ("auto", "DOP853"))
    np.testing.assert_array_equal(auto.params, plain.params)
    assert auto.solve == plain.solve


def test_a_layer_at_the_start_is_not_called_stiff():
    """RMSProp's cold start and a flow on steep walls begin with steps of 1e-10, which grow."""
    flow = ia.integrate(ia.rmsprop(0.01, decay=0.9), wells, START, [0.0, 50.0], max_nfev=20_000)
    assert flow.times[-1] == 50
    flow = ia.integrate(ia.sgd(0.1), lambda x: jnp.sum(x**8), 10 * START, [0.0, 100.0], max_nfev=5_000)
    assert flow.solve.nfev < 6_000


@pytest.mark.parametrize("solver", ["LSODA", "DOP853", "BDF"])
def test_every_solver_says_where_a_flow_blows_up(solver):
    with pytest.raises(ia.IntegrationError, match=rf"{solver} gave up at time (1|0\.99999\d*) of 2") as caught:
        ia.integrate(ia.sgd(1.0), cubic, np.ones(1), [0.0, 0.5, 2.0], solver=solver)
    path = caught.value.path
    np.testing.assert_allclose(path.params[1], 2.0, rtol=1e-6)
    assert path.times[-1] == pytest.approx(1.0, abs=1e-5)


# -- Backward time, events, dense output.


def test_backward_time():
    back = ia.integrate(ia.sgd(0.5), quartic, np.array([0.5]), [0.0, -1.0, -1.5])
    np.testing.assert_allclose(back.params[:, 0], 1 / np.sqrt(4 + back.times), rtol=1e-8)  # x' = -x^3 / 2
    method = ia.adam(0.1)
    there = ia.integrate(method, wells, START, [0.0, 1.0, 3.0], rtol=1e-11)
    again = ia.integrate(method, wells, there.params[-1], [3.0, 1.0], state=there[-1].state, rtol=1e-11)
    np.testing.assert_allclose(again.params[-1], there.params[1], rtol=1e-6)
    with pytest.raises(ValueError, match=r"times must not go below 0, where the clock .* the last is -1"):
        ia.integrate(method, wells, START, [0.0, -1.0])
    with pytest.raises(ValueError, match=r"must increase or decrease, but times\[1\] = 1 is followed by 2"):
        ia.integrate(method, wells, START, [3.0, 1.0, 2.0, 0.0], state=there[-1].state)


def height(t, params, state):
    return params[0] - 0.25


def speed(t, params, state):
    return state.m[0]


def level(t, params, state):
    return half(params) - 0.02


def scipy_oscillator(**options):
    def rate(t, z):  # x' = -a m, m' = (1-b)(x - m) with a = 1, b = .9; and the clock, an unknown too
        return [-z[2], 1.0, 0.1 * (z[0] - z[2])]

    given = {"method": "DOP853", "rtol": 1e-9, "atol": 1e-12} | options
    return solve_ivp(rate, (0, 60), [1.0, 0.0, 0.0], **given)


@pytest.mark.parametrize("direction", [0, 1, -1])
def test_events_are_those_of_scipy(direction):
    def event(t, params, state):
        return height(t, params, state)

    event.direction = direction
    flow = ia.integrate(ia.momentum(1.0), half, np.array([1.0]), np.linspace(0, 60, 7), events=[event, speed])

    def theirs(t, z):
        return z[0] - 0.25

    theirs.direction = direction
    right = scipy_oscillator(events=[theirs, lambda t, z: z[2]])
    for ours, times, points in zip(flow.events, right.t_events, right.y_events, strict=True):
        np.testing.assert_allclose(ours.times, times, atol=1e-7)
        np.testing.assert_allclose(ours.params[:, 0], points[:, 0], atol=1e-7)
    assert len(flow.events[0]) >= 2 - abs(direction)
    assert len(flow) == 7


@pytest.mark.parametrize("terminal", [True, 3])
def test_a_terminal_event_ends_the_path(terminal):
    def event(t, params, state):
        return height(t, params, state)

    event.terminal = terminal
    flow = ia.integrate(ia.momentum(1.0), half, np.array([1.0]), np.linspace(0, 60, 601), events=event, dense=True)

    def theirs(t, z):
        return z[0] - 0.25

    theirs.terminal = terminal
    right = scipy_oscillator(events=theirs, t_eval=np.linspace(0, 60, 601))
    np.testing.assert_allclose(flow.times, right.t)
    np.testing.assert_allclose(flow.params[:, 0], right.y[0], atol=1e-7)
    assert flow.events[0].times[-1] == pytest.approx(right.t_events[0][-1], abs=1e-7)
    assert "termination event" in flow.solve.reason
    assert flow.dense(flow.events[0].times[-1])[0][0] == pytest.approx(0.25, abs=1e-9)


def test_stops_at_a_loss_and_at_a_sharpness():
    level.terminal = True
    flow = ia.integrate(ia.sgd(0.5), half, np.array([1.0]), [0.0, 20.0], events=level)
    assert flow.events[0].times == pytest.approx([np.log(25)])  # loss e^{-t} / 2
    assert flow.events[0].loss == pytest.approx([0.02])

    def sharpness(t, params, state):
        return jnp.linalg.eigvalsh(jax.hessian(quartic)(params))[-1] - 0.5

    sharpness.terminal = True
    flow = ia.integrate(ia.sgd(0.5), quartic, np.array([1.0]), [0.0, 20.0], events=sharpness)
    assert flow.events[0].times == pytest.approx([5.0])  # 3 x^2 = 1/2 where x = (1 + t)^(-1/2)
    assert len(flow) == 1


def test_events_across_a_jump_and_back_in_time():
    schedule = optax.piecewise_constant_schedule(0.5, {1: 0.1})

    def event(t, params, state):
        return params[0] - np.exp(-0.5)

    there = ia.integrate(ia.sgd(schedule), half, np.array([1.0]), [0.0, 1.0, 5.0], events=[event, level])
    assert there.events[0].times == pytest.approx([1.0], abs=1e-6)  # exactly at the jump, once
    four = ia.sgd(0.5).init(np.ones(1))._replace(count=np.int32(4))
    back = ia.integrate(ia.sgd(0.5), half, np.array([0.1]), [4.0, 0.0], state=four, events=event)
    assert back.events[0].times == pytest.approx([4 - 2 * (np.log(10) - 0.5)])


def test_events_must_be_functions():
    with pytest.raises(TypeError, match=r"events must be functions \(t, params, state\) -> float, but one is 3"):
        ia.integrate(ia.sgd(0.5), half, np.ones(1), [0.0, 1.0], events=[3])


@pytest.mark.parametrize("solver", ["DOP853", "RK45", "Radau", "BDF", "LSODA"])
def test_dense_output(solver):
    schedule = optax.piecewise_constant_schedule(0.5, {3: 0.1})
    flow = ia.integrate(ia.sgd(schedule), half, np.array([1.0]), [0.0, 6.0], solver=solver, dense=True)
    t = np.linspace(0, 6, 50)
    params, state = flow.dense(t)
    right = np.exp(-0.5 * np.minimum(t, 3) - 0.05 * np.maximum(t - 3, 0))
    np.testing.assert_allclose(params[:, 0], right, rtol=1e-6)
    np.testing.assert_allclose(state.count, t, atol=1e-9)
    assert flow.dense(2.5)[0].shape == (1,)
    with pytest.raises(ValueError, match="t must lie between 0 and 6, where the flow was solved, but it is 7"):
        flow.dense(7.0)


def test_dense_output_of_compiled_steps():
    start = np.linspace(0.5, 1, 600)
    flow = ia.integrate(ia.sgd(0.5), half, start, [0.0, 6.0], dense=True)
    np.testing.assert_allclose(flow.dense([0.3, 4.4])[0], start * np.exp([[-0.15], [-2.2]]), rtol=1e-7)


def test_longest_step():
    flow = ia.integrate(ia.sgd(0.5), half, np.array([1.0]), [0.0, 5.0], max_step=0.1)
    assert flow.solve.steps >= 50
    with pytest.raises(ValueError, match="max_step must be a finite number above 0, but it is -1"):
        ia.integrate(ia.sgd(0.5), half, np.array([1.0]), [0.0, 5.0], max_step=-1.0)


# -- What cannot be done is said.


def test_transformations_of_jax_are_refused_in_a_sentence():
    def end(x):
        return ia.integrate(ia.sgd(0.5), half, x, [0.0, 1.0]).params[-1].sum()

    for transform in (jax.grad, jax.jit):
        with pytest.raises(TypeError, match="integrate runs SciPy's solvers, which jit, vmap and grad cannot trace"):
            transform(end)(jnp.ones(1))
    with pytest.raises(TypeError, match="integrate runs SciPy's solvers"):
        jax.vmap(end)(jnp.ones((2, 1)))
    with pytest.raises(TypeError, match="integrate runs SciPy's solvers"):
        jax.grad(lambda a: ia.integrate(ia.sgd(a), half, np.ones(1), [0.0, 1.0]).loss[-1])(0.5)


def test_evaluations_of_smooth_flows_are_those_of_scipy():
    flow = ia.integrate(ia.momentum(1.0), half, np.array([1.0]), [0.0, 60.0])
    right = scipy_oscillator()
    assert flow.solve.steps == len(right.t) - 1
    assert flow.solve.nfev == right.nfev
    np.testing.assert_allclose(flow.params[-1], right.y[:1, -1], atol=1e-13)


def test_a_loss_that_is_not_finite_is_no_solver_that_gave_up():
    with pytest.raises(ia.IntegrationError, match="params, state or loss are not finite at time 0") as caught:
        ia.integrate(ia.sgd(0.1), lambda p: p**2 + jnp.inf, np.ones(()), [0.0, 1.0])
    assert "gave up" not in str(caught.value)

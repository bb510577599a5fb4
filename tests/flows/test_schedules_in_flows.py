"""Flows of methods whose schedules jump or have corners.

On f = x^2/2 gradient flow is x' = -a(t) x, so that x(t) = exp(-integral of a): the integral is SciPy's `quad`, told the
breakpoints from which the schedule was made.
"""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.integrate import quad

import inercia as ia

CONSTANT = optax.constant_schedule
PULSE = optax.join_schedules([CONSTANT(1e-4), CONSTANT(0.1), CONSTANT(1e-4)], [500, 510])


def half(x):
    return x**2 / 2


def on_tree(params):
    return jnp.sum(params["w"] ** 2) / 2


def exact(schedule, breakpoints, end):
    bounds = [0.0, *[b for b in breakpoints if b < end], end]
    parts = pairwise(bounds)
    read = jax.jit(schedule)
    return np.exp(-sum(quad(lambda t: float(read(np.float64(t))), a, b, epsabs=1e-13)[0] for a, b in parts))


@pytest.mark.parametrize("solver", ["DOP853", "RK45", "Radau", "LSODA", "auto"])
def test_a_pulse_is_not_stepped_over(solver):
    flow = ia.integrate(ia.sgd(PULSE), half, jnp.array(1.0), [0.0, 1000.0], solver=solver)
    assert flow.params[-1] == pytest.approx(np.exp(-(0.1 * 10 + 1e-4 * 990)), rel=1e-8)  # 0.3332
    assert flow.solve.nfev < 1000


def draw(kind, rng):
    """Return a random schedule and its breakpoints, up to t = 100."""
    a, b, c = np.sort(rng.choice(np.arange(1, 90), 3, replace=False)).tolist()
    rates = rng.uniform(0.001, 0.05, 4).tolist()
    if kind == "join":
        return optax.join_schedules([CONSTANT(r) for r in rates], [a, b, c]), [a, b, c]
    if kind == "piecewise":
        return optax.piecewise_constant_schedule(0.04, {a: 0.1, b: 6.0, c: 0.2}), [a, b, c]
    if kind == "staircase":
        steps = range(a, 100, 17)
        return optax.exponential_decay(0.05, 17, 0.5, transition_begin=a, staircase=True), list(steps)
    if kind == "warmup cosine":
        return optax.warmup_cosine_decay_schedule(0.0, 0.05, a, c, 0.001), [a, c]
    if kind == "onecycle":
        return optax.linear_onecycle_schedule(c, 0.05), [int(0.3 * c), int(0.85 * c), c]
    cycle = {"init_value": 0.0, "peak_value": 0.05, "warmup_steps": 3, "decay_steps": a + 5, "end_value": 0.01}
    length = a + 5
    return optax.sgdr_schedule([cycle] * 3), [x for k in range(3) for x in (k * length + 3, (k + 1) * length)]


@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in (1, 2, 3))])
@pytest.mark.parametrize("kind", ["join", "piecewise", "staircase", "warmup cosine", "onecycle", "sgdr"])
def test_random_schedules_reach_the_tolerance(kind, seed):
    schedule, breakpoints = draw(kind, np.random.default_rng(seed))
    flow = ia.integrate(ia.sgd(schedule), half, jnp.array(1.0), [0.0, 37.0, 100.0])
    with jax.enable_x64(True):
        right = [exact(schedule, breakpoints, t) for t in flow.times[1:]]
    np.testing.assert_allclose(flow.params[1:], right, rtol=1e-8)


def test_forth_and_back_again():
    method = ia.sgd(PULSE)
    there = ia.integrate(method, half, jnp.array(1.0), [0.0, 505.0, 1000.0])
    back = ia.integrate(method, half, there.params[-1], [1000.0, 505.0, 0.0], state=there[-1].state)
    np.testing.assert_allclose(back.params[::-1], there.params, rtol=1e-8)


def test_the_last_time_may_be_a_jump():
    schedule = optax.piecewise_constant_schedule(0.01, {20: 100.0})
    flow = ia.integrate(ia.sgd(schedule), half, jnp.array(1.0), [0.0, 20.0])
    assert flow.params[-1] == pytest.approx(np.exp(-0.2), rel=1e-9)
    assert flow.solve.steps < 30
    again = ia.integrate(ia.sgd(schedule), half, jnp.array(1.0), [20.0, 21.0], state=flow[-1].state)
    assert again.params[-1] == pytest.approx(np.exp(-1), rel=1e-9)


def test_momentum_with_a_schedule_equals_its_pieces():
    """Two methods of constant rate, the second started where the first ends, are the method that changes its rate."""
    schedule = optax.piecewise_constant_schedule(0.5, {8: 0.1})
    whole = ia.integrate(ia.momentum(schedule), on_tree, {"w": np.ones(2)}, [0.0, 8.0, 20.0], rtol=1e-11)
    first = ia.integrate(ia.momentum(0.5), on_tree, {"w": np.ones(2)}, [0.0, 8.0], rtol=1e-11)
    last = first[-1]
    second = ia.integrate(ia.momentum(0.05), on_tree, last.params, [8.0, 20.0], state=last.state, rtol=1e-11)
    np.testing.assert_allclose(whole.params["w"][-1], second.params["w"][-1], rtol=1e-8)


def test_a_bare_flow_is_read_and_can_be_told():
    def flow(grads, state, params):
        return -jnp.where(state < 500, 1e-4, jnp.where(state < 510, 0.1, 1e-4)) * grads, jnp.ones_like(state)

    def hidden(grads, state, params):  # decided inside a loop, where nothing can be read
        rate = jax.lax.fori_loop(0, 1, lambda _, a: jnp.where((state > 500) & (state < 510), 0.1, a), 1e-4 + 0 * state)
        return -rate * grads, jnp.ones_like(state)

    right = np.exp(-(0.1 * 10 + 1e-4 * 990))
    for bare, named in ((flow, ()), (hidden, [500, 510])):
        path = ia.integrate(bare, half, jnp.array(1.0), [0.0, 1000.0], state=jnp.int32(0), breakpoints=named)
        assert path.params[-1] == pytest.approx(right, rel=1e-8)
    path = ia.integrate(hidden, half, jnp.array(1.0), [0.0, 1000.0], state=jnp.int32(0), max_step=1.0)
    assert path.params[-1] == pytest.approx(right, rel=1e-6)
    assert path.solve.steps >= 1000


def test_a_table_that_needs_an_integer_is_named():
    table = jnp.array([0.1, 0.2, 0.3])
    with pytest.raises(
        ValueError, match=r"read at a float time, which learning_rate does not take \(TypeError\): index"
    ):
        ia.integrate(ia.sgd(lambda t: table[t]), half, jnp.array(1.0), [0.0, 2.0])
    staircase = ia.sgd(lambda t: table[jnp.asarray(t, int)])
    flow = ia.integrate(staircase, half, jnp.array(1.0), [0.0, 3.0])
    assert flow.params[-1] == pytest.approx(np.exp(-0.6), rel=1e-7)  # the table is float32


def test_smooth_flows_are_not_cut():
    smooth = ia.integrate(ia.adam(optax.exponential_decay(0.1, 50, 0.9)), half, jnp.array(1.0), [0.0, 20.0])
    constant = ia.integrate(ia.adam(0.1), half, jnp.array(1.0), [0.0, 20.0])
    assert abs(smooth.solve.nfev - constant.solve.nfev) < 0.5 * constant.solve.nfev


def test_breakpoints_must_be_finite():
    with pytest.raises(ValueError, match=r"breakpoints must be finite, but breakpoints\[1\] is nan"):
        ia.integrate(ia.sgd(0.1), half, jnp.array(1.0), [0.0, 1.0], breakpoints=[0.5, np.nan])

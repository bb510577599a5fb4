"""Interpolated flows of transformations that need more than a gradient, or start unlike they go on."""

import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import inercia as ia

START = np.array([1.0, 0.5])


def quartic(x):
    return jnp.sum(x**4) / 4


def bowl(x):
    return jnp.sum(x**2 * jnp.array([1.0, 0.3])) / 2


@pytest.mark.slow
def test_a_first_update_of_another_kind_is_refused_and_a_warm_start_works():
    method = optax.novograd(0.005)
    with pytest.raises(ValueError, match=r"a first update like those after it, but from this state state\[0\]\.nu"):
        ia.integrate(method, bowl, START, [0.0, 20.0])
    warm = ia.iterate(method, bowl, START, 2)[-1]
    iterates = ia.iterate(method, bowl, warm.params, 20, state=warm.state)
    flow = ia.integrate(method, bowl, warm.params, iterates.times, state=warm.state)
    moved = np.linalg.norm(iterates.params[-1] - iterates.params[0])
    assert np.linalg.norm(flow.params - iterates.params, axis=1).max() < 1e-3 * moved


@pytest.mark.parametrize(
    "make", [optax.nadam, optax.adagrad, *(pytest.param(o, marks=pytest.mark.slow) for o in (optax.adam, optax.lamb))]
)
def test_ordinary_cold_starts_pass(make):
    method = make(0.01)
    flow, iterates = ia.integrate(method, bowl, START, np.arange(11.0)), ia.iterate(method, bowl, START, 10)
    moved = np.linalg.norm(iterates.params[-1] - iterates.params[0])
    assert np.linalg.norm(flow.params - iterates.params, axis=1).max() < 0.03 * moved


def test_transformations_that_need_the_value_have_flows():
    """Steps in proportion to the loss, by its value or by a call: x' = -a f(x) f'(x) to first order in a."""

    def by_value(grads, state, params=None, *, value, grad, **extra):
        return -0.01 * value * grad, state

    def by_call(grads, state, params=None, *, value_fn, **extra):
        return -0.01 * value_fn(params) * grads, state

    for update in (by_value, by_call):
        method = optax.GradientTransformationExtraArgs(lambda params: (), update)
        flow = ia.integrate(method, quartic, START, np.arange(11.0))
        iterates = ia.iterate(method, quartic, START, 10)
        np.testing.assert_allclose(flow.params, iterates.params, atol=1e-8)


@pytest.mark.parametrize(
    ("method", "error", "why"),
    [
        (optax.polyak_sgd(), ValueError, "the interpolated flow needs"),
        (optax.contrib.momo(), ValueError, "the interpolated flow needs"),
        (optax.lbfgs(), (TypeError, ValueError), "as a float, its counters too, which this update does not take"),
        (optax.adam(0.1, mu_dtype="bfloat16"), TypeError, r"state\[0\].mu is kept in bfloat16"),
        (optax.noisy_sgd(0.1, key=0), TypeError, "is a key of random numbers: noise needs a stochastic equation"),
    ],
)
def test_what_has_no_interpolated_flow_is_said_in_a_sentence(method, error, why):
    with pytest.raises(error, match=why):
        ia.integrate(method, quartic, START, [0.0, 2.0])


def test_a_schedule_that_jumps_is_doubted():
    method = optax.sgd(optax.piecewise_constant_schedule(0.1, {20: 0.5}))
    ia.integrate(optax.sgd(optax.exponential_decay(0.1, 50, 0.9)), bowl, START, [0.0, 3.0])  # smooth: no word
    with pytest.warns(ia.InerciaWarning, match="looks 4 updates ahead, across the change of a schedule at time 20"):
        flow = ia.integrate(method, bowl, START, [0.0, 16.0, 30.0])
    iterates = ia.iterate(method, bowl, START, 30)
    np.testing.assert_allclose(flow.params[1], iterates.params[16], atol=1e-5)
    np.testing.assert_allclose(flow.params[2], iterates.params[30], atol=1e-2)


def test_the_clock_is_the_counter_of_updates():
    """A count of failures stands still, and schedule-free's counter starts at 1: neither is the time."""
    method = optax.apply_if_finite(optax.sgd(0.1, 0.5), 3)
    chained = optax.chain(optax.scale_by_schedule(lambda t: 1.0), method)
    path = ia.iterate(chained, bowl, START, 12)
    flow = ia.integrate(chained, bowl, path.params[8], [8.0, 12.0], state=path[8].state)
    np.testing.assert_allclose(flow.params[-1], path.params[12], atol=1e-4)
    with pytest.raises(ValueError, match=r"times\[0\] = 0 and the clock shows 8:"):
        ia.integrate(chained, bowl, path.params[8], [0.0, 4.0], state=path[8].state)


def test_equal_flows_share_a_program():
    method = optax.sgd(0.1)
    first, second = ia.interpolated(method, bowl), ia.interpolated(method, bowl)
    assert first == second
    assert hash(first) == hash(second)
    assert first != ia.interpolated(method, bowl, 5)


@pytest.mark.slow
def test_order_takes_a_flow_alone():
    def family(dt):
        return ia.sgd(0.2, dt=dt)

    dts = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
    result = ia.order(family, bowl, START, 4.0, dts, flows=lambda dt: ia.interpolated(family(dt), bowl, 2))
    assert result.slope == pytest.approx(2, abs=0.1)
    assert result.doubt is None

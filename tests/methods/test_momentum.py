"""First steps by hand, conventions, flows and the second-order form."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import inercia as ia

A = np.array([[2.0, 0.5], [0.5, 1.0]])
X0 = np.array([1.0, -2.0])


def by_hand(scheme, steps, a=0.1, b=0.75):
    theta, m, path = X0.copy(), np.zeros(2), [X0]
    for _ in range(steps):
        g = A @ theta
        if scheme == "explicit":
            theta, m = theta - a * m, b * m + (1 - b) * g
        else:
            m = b * m + (1 - b) * g
            theta = theta - a * m
        path.append(theta)
    return np.array(path)


@pytest.mark.parametrize("scheme", ia.SCHEMES)
def test_first_steps_by_hand(scheme):
    path = ia.iterate(ia.momentum(0.1, 0.75, scheme=scheme), ia.quadratic(A), X0, 12)
    np.testing.assert_allclose(path.params, by_hand(scheme, 12), rtol=1e-14, atol=1e-15)


def test_the_lecture_order_starts_late():
    path = ia.iterate(ia.momentum(0.1, 0.75, scheme="explicit"), ia.quadratic(A), X0, 2)
    np.testing.assert_array_equal(path.params[1], X0)
    np.testing.assert_allclose(path.params[2], X0 - 0.1 * 0.25 * A @ X0, rtol=1e-15)


def test_first_step_of_adam_is_a_sign_step():
    path = ia.iterate(ia.adam(0.1, eps=0.0), ia.quadratic(A), X0, 1)
    np.testing.assert_allclose(path.params[1] - X0, -0.1 * np.sign(A @ X0), rtol=1e-12)


def test_refined_steps_by_hand():
    dt, a, b = 0.25, 0.1, 0.75
    path = ia.iterate(ia.momentum(a, b, dt=dt), ia.quadratic(A), X0, 3)
    np.testing.assert_allclose(path.params, by_hand("semi-implicit", 3, a * dt, 1 - (1 - b) * dt), rtol=1e-14)
    np.testing.assert_allclose(path.times, [0, 0.25, 0.5, 0.75])


def test_schedules_are_read_at_the_flow_time():
    seen = ia.iterate(ia.sgd(lambda t: 1.0 * t, dt=0.5), lambda x: x, jnp.array(0.0), 3)
    np.testing.assert_allclose(np.diff(seen.params), [0, -0.25, -0.5])


def test_sum_form_is_the_averaged_form():
    a, b = 0.1, 0.9
    averaged = ia.iterate(ia.momentum(a, b), ia.quadratic(A), X0, 200)
    summed = ia.iterate(ia.sgd(a * (1 - b), b), ia.quadratic(A), X0, 200)
    np.testing.assert_allclose(averaged.params, summed.params, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (0.3, 0.9),
        (optax.cosine_decay_schedule(0.3, 60, 0.2), 0.9),
        (lambda t: 0.2 + 0.004 * t, lambda t: 0.8 + 0.1 * jnp.exp(-t / 10)),
    ],
    ids=["constant", "cosine", "both growing"],
)
def test_second_order_form_equals_the_flow(a, b):
    times = np.linspace(0, 40, 21)
    loss = ia.quadratic(A)
    flow = ia.integrate(ia.momentum(a, b), loss, X0, times, rtol=1e-11)
    # theta' = -a m: equal starts need m = 0 and velocity 0.
    state = ia.OscillatorState(jnp.int32(0), np.zeros(2))
    second = ia.integrate(ia.oscillator(a, b), loss, X0, times, rtol=1e-11, state=state)
    np.testing.assert_allclose(second.params, flow.params, rtol=0, atol=1e-9)
    rate = np.array([float(a(t)) if callable(a) else a for t in times])
    with jax.enable_x64(True):
        rate = np.array([float(a(jnp.float64(t))) if callable(a) else a for t in times])
    np.testing.assert_allclose(second.state.velocity, -rate[:, None] * flow.state.m, rtol=0, atol=1e-9)


def test_flow_of_adam_at_time_zero_is_the_sign_flow():
    method = ia.adam(0.1, eps=0.0)
    grads = jnp.array([3.0, -0.5])
    state = method.init(grads)
    d_params, d_state = method.flow(grads, state._replace(count=jnp.float32(0)))
    np.testing.assert_allclose(d_params, [-0.1, 0.1], rtol=1e-6)
    np.testing.assert_allclose(d_state.mu, 0.1 * grads, rtol=1e-5)
    np.testing.assert_allclose(d_state.nu, 0.001 * grads**2, rtol=1e-4)


def test_adam_on_a_constant_gradient_moves_at_constant_speed():
    # m-hat = g and v-hat = g^2 exactly, for the iterates and for the flow, whatever the time.
    path = ia.iterate(ia.adam(0.1, eps=0.0), lambda x: 3.0 * x, jnp.array(0.0), 50)
    flow = ia.integrate(ia.adam(0.1, eps=0.0), lambda x: 3.0 * x, jnp.array(0.0), path.times)
    np.testing.assert_allclose(path.params, -0.1 * path.times, rtol=1e-10)
    np.testing.assert_allclose(flow.params, -0.1 * path.times, rtol=1e-8, atol=1e-9)

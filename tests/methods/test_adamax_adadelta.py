"""AdaMax and AdaDelta: flows against refined iterates and closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest

import inercia as ia


def hollow(x):  # |g| rises up to |x| = 1, then falls
    return jnp.sum(-jnp.exp(-(x**2) / 2))


def ripple(x):
    return jnp.sum(x**2) + 0.1 * jnp.sum(jnp.cos(3 * x))


@pytest.mark.parametrize(("loss", "start"), [(hollow, [2.0, -1.7]), (ripple, [0.9, -0.4])])
def test_adamax_follows_its_flow_over_the_peak_of_the_gradient(loss, start):
    result = ia.order(
        lambda dt: ia.adamax(0.05, b2=0.99, dt=dt), loss, jnp.array(start), 24.0, [2.0**-k for k in range(5)],
        rtol=1e-9, atol=1e-11,
    )  # fmt: skip
    assert result.doubt is None, result
    assert result.slope == pytest.approx(1, abs=0.1)


def test_adamax_remembers_the_largest_gradient():
    # From |x| = 2 down to 0 the gradient peaks at |x| = 1 with e^{-1/2}, and u decays from there.
    flow = ia.integrate(ia.adamax(0.05, b2=0.99), hollow, jnp.array([2.0]), np.arange(0.0, 81.0))
    peak = int(np.argmax(flow.state.nu[:, 0]))
    assert flow.state.nu[peak, 0] == pytest.approx(np.exp(-0.5), rel=1e-2)
    late = slice(peak + 5, None)
    np.testing.assert_allclose(np.diff(np.log(flow.state.nu[late, 0])), -0.01, rtol=1e-6)


def test_adadelta_on_a_constant_gradient():
    # v = g^2 from a warm start; u = sqrt((x + eps)/(g^2 + eps)) g, so x' = (1-b)(k (x + eps) - x), k = g^2/(g^2 + eps).
    g, b, eps, x0, times = 2.0, 0.9, 0.5, 0.1, np.linspace(0, 20, 5)
    state = ia.AdadeltaState(np.int32(0), np.array(g**2), np.array(x0))
    flow = ia.integrate(ia.adadelta(1.0, b, eps), lambda x: g * x, jnp.array(0.0), times, state=state)
    k = g**2 / (g**2 + eps)
    level = k * eps / (1 - k)
    exact = level + (x0 - level) * np.exp(-(1 - b) * (1 - k) * times)
    np.testing.assert_allclose(flow.state.e_x, exact, rtol=1e-8)


def test_adadelta_is_of_order_one_from_a_warm_start():
    state = ia.AdadeltaState(np.int32(0), np.ones(2), np.full(2, 0.01))
    result = ia.order(
        lambda dt: ia.adadelta(1.0, eps=1e-3, dt=dt), ripple, jnp.array([0.9, -0.4]), 8.0,
        [2.0**-k for k in range(5)], state=state,
    )  # fmt: skip
    assert result.doubt is None, result
    assert result.slope == pytest.approx(1, abs=0.1)


def test_adadelta_decays_weights_inside_the_average():
    method, x, g = ia.adadelta(1.0, weight_decay=0.1), jnp.array([3.0]), jnp.array([1.0])
    plain = ia.adadelta(1.0)
    np.testing.assert_allclose(
        method.update(g, method.init(x), x)[0], plain.update(g + 0.1 * x, plain.init(x), x)[0], rtol=1e-6
    )

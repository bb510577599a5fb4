"""The energy that the iterates balance: order 4 where that of the flow has order 2, and closed forms."""

import numpy as np
import pytest
from scipy.interpolate import make_interp_spline

import inercia as ia
from inercia.problems.toy_losses import wells

START = np.array([0.8, 1.2])


def drift(times, energy, rate):
    """Return how far energy + integral of the loss rate moves, its integral by a spline of order 8."""
    lost = make_interp_spline(times, rate, k=7).antiderivative()
    return abs(energy + lost(times) - lost(0) - energy[0]).max()


@pytest.mark.parametrize(
    "family",
    [lambda dt: ia.conformal(0.5, 0.7, dt=dt), lambda dt: ia.relativistic(0.5, 0.7, 3.0, dt=dt)],
    ids=["conformal", "relativistic"],
)
@pytest.mark.slow
def test_balance_to_second_and_to_fourth_order(family):
    found = []
    for dt in (1 / 8, 1 / 16, 1 / 32, 1 / 64):
        method = family(dt)
        path = ia.iterate(method, wells, START, round(8 / dt))
        kept = ia.modified_energy(method, wells, path)
        found.append([drift(path.times, kept.energy, kept.loss_rate),
                      drift(path.times, kept.modified, kept.modified_loss_rate)])  # fmt: skip
    slopes = np.log2(np.array(found)[:-1] / np.array(found)[1:])
    np.testing.assert_allclose(slopes[:, 0], 2, atol=0.1)
    np.testing.assert_allclose(slopes[:, 1], 4, atol=0.1)


def test_without_friction_it_is_the_shadow_energy_of_verlet():
    """With z = h^2 w^2 they keep p^2 + w^2 (1 - z/4) x^2 exactly, and 2 H~ = (1 + z/6) p^2 + w^2 (1 - z/12) x^2."""
    b, a, h = 1 - 1e-9, 4e8, 0.5  # a (1-b) = 0.4 = w^2, friction 1e-9
    method = ia.conformal(a, b, dt=h)
    path = ia.iterate(method, lambda x: x**2 / 2, np.array(1.0), 50)
    kept = ia.modified_energy(method, lambda x: x**2 / 2, path)
    z, x, p2 = h**2 * 0.4, path.params, 2 * (kept.energy - 0.2 * path.params**2)
    exact = p2 + 0.4 * (1 - z / 4) * x**2
    np.testing.assert_allclose(exact, exact[0], rtol=1e-6)
    np.testing.assert_allclose(2 * kept.modified, (1 + z / 6) * p2 + 0.4 * (1 - z / 12) * x**2, rtol=1e-6)


def test_along_the_flow_the_energy_is_that_of_momentum():
    times = np.linspace(0, 6, 61)
    method = ia.conformal(0.5, 0.7)
    flow = ia.integrate(method, wells, START, times, rtol=1e-10, atol=1e-12)
    kept = ia.modified_energy(method, wells, flow)
    np.testing.assert_allclose(kept.energy, ia.energy(flow, 0.5, 0.7), rtol=1e-12)
    assert drift(times, kept.energy, kept.loss_rate) < 1e-7


def test_bad_input():
    path = ia.iterate(ia.momentum(0.1), wells, START, 3)
    with pytest.raises(TypeError, match=r"conformal or relativistic, but it is momentum"):
        ia.modified_energy(ia.momentum(0.1), wells, path)
    with pytest.raises(TypeError, match="path must be one of conformal, but its state is MomentumState"):
        ia.modified_energy(ia.conformal(0.1), wells, path)
    scheduled = ia.conformal(lambda t: 0.1, 0.9)
    with pytest.raises(TypeError, match="learning_rate is a schedule"):
        ia.modified_energy(scheduled, wells, ia.iterate(scheduled, wells, START, 3))

"""Gap and energy by hand and by theory."""

import numpy as np
import pytest

import inercia as ia
from inercia.problems.toy_losses import PROBLEMS


def test_gap_by_hand():
    path = ia.exact_iterates([[1.0]], [1.0], 2, 0.5)
    flow = ia.exact_flow([[1.0]], [1.0], path.times, 0.5)
    gap = ia.gap(path, flow)
    exact = np.exp([0, -0.5, -1.0])
    np.testing.assert_allclose(gap.distance, abs(np.array([1, 0.5, 0.25]) - exact))
    np.testing.assert_allclose(gap.relative[1:], gap.distance[1:] / (1 - exact[1:]))
    assert gap.relative[0] == 0
    np.testing.assert_allclose(gap.loss, 0.5 * (np.array([1, 0.25, 0.0625]) - exact**2))


def test_energy_decays_at_the_stated_rate():
    a, b = 0.5, 0.9
    loss, start, _ = PROBLEMS["wells"]
    times = np.linspace(0, 60, 6001)
    flow = ia.integrate(ia.momentum(a, b), loss, start, times)
    energy = ia.energy(flow, a, b)
    assert (np.diff(energy) <= 0).all()
    power = -(1 - b) * (a * np.linalg.norm(flow.state.m, axis=1)) ** 2
    np.testing.assert_allclose(np.gradient(energy, times)[1:-1], power[1:-1], atol=1e-5)


def test_energy_can_grow_along_the_explicit_iterates():
    a = b = 0.99

    def along(scheme):
        return ia.energy(
            ia.iterate(ia.momentum(a, b, scheme=scheme), ia.quadratic([[1.0]]), np.array([1.0]), 100), a, b
        )

    # One explicit step changes E by the square of the step, one semi-implicit step leaves it near.
    explicit, implicit = along("explicit"), along("semi-implicit")
    assert np.diff(explicit).max() > 0
    assert explicit[-1] > 1.5 * implicit[-1]


def test_energy_is_of_constant_hyperparameters():
    path = ia.exact_iterates([[1.0]], [1.0], 2, 0.5)
    with pytest.raises(TypeError, match="energy needs a number for beta, because E falls for constant a and b only"):
        ia.energy(path, 0.5, lambda t: 0.9)

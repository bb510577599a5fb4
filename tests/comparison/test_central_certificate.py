"""A central flow is certified at order 1/2 in eps, and not where its term, its bound or its start is wrong."""

from functools import partial

import numpy as np
import pytest

import inercia as ia
from inercia.problems.toy_losses import steepening

A, ZETA = 0.3, 0.5
EPSILONS = [0.02, 0.01, 0.005, 0.0025]


def near(eps, bound=2.0, amplitude=1.0):
    return np.array([amplitude * np.sqrt(2 * eps), bound / A - np.sqrt(2 * eps)])


def certify(flow, method=ia.sgd(A), starts=near, epsilons=EPSILONS, **options):  # noqa: B008  a method is a value
    def losses(eps):
        return partial(steepening, eps=np.array(eps), zeta=ZETA)

    return ia.central_order(method, losses, starts, lambda eps: round(1 / (A * eps)), epsilons, flow=flow, **options)


def by_hand(method, loss, start, steps, *, bound=2.0, push=1.0, told=1.0):
    """The central flow of the oracle in closed form, x at rest: y' = a (eps - s/2), s = 2 eps at the edge."""
    eps, times = float(loss.keywords["eps"]), np.arange(steps + 1.0)
    met = (bound / A - start[1]) / (A * eps)
    y = start[1] + A * eps * (np.minimum(times, met) + (1 - push) * np.maximum(times - met, 0))
    s = 2 * eps * push * (times >= met)
    f = -eps * y
    return ia.Path(times, np.stack([0 * y, y], axis=1), (), f, None, observed={"mean_loss": f + told * y * s / 2})


def test_the_closed_form_is_certified():
    found = certify(by_hand)
    assert found.doubt is None, found
    assert found.verdict.startswith("central flow, order 1/2 in eps")
    assert found.slope == pytest.approx(0.5, abs=0.05)
    np.testing.assert_allclose(found.excess, 1, atol=0.3)


@pytest.mark.parametrize(
    ("wrong", "doubt"),
    [
        ({"push": 0.0}, "another flow"),  # no third derivative: the stable flow
        ({"push": 1.1}, "unclear"),
        ({"push": 1.5}, "another flow"),
        ({"bound": 2.1}, "another flow"),
        ({"told": 2.0}, "another oscillation"),
    ],
)
def test_a_seeded_fault_is_caught(wrong, doubt):
    found = certify(partial(by_hand, **wrong))
    assert found.doubt == doubt, found
    assert not found.verdict.startswith("central flow")


def test_far_below_the_edge_there_is_none():
    below = certify(by_hand, starts=lambda eps: np.array([0.1, 3.2]))
    assert below.doubt == "never oscillates", below
    assert "certify that with order, and modified" in below.verdict
    later = certify(by_hand, starts=lambda eps: np.array([0.1, 6.2]))
    assert later.doubt == "far start", later
    assert np.isnan(later.slope)


def test_few_and_diverged():
    assert certify(by_hand, epsilons=EPSILONS[:3]).doubt == "too few"
    assert certify(by_hand, starts=lambda eps: np.array([5.0, -30.0])).doubt == "diverged"


@pytest.mark.parametrize("epsilons", [[0.1, 0.05], [0.1, 0.2, 0.3], [0.2, 0.1, 0.0], [0.1, np.nan, 0.05]])
def test_refused(epsilons):
    with pytest.raises(ValueError, match="epsilons must be at least three positive numbers that decrease"):
        certify(by_hand, epsilons=epsilons)


CENTRAL = partial(ia.central, k=1)


@pytest.mark.long
@pytest.mark.slow
def test_central_is_certified():
    found = certify(CENTRAL)
    assert found.doubt is None, found
    np.testing.assert_allclose(found.gaps, certify(by_hand).gaps, rtol=0.1)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "bound", "amplitude"),
    [(ia.momentum(A, 0.5), 6.0, 1 / 3), (ia.momentum(A, 0.5, scheme="explicit"), 1.0, 1.0)],
)
def test_central_of_momentum_is_certified(method, bound, amplitude):
    found = certify(CENTRAL, method, lambda eps: near(eps, bound, amplitude))
    assert found.doubt is None, found


@pytest.mark.long
@pytest.mark.slow
def test_the_stable_flow_is_caught():
    assert certify(partial(ia.central, k=1, stable=True)).doubt == "another flow"

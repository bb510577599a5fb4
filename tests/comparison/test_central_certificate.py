"""A central flow is certified at order 1/2 in eps, and not where its term, its bound or its start is wrong."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

import inercia as ia
from inercia.problems.toy_losses import steepening

A, ZETA = 0.3, 0.5
EPSILONS = [0.02, 0.01, 0.005, 0.0025]


def near(eps, bound=2.0, amplitude=1.0):
    return np.array([amplitude * np.sqrt(2 * eps), bound / A - np.sqrt(2 * eps)])


def losses(eps):
    return partial(steepening, eps=np.array(eps), zeta=ZETA)


def certify(flow, method=ia.sgd(A), starts=near, epsilons=EPSILONS, **options):  # noqa: B008  a method is a value
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


LR, FORGETS, OUTSIDE, FIRST = 2.0, 1.0, 0.5, 0.5  # of RMSProp at eps = 1
EDGE = 2 * (np.sqrt(FIRST) + OUTSIDE) / LR


def rms(eps):
    root = np.sqrt(eps)
    return ia.rmsprop(LR * root, 1 - FORGETS * eps, OUTSIDE * root, FIRST * eps, eps_in_sqrt=False)


def at_its_edge(eps):
    return np.array([np.sqrt(2 * eps), EDGE - np.sqrt(2 * eps)])


def certify_rms(flow, family=rms, **options):
    return ia.central_order(family, losses, at_its_edge, lambda eps: round(1 / eps), EPSILONS, flow=flow, **options)


def by_hand_rms(method, loss, start, steps, *, heard=1.0, divisions=4):
    """The central flow of RMSProp on the oracle, x at rest, by Euler: s of y' and nu' holds y = 2 P_x.

    y' = (eps - s/2) / P_y,   nu_x' = r (heard y^2 s - nu_x),   nu_y' = r (eps^2 - nu_y)
    """
    eps, h = float(loss.keywords["eps"]), 1 / divisions
    r, outside, a = FORGETS * eps, OUTSIDE * np.sqrt(eps), LR * np.sqrt(eps)
    y, x_, y_ = start[1], FIRST * eps, FIRST * eps
    found = [y]
    for n in range(steps * divisions):
        P_x, P_y = (np.sqrt(x_) + outside) / a, (np.sqrt(y_) + outside) / a
        slack = 2 * P_x - y - h * (eps / P_y + 2 * r * x_ / (2 * np.sqrt(x_) * a))
        s = max(0.0, -slack / h) / (1 / (2 * P_y) + heard * r * y**2 / (np.sqrt(x_) * a))
        y, x_, y_ = y + h * (eps - s / 2) / P_y, x_ + h * r * (heard * y**2 * s - x_), y_ + h * r * (eps**2 - y_)
        if (n + 1) % divisions == 0:
            found.append(y)
    y = np.array(found)
    return ia.Path(np.arange(steps + 1.0), np.stack([0 * y, y], axis=1), (), 0 * y, None)


def test_second_moments_are_certified_in_a_family_of_their_own():
    found = certify_rms(by_hand_rms)
    assert found.doubt is None, found
    assert found.slope == pytest.approx(0.5, abs=0.1)
    deaf = certify_rms(partial(by_hand_rms, heard=0.0))  # nu' without the oscillation
    assert deaf.doubt in ("another flow", "unclear"), deaf


def test_a_preconditioner_that_goes_with_eps_is_told():
    one = rms(EPSILONS[0])
    found = certify_rms(by_hand_rms, family=one)
    assert found.doubt == "another scale", found
    assert "give eps -> method" in found.verdict


def test_a_sign_method_has_none():
    with pytest.raises(ValueError, match="is it a sign method"):
        certify_rms(CENTRAL, family=lambda eps: ia.sign_sgd(0.1 * np.sqrt(eps)))


@pytest.mark.parametrize("grows", [False, True])
def test_the_breathing_grows_where_memory_is_late(grows):
    """Adam at the edge of a fixed curvature, its corrections over: c b/(1-b) = 1 at b = sqrt 5 - 2."""
    b, forgets, curvature = 5**0.5 - 2 + (0.1 if grows else -0.1), 1e-3, 1.0
    bound = (2 + 2 * b) / (1 - b)
    method = ia.adam(bound, b, 1 - forgets, eps=0.0)  # at the edge where nu is curvature^2
    zero, size = jnp.zeros(1), 1.1  # of the oscillation, which is 1 at rest
    m = -curvature * size * (1 - b) / (1 + b)
    state = method.init(zero)._replace(count=jnp.asarray(10**7, jnp.int32), mu=zero + m, nu=zero + curvature**2)
    path = ia.iterate(method, lambda x: curvature * jnp.sum(x**2) / 2, zero + size, 6000, state=state)
    swing = np.abs(np.log(np.abs(path.params[:, 0])))
    assert (swing[-2000:].max() > 1.3 * swing[:2000].max()) == grows
    assert (swing[-2000:].max() < swing[:2000].max() / 1.3) == (not grows)


CENTRAL = partial(ia.central, k=1)


@pytest.mark.long
@pytest.mark.slow
def test_central_of_second_moments_is_certified():
    found = certify_rms(CENTRAL)
    assert found.doubt is None, found
    np.testing.assert_allclose(found.gaps, certify_rms(by_hand_rms).gaps, rtol=0.1)
    np.testing.assert_allclose(found.excess, 1, atol=0.2)


def certify_adam(b1, eps, y=20.0, forgets=0.2, time=2.0, amplitude=0.3, flow=CENTRAL):
    """Return the order of Adam from its cold start; it is at the edge where x^2 = (6 / y)^2 eps."""
    rate = (2 + 2 * b1) / (1 - b1) * 12 / y

    def family(eps):
        return ia.adam(rate * np.sqrt(eps), b1, 1 - forgets * eps, 6 * np.sqrt(eps))

    def starts(eps):
        return np.array([amplitude * np.sqrt(eps), y - np.sqrt(2 * eps)])

    return ia.central_order(family, losses, starts, lambda eps: round(time / eps), eps, flow=flow)


@pytest.mark.long
@pytest.mark.slow
def test_central_of_adam_is_certified_where_its_memory_is_short():
    found = certify_adam(0.15, [0.01, 0.005, 0.0025, 0.00125])
    assert found.doubt is None, found
    assert found.slope == pytest.approx(0.5, abs=0.1)


@pytest.mark.slow
def test_bursts_are_laid_to_the_memory():
    found = certify_adam(0.5, EPSILONS, y=6.0, forgets=1.0, time=1.0, amplitude=0.05, flow=by_hand)
    assert found.doubt == "late memory", found
    assert "above sqrt 5 - 2" in found.verdict


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

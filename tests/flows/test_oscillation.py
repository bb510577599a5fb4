"""Rod and edge flow: exact identities of the iterates, closed forms, and the edge of stability in two dimensions."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import inercia as ia
from inercia.core.tree import ravel_real
from inercia.flows.oscillation import Increment, OscillationState, Pair
from inercia.problems.toy_losses import PROBLEMS, wells

START = PROBLEMS["wells"].start
METHOD = ia.momentum(0.4, 0.6)


def ramp(p):
    """Descent raises the curvature y until 2 / a, where x oscillates and holds it."""
    x, y = p
    return (y + 0.3 * x) * x**2 / 2 - 0.01 * (x + y)


@pytest.fixture(scope="module")
def pair():
    """The map of momentum on a loss, and two points of z = (theta, m)."""
    with jax.enable_x64(True):
        inner = Increment(METHOD, wells, (True, False), (False, False))
        theta, state = jnp.asarray(START), METHOD.init(jnp.asarray(START))
        run = jax.jit(lambda z, k: inner(theta, state, z, k))

    def G(z, k):
        with jax.enable_x64(True):
            return np.asarray(run(z, k))

    return inner, state, G, np.random.default_rng(0).normal(size=(2, 4))


def test_the_map_is_the_iteration(pair):
    _, _, G, _ = pair
    path, z = ia.iterate(METHOD, wells, START, 3), np.concatenate([START, [0, 0]])
    for k in range(3):
        z = z + G(z, float(k))
    np.testing.assert_allclose(z, np.concatenate([path.params[-1], path.state.m[-1]]), rtol=1e-15)


def test_the_rods_identities_are_exact(pair):
    _, _, G, (z, _) = pair
    points = [z]
    for k in range(3):
        points.append(points[-1] + G(points[-1], float(k)))
    c, d = ([(b + s * a) / 2 for a, b in pairwise(points)] for s in (1, -1))
    plus, minus = G(c[0] + d[0], 1.0), G(c[0] - d[0], 0.0)
    np.testing.assert_allclose(c[1] - c[0], (plus + minus) / 2, rtol=0, atol=4e-16)
    S = [np.outer(v, v) for v in d]
    A = (np.outer(plus, plus) + np.outer(minus, minus)) / 4 - 2 * S[0]
    np.testing.assert_allclose(S[1] - S[0], A, rtol=0, atol=4e-16)


def test_the_edge_flows_recursion_is_two_copies_of_the_iterates(pair):
    _, _, G, (one, two) = pair
    c, e = (one + two) / 2, (one - two) / 2
    for k in range(6):
        plus, minus = G(c + e, float(k)), G(c - e, float(k))
        c, e = c + (plus + minus) / 2, -e - (plus - minus) / 2
        one, two = one + G(one, float(k)), two + G(two, float(k))
        swapped = (one, two) if k % 2 else (two, one)
        np.testing.assert_allclose((c + e, c - e), swapped, rtol=0, atol=2e-15)


@pytest.mark.slow
def test_the_rods_rank_one_equation(pair):
    inner, state, G, (z, e) = pair
    e = 0.3 * e
    with jax.enable_x64(True):
        point = OscillationState(
            jnp.asarray(2.0), state._replace(count=2, m=jnp.asarray(z[2:])), (e[:2], [e[2:]]), None
        )
        _, dot = Pair(inner, None)(None, point, jnp.asarray(z[:2]))
        e_dot = np.asarray(ravel_real(dot.half)[0])
    plus, minus = G(z + e, 2.0), G(z - e, 2.0)
    A = (np.outer(plus, plus) + np.outer(minus, minus)) / 4 - 2 * np.outer(e, e)
    S_dot = np.outer(e_dot, e) + np.outer(e, e_dot)
    np.testing.assert_allclose(S_dot @ e, A @ e, rtol=0, atol=1e-15)  # equal along e, and on no other direction


@pytest.mark.slow
@pytest.mark.parametrize("curvature", [1.0, 5.0])
def test_edge_flow_on_a_quadratic(curvature):
    a, steps, floor = 0.5, 6, 1e-6  # a times the curvature is 0.5, below the edge, and 2.5, above it
    path = ia.edge_flow(ia.sgd(a), ia.quadratic([[curvature]]), np.ones(1), steps, floor=floor, rtol=1e-9)
    q = a * curvature
    np.testing.assert_allclose(path.params[:, 0], np.exp(-(q + q**2 / 2) * path.times), rtol=0, atol=1e-7)
    expected = floor * np.exp(np.maximum(q - 2, 0) * path.times)
    np.testing.assert_allclose(path.observed["amplitude"], expected, rtol=1e-6)


def test_rod_starts_with_the_half_step_and_keeps_the_axis():
    a, path = 0.5, ia.rod(ia.sgd(0.5), ia.quadratic([[1.0]]), np.ones(1), 6, every=2, rtol=1e-9)
    np.testing.assert_array_equal(path.times, [0, 2, 4, 6])
    assert path.params[0] == 1
    centre = (1 + (1 - a)) / 2 * np.exp(-(a + a**2 / 2) * (path.times[1:] - 0.5))
    np.testing.assert_allclose(path.params[1:, 0], centre, rtol=1e-6)
    np.testing.assert_allclose(path.state.half[0][0], [-a / 2], rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("flow", "options"), [(ia.edge_flow, {"floor": 0.03}), (ia.rod, {})], ids=["edge", "rod"])
def test_at_the_edge_both_stay_where_the_plain_flow_leaves(flow, options):
    start, bound = np.array([0.1, 2 / 0.3]), 2 / 0.3
    path = ia.iterate(ia.sgd(0.3), ramp, start, 800)
    found = flow(ia.sgd(0.3), ramp, start, 800, every=10, **options)
    late, mean = path.params[400:], found.params[40:].mean(0)
    assert ia.integrate(ia.sgd(0.3), ramp, start, [0.0, 800.0]).params[-1, 1] > bound + 2
    np.testing.assert_allclose(mean, late.mean(0), rtol=0, atol=0.02)
    swing = np.abs(np.diff(late[:, 0])).mean() / 2
    assert found.observed["amplitude"][40:].mean() == pytest.approx(swing, rel=0.1)
    ends = (found.params[-1] + s * found.state.half[0][-1] for s in (1, -1))
    assert found.observed["mean_loss"][-1] == pytest.approx(np.mean([ramp(end) for end in ends]), abs=1e-12)


def test_a_rod_of_the_drift_is_blind():
    start = np.array([0.0, 2 / 0.3 - 0.05])  # the half-step is the drift there
    path, rod = ia.iterate(ia.sgd(0.3), ramp, start, 800), ia.rod(ia.sgd(0.3), ramp, start, 800, every=400)
    assert rod.params[-1, 1] > path.params[400:, 1].max() + 1


@pytest.mark.parametrize("flow", [ia.rod, ia.edge_flow])
def test_second_moments_and_chains(flow):
    method = ia.chain(ia.parts.add_decayed_weights(0.01), ia.adam(0.01))
    path, iterates = flow(method, wells, START, 40, every=40), ia.iterate(method, wells, START, 40)
    assert np.linalg.norm(path.params[-1] - iterates.params[-1]) < 0.02


@pytest.mark.parametrize("flow", [ia.rod, ia.edge_flow])
def test_refusals(flow):
    with pytest.raises(ValueError, match=r"need a smooth update, but this one jumps \(sign\)"):
        flow(ia.sign_sgd(0.1), wells, START, 4)
    with pytest.raises(ValueError, match="have period two, but pairs of the explicit scheme turn: use central"):
        flow(ia.momentum(0.1, scheme="explicit"), wells, START, 4)
    with pytest.raises(TypeError, match="of one map, but this update draws random numbers"):
        flow(optax.noisy_sgd(0.1), wells, START, 4)
    with pytest.raises(ValueError, match="counters that count every update"):
        flow(optax.MultiSteps(optax.sgd(0.1), 2).gradient_transformation(), wells, START, 4)


def test_a_floor_is_positive():
    with pytest.raises(ValueError, match="floor must be a finite number above 0"):
        ia.edge_flow(ia.sgd(0.1), wells, START, 4, floor=0.0)


def falling(p):
    return p[0]


def test_the_clock_stands_in_the_middle_of_an_update():
    """On a slope a rate a(k) = 0.1 k makes iterates -0.1 k (k - 1) / 2, whose means of two are -0.05 k^2 at k + 1/2."""
    method, k = ia.sgd(optax.linear_schedule(0.0, 10.0, 100)), np.arange(1, 21)
    rod, edge = ia.rod(method, falling, np.zeros(1), 20), ia.edge_flow(method, falling, np.zeros(1), 20)
    np.testing.assert_allclose(rod.params[1:, 0], -0.05 * (k - 0.5) ** 2, rtol=1e-6)
    np.testing.assert_allclose(edge.params[1:, 0], -0.05 * (k**2 - k), atol=0.0126)  # 0.1 / 8: half an update at 0


@pytest.mark.slow
def test_a_parameter_without_gradient_stands_still():
    path = ia.rod(ia.adam(0.05), lambda p: (p[0] - 2) ** 2, np.ones(2), 8)
    assert path.params[-1, 1] == 1
    assert path.params[-1, 0] == pytest.approx(1.4, abs=0.05)


def test_what_the_edge_flow_starts_from():
    with pytest.raises(ValueError, match=r"params must be finite, but params\[0\] is nan"):
        ia.edge_flow(ia.sgd(0.1), wells, START * np.nan, 4)
    with pytest.raises(ValueError, match="seed must be at least 0"):
        ia.edge_flow(ia.sgd(0.1), wells, START, 4, seed=-1)
    with pytest.raises(TypeError, match="cannot be traced"):
        jax.jit(lambda p: ia.rod(ia.sgd(0.1), wells, p, 4).loss)(START)

"""An order is certified when it is there, and never when something spoils it."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import inercia as ia
from inercia.comparison.convergence_order import DOUBTS
from inercia.problems.toy_losses import PROBLEMS, wells

START = PROBLEMS["wells"].start
DTS = [2.0**-k for k in range(2, 7)]
COARSE = [1, 1 / 2, 1 / 4, 1 / 8]
BOWL = ia.quadratic([[1.0]])


def valley(x):
    return (1 + x[0] ** 2) * x[1] ** 2 / 2 + 0.002 * (x[0] - 3) ** 2  # its walls close in


def clipped(rate, at, dt):
    """Descent on the clipped gradient, whose flow has corners."""
    update = optax.chain(optax.clip(at), optax.sgd(rate * dt))
    return ia.Method(*update, lambda g, state, params=None: (-rate * jnp.clip(g, -at, at), state), dt)


def measure(family, loss=wells, start=START, time=8.0, dts=DTS, **options):
    return ia.order(family, loss, start, time, dts, **options)


VIOLATIONS = {
    # kind, and calls that each seed one violation
    "not smooth": [
        lambda: measure(lambda dt: ia.sign_sgd(0.1, dt=dt)),
        lambda: measure(lambda dt: ia.lion(0.1, dt=dt)),
        lambda: measure(lambda dt: optax.rprop(0.1 * dt), flow=ia.sgd(0.1)),
    ],
    "unstable": [
        lambda: measure(lambda dt: ia.sgd(5.0, dt=dt), lambda x: x**4, np.array(3.0), dts=[1, 1 / 2, 1 / 64, 1 / 128]),
        lambda: measure(lambda dt: ia.sgd(3.0, dt=dt), BOWL, np.ones(1), 3000.0, COARSE),
        lambda: measure(lambda dt: ia.momentum(30.0, 0.5, scheme="explicit", dt=dt), BOWL, np.ones(1), 2000.0, COARSE),
    ],
    "exact": [
        lambda: measure(lambda dt: ia.sgd(0.1, dt=dt), lambda x: x.sum()),  # a constant gradient: no error at all
        lambda: measure(lambda dt: ia.sgd(0.7, dt=dt), lambda x: 3 * x[0] - x[1], 10 * START),
    ],
    "rounding": [
        lambda: measure(
            lambda dt: ia.sgd(1e-8, dt=dt), lambda x: (x**4).sum(), START, dts=[2.0**-k for k in range(8)]
        ),
        lambda: measure(lambda dt: ia.momentum(2e-13, 0.5, dt=dt), dts=[2.0**-k for k in range(8)]),
    ],
    "solver": [
        lambda: measure(lambda dt: ia.sgd(0.5, dt=dt), rtol=1e-2, atol=1e-2),
        lambda: measure(lambda dt: ia.momentum(0.5, 0.8, dt=dt), rtol=1e-3, atol=1e-3, solver="RK23"),
        lambda: measure(lambda dt: ia.adam(0.05, dt=dt), rtol=1e-3, atol=1e-3, solver="RK45"),
        lambda: measure(
            lambda dt: ia.sgd(0.5, dt=dt), rtol=1e-6, atol=1e-6,
            flows=lambda dt: (ia.interpolated(ia.sgd(0.5, dt=dt), wells, 4), START, ia.sgd(0.5).init(START)),
        ),
    ],
    "cold start": [
        lambda: measure(lambda dt: ia.rmsprop(0.02, eps=1e-16, dt=dt)),
        lambda: measure(lambda dt: ia.rmsprop(0.05, decay=0.8, eps=1e-12, dt=dt), ia.quadratic([[2.0]]), np.ones(1)),
        lambda: measure(lambda dt: ia.adagrad(0.05, 0.0, eps=1e-12, dt=dt)),
    ],
    "edge of stability": [
        lambda: measure(lambda dt: ia.sgd(0.5, dt=dt), valley, np.array([1.7, 0.1]), 200.0, COARSE),
    ],
    "coarse": [
        lambda: measure(lambda dt: ia.momentum(3.0, 0.9, scheme="explicit", dt=dt), time=64.0, dts=COARSE),
        lambda: measure(lambda dt: ia.sgd(1.9, dt=dt), BOWL, np.ones(1), 8.0, COARSE),
    ],
    "too few": [lambda: measure(lambda dt: ia.sgd(0.1, dt=dt), dts=[1 / 4, 1 / 8, 1 / 16])],
    "crossings": [
        lambda: measure(lambda dt: clipped(1.0, 0.2, dt), dts=[*COARSE, 1 / 16]),
    ],
    "another flow": [
        lambda: measure(lambda dt: clipped(0.1, 0.5, dt), flow=ia.sgd(0.1)),
        lambda: measure(lambda dt: ia.momentum(0.3, 0.9, dt=dt), flow=ia.momentum(0.3, 0.89)),
        lambda: measure(lambda dt: ia.momentum(0.3, 0.9, dt=dt), flow=ia.momentum(0.31, 0.9)),
        lambda: measure(lambda dt: ia.adam(0.02, dt=dt), flow=ia.adam(0.02, b1=0.85)),
        lambda: measure(lambda dt: ia.sgd(0.1, dt=dt), flow=ia.sgd(0.105)),  # 5 % off
        lambda: measure(lambda dt: ia.adam(0.02, dt=dt), flow=ia.adam(0.021)),
        lambda: measure(lambda dt: ia.sgd(0.1), flow=ia.sgd(0.1)),  # a family that does not refine
    ],
    "unclear": [
        lambda: measure(lambda dt: ia.sgd(0.3, 0.8, dt=dt), flow=ia.sgd(1.4)),
        lambda: measure(lambda dt: ia.sgd(0.1 * (1 + dt**0.25), dt=dt), flow=ia.sgd(0.1)),
    ],
}  # fmt: skip
CASES = [(kind, i) for kind, calls in VIOLATIONS.items() for i in range(len(calls))]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "i"), CASES)
def test_every_violation_is_caught(kind, i):
    result = VIOLATIONS[kind][i]()
    assert result.doubt is not None, result
    assert result.doubt == kind or {result.doubt, kind} <= {"coarse", "unclear", "unstable"}, result
    assert not result.verdict.startswith("order")


def test_every_doubt_has_a_case():
    assert set(VIOLATIONS) == set(DOUBTS)


def clean(seed):
    """Draw a smooth problem, a method and its steps."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 4))
    Q = np.linalg.qr(rng.normal(size=(n, n)))[0]
    A = Q @ np.diag(rng.uniform(0.2, 2.0, n)) @ Q.T
    bend = rng.uniform(0, 0.3)
    a, b = rng.uniform(0.02, 0.3), rng.uniform(0.5, 0.95)
    make = [
        lambda dt: ia.sgd(a, dt=dt),
        lambda dt: ia.momentum(a, b, dt=dt),
        lambda dt: ia.momentum(a, b, scheme="explicit", dt=dt),
        lambda dt: ia.sgd(a * (1 - b), b, dt=dt),
        lambda dt: ia.adam(0.1 * a, dt=dt),
        lambda dt: ia.adagrad(0.3 * a, 10.0, dt=dt),
        lambda dt: ia.rmsprop(0.1 * a, b, initial_scale=1.0, dt=dt),
        lambda dt: ia.adamw(0.1 * a, weight_decay=0.1, dt=dt),
    ][seed % 8]

    def loss(x):
        return 0.5 * x @ A @ x + bend * (1 - jnp.cos(x)).sum()

    return make, loss, rng.normal(size=n) * 1.5


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_false_alarms_are_rarer_than_two_in_a_hundred(part):
    alarms = []
    for seed in range(10 * part, 10 * (part + 1)):  # 25 were run once: 100 cases, no false alarm
        make, loss, start = clean(seed)
        result = measure(make, loss, start, 8.0, [2.0**-k for k in range(3, 8)])
        if result.doubt is not None or not result.verdict.startswith("order 1:"):
            alarms.append((seed, result))
    print(f"false alarms in part {part}: {len(alarms)} of 25")
    assert not alarms

"""What spoils an order, seeded on purpose: kind of doubt -> calls of `order` that must raise it; and clean cases."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

import inercia as ia
from inercia.problems.toy_losses import PROBLEMS, wells

START = PROBLEMS["wells"].start
DTS = [2.0**-k for k in range(2, 7)]
FINE = [2.0**-k for k in range(4, 8)]
COARSE = [1, 1 / 2, 1 / 4, 1 / 8]
MANY = [2.0**-k for k in range(8)]
BOWL = ia.quadratic([[1.0]])
STEEP = ia.quadratic([[2.0, 0.3], [0.3, 0.5]])
PAIR = np.array([1.0, -2.0])


def valley(x):
    return (1 + x[0] ** 2) * x[1] ** 2 / 2 + 0.002 * (x[0] - 3) ** 2  # its walls close in


def slope(x):
    return 3 * x[0] - x[1]


def quartic(x):
    return (x**4).sum()


def clipped(rate, at, dt):
    """Descent on the clipped gradient, whose flow has corners."""
    update = optax.chain(optax.clip(at), optax.sgd(rate * dt))
    return ia.Method(*update, lambda g, state, params=None: (-rate * jnp.clip(g, -at, at), state), dt)


def summed_before_adam(part, dt):
    """Adam on a sum that starts at zero."""
    P = ia.parts
    return ia.chain(part, P.scale_by_adam(0.8, 0.9, 1e-8), P.scale_by_learning_rate(0.1), dt=dt)


def measure(family: Any, loss: Any = wells, start: Any = START, time: float = 8.0, dts: Any = DTS, **options: Any):
    return ia.order(family, loss, start, time, dts, **options)


def flow_through(make: Callable, points: int, loss: Any = wells, start: Any = START) -> Callable:
    """Return dt -> the flow through the member's own iterates, with its start."""
    return lambda dt: (ia.interpolated(make(dt), loss, points), start, make(dt).init(start))


VIOLATIONS: dict[str, list[Callable]] = {
    "not smooth": [
        lambda: measure(lambda dt: ia.sign_sgd(0.1, dt=dt)),
        lambda: measure(lambda dt: ia.lion(0.1, dt=dt)),
        lambda: measure(lambda dt: optax.rprop(0.1 * dt), flow=ia.sgd(0.1)),
        lambda: measure(lambda dt: optax.lion(0.01 * dt), BOWL, np.ones(1), flow=ia.sgd(0.1)),
        lambda: measure(lambda dt: optax.chain(optax.scale_by_sign(), optax.scale(-0.1 * dt)), flow=ia.sgd(0.1)),
        lambda: measure(lambda dt: optax.yogi(0.01 * dt), flow=ia.adam(0.01)),
    ],
    "unstable": [
        lambda: measure(lambda dt: ia.sgd(5.0, dt=dt), lambda x: x**4, np.array(3.0), dts=[1, 1 / 2, 1 / 64, 1 / 128]),
        lambda: measure(lambda dt: ia.sgd(3.0, dt=dt), BOWL, np.ones(1), 3000.0, COARSE),
        lambda: measure(lambda dt: ia.momentum(30.0, 0.5, scheme="explicit", dt=dt), BOWL, np.ones(1), 2000.0, COARSE),
        lambda: measure(lambda dt: ia.momentum(20.0, 0.5, dt=dt), BOWL, np.ones(1), 2000.0, COARSE),
        lambda: measure(lambda dt: ia.sgd(4.5, 0.8, dt=dt), BOWL, np.ones(1), 2000.0, COARSE),
        lambda: measure(lambda dt: ia.sgd(3.0, dt=dt), quartic, PAIR, dts=[1, 1 / 2, 1 / 64, 1 / 128]),
    ],
    "exact": [
        lambda: measure(lambda dt: ia.sgd(0.1, dt=dt), jnp.sum),  # a constant gradient: no error at all
        lambda: measure(lambda dt: ia.sgd(0.7, dt=dt), slope, 10 * START),
        lambda: measure(lambda dt: ia.sgd(0.3, dt=dt), BOWL, np.zeros(1)),  # nothing moves
        lambda: measure(lambda dt: ia.momentum(0.3, dt=dt), STEEP, np.zeros(2)),
    ],
    "rounding": [
        lambda: measure(lambda dt: ia.sgd(1e-8, dt=dt), quartic, dts=MANY),
        lambda: measure(lambda dt: ia.momentum(2e-13, 0.5, dt=dt), dts=MANY),
        lambda: measure(lambda dt: ia.momentum(2e-13, 0.5, scheme="explicit", dt=dt), dts=MANY),
        lambda: measure(lambda dt: ia.adagrad(2e-13, 1.0, dt=dt), dts=MANY),
    ],
    "solver": [
        lambda: measure(lambda dt: ia.sgd(0.5, dt=dt), rtol=1e-2, atol=1e-2),
        lambda: measure(lambda dt: ia.momentum(0.5, 0.8, dt=dt), rtol=1e-3, atol=1e-3, solver="RK23"),
        lambda: measure(lambda dt: ia.adam(0.05, dt=dt), rtol=1e-3, atol=1e-3, solver="RK45"),
        lambda: measure(
            lambda dt: ia.sgd(0.5, dt=dt), rtol=1e-6, atol=1e-6,
            flows=flow_through(lambda dt: ia.sgd(0.5, dt=dt), 4),
        ),
        lambda: measure(lambda dt: ia.momentum(0.5, 0.5, scheme="explicit", dt=dt), rtol=1e-2, atol=1e-2, solver="BDF"),
        lambda: measure(lambda dt: ia.sgd(0.2, 0.6, dt=dt), STEEP, PAIR, rtol=1e-2, atol=1e-2, solver="LSODA"),
    ],
    "cold start": [
        lambda: measure(lambda dt: ia.rmsprop(0.02, eps=1e-16, dt=dt)),
        lambda: measure(lambda dt: ia.rmsprop(0.05, decay=0.8, eps=1e-12, dt=dt), ia.quadratic([[2.0]]), np.ones(1)),
        lambda: measure(lambda dt: ia.adagrad(0.05, 0.0, eps=1e-12, dt=dt)),
        lambda: measure(lambda dt: ia.rmsprop(0.02, decay=0.95, eps=1e-14, dt=dt), STEEP, PAIR),
        lambda: measure(lambda dt: ia.rmsprop(0.03, eps=1e-9, eps_in_sqrt=False, dt=dt), STEEP, PAIR),
    ],
    "edge of stability": [
        lambda: measure(lambda dt: ia.sgd(0.5, dt=dt), valley, np.array([1.7, 0.1]), 200.0, COARSE),
        lambda: measure(lambda dt: ia.sgd(0.45, dt=dt), valley, np.array([1.8, 0.1]), 240.0, COARSE),
        lambda: measure(lambda dt: ia.momentum(1.5, 0.5, dt=dt), valley, np.array([1.7, 0.1]), 200.0, COARSE),
    ],
    "coarse": [
        lambda: measure(lambda dt: ia.momentum(3.0, 0.9, scheme="explicit", dt=dt), time=64.0, dts=COARSE),
        lambda: measure(lambda dt: ia.sgd(1.9, dt=dt), BOWL, np.ones(1), 8.0, COARSE),
        lambda: measure(lambda dt: ia.sgd(0.95, dt=dt), ia.quadratic([[2.0]]), np.ones(1), 8.0, COARSE),
        lambda: measure(lambda dt: ia.sgd(1.2, 0.5, dt=dt), BOWL, np.ones(1), 16.0, COARSE),
    ],
    "too few": [
        lambda: measure(lambda dt: ia.sgd(0.1, dt=dt), dts=DTS[:3]),
        lambda: measure(lambda dt: ia.momentum(0.1, 0.5, dt=dt), dts=DTS[:3]),
        lambda: measure(lambda dt: ia.adam(0.02, dt=dt), STEEP, PAIR, dts=DTS[1:4]),
    ],
    "crossings": [
        lambda: measure(lambda dt: clipped(1.0, 0.2, dt), dts=[*COARSE, 1 / 16]),
        lambda: measure(lambda dt: clipped(1.2, 0.25, dt), dts=[*COARSE, 1 / 16]),
    ],
    "another flow": [
        lambda: measure(lambda dt: clipped(0.1, 0.5, dt), flow=ia.sgd(0.1)),
        lambda: measure(lambda dt: ia.momentum(0.3, 0.9, dt=dt), flow=ia.momentum(0.3, 0.89)),
        lambda: measure(lambda dt: ia.momentum(0.3, 0.9, dt=dt), flow=ia.momentum(0.31, 0.9)),
        lambda: measure(lambda dt: ia.adam(0.02, dt=dt), flow=ia.adam(0.02, b1=0.85)),
        lambda: measure(lambda dt: ia.sgd(0.1, dt=dt), flow=ia.sgd(0.105)),  # 5 % off
        lambda: measure(lambda dt: ia.adam(0.02, dt=dt), flow=ia.adam(0.021)),
        lambda: measure(lambda dt: ia.sgd(0.1), flow=ia.sgd(0.1)),  # a family that does not refine
        lambda: measure(lambda dt: ia.momentum(0.1, 0.8), STEEP, PAIR, flow=ia.momentum(0.1, 0.8)),
        lambda: measure(lambda dt: ia.adamw(0.02, weight_decay=0.5, dt=dt), flow=ia.adamw(0.02, weight_decay=0.45)),
        lambda: measure(lambda dt: ia.adagrad(0.1, 1.0, dt=dt), flow=ia.adagrad(0.105, 1.0)),
        lambda: measure(lambda dt: ia.sgd(0.02, 0.8, dt=dt), STEEP, PAIR, flow=ia.sgd(0.02, 0.78)),
        lambda: measure(lambda dt: ia.sgd(0.1 * dt, 0.8), STEEP, PAIR, flow=ia.sgd(0.1, 0.8)),  # b is not refined
        lambda: measure(lambda dt: ia.rmsprop(0.02, 0.8, 0.1, 1.0, dt=dt), flow=ia.rmsprop(0.021, 0.8, 0.1, 1.0)),
        lambda: measure(lambda dt: ia.sgd(lambda t: 0.1 / (1 + t), dt=dt), flow=ia.sgd(lambda t: 0.1 / (1 + 0.9 * t))),
        lambda: measure(lambda dt: ia.sgd(0.3, 0.8, dt=dt), flow=ia.sgd(1.4)),
    ],
    "logarithm": [
        lambda: measure(lambda dt: summed_before_adam(ia.parts.trace(0.7), dt), dts=FINE),
        lambda: measure(lambda dt: summed_before_adam(ia.parts.ema(0.7, debias=False), dt), dts=FINE),
    ],
    "unclear": [
        lambda: measure(lambda dt: ia.adam(0.01 + 0.01 * dt**0.25, dt=dt), STEEP, PAIR, flow=ia.adam(0.01)),
        lambda: measure(lambda dt: ia.sgd(0.1 * (1 + dt**0.25), dt=dt), flow=ia.sgd(0.1)),
        lambda: measure(lambda dt: ia.adagrad(0.1 + 0.1 * dt**0.25, 1.0, dt=dt), flow=ia.adagrad(0.1, 1.0)),
    ],
}  # fmt: skip
CASES = [(kind, i) for kind, calls in VIOLATIONS.items() for i in range(len(calls))]
#: Doubts that may stand for each other: iterates that have left the flow.
KINDRED = {"coarse", "unclear", "unstable"}


def missed(kind: str, i: int) -> str:
    """Seed a violation; return what is wrong with the verdict on it, or nothing."""
    result = VIOLATIONS[kind][i]()
    right = result.doubt == kind or {result.doubt, kind} <= KINDRED
    return "" if right and not result.verdict.startswith("order") else f"{kind} {i}: {result}"


def clean(seed: int) -> tuple[Callable, Callable, np.ndarray]:
    """Draw a smooth problem, a method and its steps."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 4))
    Q = np.linalg.qr(rng.normal(size=(n, n)))[0]
    A = Q @ np.diag(rng.uniform(0.2, 2.0, n)) @ Q.T
    waves = rng.uniform(0, 0.3)
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
        return 0.5 * x @ A @ x + waves * (1 - jnp.cos(x)).sum()

    return make, loss, rng.normal(size=n) * 1.5


def alarm(seed: int) -> str:
    """Measure a clean case; return what a false alarm says, or nothing."""
    make, loss, start = clean(seed)
    result = measure(make, loss, start, 8.0, [2.0**-k for k in range(3, 8)])
    good = result.doubt is None and result.verdict.startswith("order 1:")
    return "" if good else f"clean case {seed}: {result}"

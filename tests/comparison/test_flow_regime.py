"""Which flow holds: the numbers against closed forms and against what the iterates do."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import inercia as ia


def bowl(x):
    return x[0] ** 2 / 2 + x[1] ** 2 / 20


def valley(x):
    return (1 + x[0] ** 2) * x[1] ** 2 / 2 + 0.002 * (x[0] - 3) ** 2  # its walls close in


def pulled(x, c):
    return 0.05 * jnp.sum((x - c) ** 2)


def test_the_gap_bounds_the_closed_form_closely():
    told = ia.regime(ia.sgd(0.3), bowl, jnp.ones(2), time=64)
    k = np.arange(65)[:, None] * 1.0
    x = np.exp(-0.3 * np.array([1.0, 0.1]) * k)
    exact = np.linalg.norm((1 - 0.3 * np.array([1.0, 0.1])) ** k - x, axis=1).max()
    assert exact <= told.gap <= 2 * exact
    assert told.displacement == pytest.approx(np.linalg.norm(x[-1] - 1), rel=1e-3)
    assert told.sharpness == pytest.approx(0.3, rel=1e-4)
    assert (told.bound, told.edge, told.until, told.memory, told.memoryless, told.noise) == (2, None, 64, 0, None, None)
    assert told.function == "modified"
    assert "(0.0" in str(told)
    assert str(told).endswith("is not reached: call modified.")


@pytest.mark.slow
def test_the_edge_is_told_and_the_gap_until_then():
    method, start = ia.sgd(0.5), jnp.array([1.2, 0.1])
    told = ia.regime(method, valley, start, time=400)
    path = ia.iterate(method, valley, start, 400)
    steep = 0.5 * (1 + path.params[:, 0] ** 2)  # for small x_1
    assert told.edge == told.until
    assert told.edge == pytest.approx(path.times[np.argmax(steep >= 2)], rel=0.1)
    assert told.function == "central"
    flow = ia.integrate(method, valley, start, path.times)
    assert ia.gap(path, flow).distance[path.times <= told.until].max() <= told.gap
    beyond = ia.regime(method, valley, jnp.array([2.0, 0.1]), time=400)
    assert (beyond.gap, beyond.edge, beyond.function) == (None, 0.0, "central")
    assert str(beyond).startswith("no plain flow holds")


@pytest.mark.slow
def test_memory_and_noise():
    """The spread of runs on random batches is at most the one that is told, and not far below."""
    rng, method, a, h = np.random.default_rng(0), ia.momentum(0.1, 0.5), 0.1, 0.1
    c = rng.normal(size=(8, 2))
    c -= c.mean(axis=0)
    start = np.array([3.0, -2.0])
    told = ia.regime(method, pulled, start, time=40, batches=c)
    assert (told.memory, told.memoryless) == (2.0, True)
    variance = (h * c).var(axis=0).sum()
    assert told.noise == pytest.approx(a * np.sqrt(40 * variance) / told.displacement, rel=1e-6)
    runs, m = np.tile(start, (2000, 1)), np.zeros((2000, 2))
    for _ in range(40):
        m = 0.5 * m + 0.5 * h * (runs - c[rng.integers(8, size=2000)])
        runs = runs - a * m
    spread = np.sqrt(runs.var(axis=0).sum()) / told.displacement
    assert 0.5 * told.noise < spread <= told.noise
    assert told.function == "integrate"
    loud = ia.regime(method, pulled, start, time=40, batches=30 * c)
    assert loud.function == "diffuse"
    assert "noise moves the params" in str(loud)


def test_refused():
    with pytest.raises(ValueError, match=r"needs a smooth update, but this one jumps \(sign\)"):
        ia.regime(optax.sign_sgd(0.1), bowl, jnp.ones(2), time=8)
    with pytest.raises(ValueError, match=r"time must be a multiple of dt, but time = 8\.5 and dt = 1"):
        ia.regime(ia.sgd(0.1), bowl, jnp.ones(2), time=8.5)
    with pytest.raises(ValueError, match=r"one leading axis of at least 1, but theirs are \[0\]"):
        ia.regime(ia.sgd(0.1), pulled, jnp.ones(2), time=8, batches=np.zeros((0, 2)))


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda: ia.momentum(0.2, 0.8),
        lambda: ia.adam(0.005, b1=0.8, b2=0.95),
        lambda: optax.sgd(0.05, momentum=0.7, nesterov=True),
    ],
)
def test_the_bound_holds_on_a_network(make):
    """A draw of `benchmarks/regimes.py`."""
    method, net = make(), ia.mlp([2, 4, 1], "tanh")
    x = np.random.default_rng(1).normal(size=(12, 2))
    risk, start = ia.risk(net), net.init(3)

    def loss(p):
        return risk(p, (x, np.sin(x[:, :1])))

    told = ia.regime(method, loss, start, time=100)
    path = ia.iterate(method, loss, start, 100)
    gap = ia.gap(path, ia.integrate(method, loss, start, path.times)).distance
    met = gap[path.times <= told.until].max()
    assert met <= told.gap <= 10 * met

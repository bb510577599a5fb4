"""Moments against exact oracles to 3 standard errors; weak orders by halving the learning rate."""

import builtins

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.integrate import solve_ivp

import inercia as ia

CENTRES = jnp.array([-1.0, 1.0, 0.5])


def bowl(x, c):
    return (x - c) ** 2 / 2


@pytest.mark.slow
def test_ornstein_uhlenbeck_to_three_standard_errors():
    a, n = 0.2, 20_000
    mean, variance = float(CENTRES.mean()), float(CENTRES.var())
    times = np.array([0.0, 2.0, 10.0, 60.0])
    sample = ia.diffuse(ia.sgd(a), bowl, 2.0, CENTRES, times, 1, paths=n, substeps=32).params
    t = a * times[1:]
    exact_mean = mean + (2 - mean) * np.exp(-t)
    exact_variance = a * variance * (1 - np.exp(-2 * t)) / 2
    got = sample[:, 1:]
    assert (abs(got.mean(axis=0) - exact_mean) < 3 * got.std(axis=0) / np.sqrt(n) + a / 32 / 4).all()
    assert (abs(got.var(axis=0) - exact_variance) < 3 * exact_variance * np.sqrt(2 / n) + a / 32 * exact_variance).all()


def test_discrete_oracle_ar1():
    """SGD itself on the partition: mean (1 - a)^k, stationary variance a s^2 / (2 - a)."""
    a, n, steps = 0.4, 20_000, 40
    rows = np.asarray(ia.sampler("partition", 3 * n, 3 * n).rows(jax.random.key(0), 0, 1)).ravel()
    assert len(set(rows.tolist())) == 3 * n
    draws = jax.random.randint(jax.random.key(1), (n, steps), 0, 3)
    x = np.full(n, 2.0)
    for k in range(steps):
        x = x - a * (x - np.asarray(CENTRES)[np.asarray(draws[:, k])])
    mean, s2 = float(CENTRES.mean()), float(CENTRES.var())
    assert abs(x.mean() - (mean + (2 - mean) * (1 - a) ** steps)) < 3 * x.std() / np.sqrt(n)
    assert abs(x.var() - a * s2 / (2 - a)) < 4 * x.var() * np.sqrt(2 / n)


@pytest.mark.slow
def test_momentum_diffusion_has_the_stationary_variance():
    """m' = c (g - m), theta' = -a m, noise c Sigma^(1/2): Var(theta) = a s^2 / 2, Var(m) = c s^2 / 2."""
    a, b, n = 0.1, 0.8, 4000
    sample = ia.diffuse(ia.momentum(a, b), bowl, 0.0, CENTRES - CENTRES.mean(), [0.0, 150.0], 2, paths=n).params[:, 1]
    expected = a * float(CENTRES.var()) / 2
    assert abs(sample.var() - expected) < 3 * expected * np.sqrt(2 / n) + 0.03 * expected


CURVATURES, SHIFTS = np.array([2.0, 0.6]), np.array([-0.4, 0.5])


def tilted(x, batch):
    curvature, centre = batch
    return curvature * (x - centre) ** 2 / 2


def exact_moments(a, steps, x0):
    """E[theta_k] and E[theta_k^2] of SGD with a random batch each time, by their exact recursion."""
    m1, m2 = x0, x0**2
    for _ in range(steps):
        k, r = 1 - a * CURVATURES, a * CURVATURES * SHIFTS
        m1, m2 = np.mean(k * m1 + r), np.mean(k**2 * m2 + 2 * k * r * m1 + r**2)
    return m1, m2


@pytest.mark.slow
@pytest.mark.parametrize("order", [1, pytest.param(2, marks=pytest.mark.long)])
def test_weak_order(order):
    """Of the mean at order 1 (where the second moment's error happens to cancel), of the second moment at order 2."""
    rates, time, x0 = [0.4, 0.2, 0.1], 1.6, 1.5
    batches = (jnp.asarray(CURVATURES), jnp.asarray(SHIFTS))
    errors = []
    for a in rates:
        steps = round(time / a)
        n = 60_000 if order == 2 else 20_000
        run = ia.diffuse(
            ia.sgd(a), tilted, x0, batches, [0.0, float(steps)], 3, paths=n, order=order, substeps=round(16 * 0.4 / a)
        )
        fine = ia.diffuse(
            ia.sgd(a), tilted, x0, batches, [0.0, float(steps)], 3, paths=n, order=order, substeps=round(32 * 0.4 / a)
        )
        # Euler's own error is removed by extrapolating its step.
        moment = 2 * (fine.params[:, 1] ** order).mean() - (run.params[:, 1] ** order).mean()
        errors.append(abs(moment - exact_moments(a, steps, x0)[order - 1]))
    slope = np.polyfit(np.log(rates), np.log(errors), 1)[0]
    print("weak errors", order, errors, "slope", slope)
    assert abs(slope - order) <= 0.2, errors


@pytest.mark.slow
def test_partition_noise_has_the_exact_covariance():
    """Over one short step the increments have mean -a g and covariance a^2 Sigma, on a network's params too."""
    network = ia.mlp([2, 2])
    loss = ia.risk(network)
    params = network.init(jax.random.key(0))
    x, y = jax.random.normal(jax.random.key(1), (4, 5, 2)), jax.random.normal(jax.random.key(2), (4, 5, 2))
    h = 1e-3
    sample = ia.diffuse(ia.sgd(1.0), loss, params, (x, y), [0.0, h], 4, paths=20_000, substeps=1000)
    moved = np.concatenate(
        [(leaf[:, 1] - leaf[:, 0]).reshape(20_000, -1) for leaf in jax.tree.leaves(sample.params)], axis=1
    )
    grads = jax.vmap(lambda x, y: jax.grad(loss)(params, (x, y)))(x, y)
    g = np.concatenate([np.asarray(leaf).reshape(4, -1) for leaf in jax.tree.leaves(grads)], axis=1)
    sigma = np.cov(g.T, bias=True)
    np.testing.assert_allclose(np.cov(moved.T) / h, sigma, atol=0.04 * np.abs(sigma).max())
    np.testing.assert_allclose(moved.mean(axis=0), -g.mean(axis=0) * h, atol=4 * np.sqrt(sigma.max() * h / 20_000))


def test_moments_of_the_averages():
    """E[m_k] = (1 - b^k) E[g] and Var(m-hat_k) = s^2 (1-b)/(1+b) (1+b^k)/(1-b^k): averages under noise."""
    b, n, steps, mean, s = 0.9, 100_000, 60, 0.7, 1.3
    m, rng = np.zeros(n), np.random.default_rng(0)
    for k in range(1, steps + 1):
        m = b * m + (1 - b) * (mean + s * rng.normal(size=n))
        if k in (1, 5, 60):
            expected = s**2 * (1 - b) / (1 + b) * (1 + b**k) / (1 - b**k)
            corrected = m / (1 - b**k)
            assert abs(m.mean() - (1 - b**k) * mean) < 3 * m.std() / np.sqrt(n)
            assert abs(corrected.var() - expected) < 3 * expected * np.sqrt(2 / n)


def test_adam_under_pure_noise_has_not_unit_variance():
    """The moments of our own Adam: m-hat / sqrt(v-hat) has variance near (1-b1)/(1+b1) = 0.0526, not 1."""
    method = ia.adam(1.0)
    draws = jax.random.normal(jax.random.key(0), (3000, 4000))

    def step(state, g):
        update, state = method.update(g, state)
        return state, update

    _, updates = jax.jit(lambda g: jax.lax.scan(step, method.init(g[0]), g))(draws)
    assert float(updates[-1].var()) == pytest.approx(0.1 / 1.9, rel=0.1)


def run(method, batches=CENTRES, times=(0, 1), **options):
    return ia.diffuse(method, bowl, 0.0, batches, times, 0, **options)


def adam_moments(a, c, sigma, time, start):
    """E theta and Var theta of theta' = -(a/sigma) m/(1 - e^{-ct}), dm = c (theta dt - m dt + sigma dW), from m = 0.

    Adam on a bowl in the limit of large noise, where v-hat = sigma^2 throughout.
    """

    def slope(t, y):
        theta, m, tt, tm, mm = y
        w = a / sigma / -np.expm1(-c * t)
        return [-w * m, c * (theta - m), -2 * w * tm, -w * mm + c * (tt - tm), 2 * c * (tm - mm) + (c * sigma) ** 2]

    first = 1e-10
    begin = [start, c * start * first, start**2, c * start**2 * first, (c * sigma) ** 2 * first]
    y = solve_ivp(slope, (first, time), begin, "Radau", rtol=1e-9, atol=1e-12).y[:, -1]
    return y[0], y[2] - y[0] ** 2


@pytest.mark.slow
def test_adam_in_the_limit_of_large_noise_from_a_cold_start():
    """l = 100 is near it: to 4 standard errors, and 1/l of the moments."""
    a, sigma, time, l, n = 0.3, 2.0, 4, 100, 4000
    method = ia.scale(ia.adam(a, 0.6, 0.8), 1 / l)
    sample = ia.diffuse(method, bowl, 1.5, sigma * jnp.array([-1.0, 1.0]), [0, time * l], 0, n, substeps=1, noise=l)
    mean, variance = adam_moments(a, 0.4, sigma, time, 1.5)
    end = sample.params[:, -1]
    assert sample.diverged is None
    assert abs(end.mean() - mean) < 4 * np.sqrt(variance / n) + 3 * a / l
    assert abs(end.var() / variance - 1) < 4 * np.sqrt(2 / n) + 3 / l
    np.testing.assert_allclose(sample.state.nu[:, -1] / l, sigma**2 * -np.expm1(-0.2 * time), rtol=0.03)


@pytest.mark.slow
def test_batches_without_noise_follow_the_flow_with_its_schedule_from_a_given_state():
    """Of equal batches the equation is the flow, theta' = -a(t) theta, to the error of Euler's step."""
    method, times = ia.sgd(lambda t: 0.1 + 0.01 * t), np.array([3.0, 5.0, 8.0])
    state = method.init(jnp.ones(()))._replace(count=jnp.int32(3))
    sample = ia.diffuse(method, bowl, 2.0, jnp.zeros(2), times, 0, 2, substeps=64, state=state)
    exact = 2 * np.exp(-0.1 * (times - 3) - 0.005 * (times**2 - 9))
    np.testing.assert_allclose(sample.params, [exact] * 2, rtol=2e-3)
    assert sample.state.count[1].tolist() == times.tolist()
    with pytest.raises(ValueError, match="clock stands, at 3, but it is 0"):
        ia.diffuse(method, bowl, 2.0, jnp.zeros(2), [0, 1], 0, state=state)


@pytest.mark.slow
def test_divergence_is_reported():
    assert run(ia.sgd(1e3), times=[0, 1, 400], substeps=1).diverged == 400


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: run(optax.adam(0.1)), TypeError, "mean and the covariance of a method's flow over the batches"),
        (lambda: run(ia.sign_sgd(0.1)), TypeError, "its update jumps where a sign changes.*Take smooth > 0"),
        (lambda: run(ia.adamax(0.1)), ValueError, "the state of adamax jumps, as a maximum does"),
        (lambda: run(ia.rmsprop(0.1)), ValueError, "second moment above 0, but that of rmsprop starts at 0"),
        (lambda: run(ia.rmsprop(0.1, centered=True)), ValueError, "stays above 0, but centered takes"),
        (lambda: run(ia.sign_sgd(0.1, smooth=1.0), noise=0.5), ValueError, "sees its whole distribution"),
        (lambda: run(ia.sgd(0.1), noise=-1.0), ValueError, "noise must be a finite number of at least 0"),
        (lambda: run(ia.sgd(lambda k: 0.1), order=2), ValueError, "constant hyperparameters"),
        (lambda: run(ia.momentum(0.1), order=2), ValueError, "order must be 1, or 2 for sgd without momentum"),
        (lambda: run(ia.sgd(0.1), times=[0, 0.03]), ValueError, "multiples of dt / substeps = 0.0625"),
        (lambda: run(ia.sgd(0.1), times=[1, 2]), ValueError, "clock stands, at 0, but it is 1"),
        (lambda: run(ia.sgd(0.1), batches=(CENTRES, CENTRES[:2])), ValueError, r"theirs are \[2, 3\]"),
        (lambda: run(ia.sgd(0.1), paths=0), ValueError, "paths must be at least 1"),
    ],
)
def test_bad_input(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_missing_diffrax_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "diffrax":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"diffuse needs diffrax: install it with pip install 'inercia\[diffrax\]'"):
        ia.diffuse(ia.sgd(0.1), bowl, 0.0, CENTRES, [0, 1], 0)

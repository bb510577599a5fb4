"""Moments against exact oracles to 3 standard errors; weak orders by halving the learning rate."""

import builtins

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
@pytest.mark.parametrize("order", [1, 2])
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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ia.diffuse(ia.adam(0.1), bowl, 0.0, CENTRES, [0, 1], 0), "but the method is adam"),
        (lambda: ia.diffuse(ia.sgd(0.1, 0.9), bowl, 0.0, CENTRES, [0, 1], 0), "sgd without momentum"),
        (lambda: ia.diffuse(ia.sgd(lambda k: 0.1), bowl, 0.0, CENTRES, [0, 1], 0), "constant hyperparameters"),
        (lambda: ia.diffuse(ia.momentum(0.1), bowl, 0.0, CENTRES, [0, 1], 0, order=2), "order must be 1, or 2 for sgd"),
        (lambda: ia.diffuse(ia.sgd(0.1), bowl, 0.0, CENTRES, [0, 0.03], 0), "multiples of dt / substeps = 0.0625"),
        (lambda: ia.diffuse(ia.sgd(0.1), bowl, 0.0, (CENTRES, CENTRES[:2]), [0, 1], 0), r"theirs are \[2, 3\]"),
        (lambda: ia.diffuse(ia.sgd(0.1), bowl, 0.0, CENTRES, [0, 1], 0, paths=0), "paths must be at least 1"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
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

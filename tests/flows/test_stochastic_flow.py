"""The stochastic equations without sampling: one update's moments, and moments over time in closed form."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import inercia as ia
from inercia.core import tree
from inercia.flows.stochastic_flow import stochastic_flow

ROOTS, CENTRES = np.random.default_rng(0).normal(size=(4, 3, 3)), np.random.default_rng(1).normal(size=(4, 3))
HESSIANS = ROOTS @ ROOTS.transpose(0, 2, 1) / 3 + np.eye(3)


@pytest.fixture(autouse=True)
def wide():
    with jax.enable_x64(True):
        yield


def bumpy(x, batch):
    hessian, centre = batch
    return (x - centre) @ hessian @ (x - centre) / 2 + 0.3 * jnp.sum(jnp.cos(x))


def floats(state):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, float), state)


def warm(state):
    """Return the state with random positive numbers for its averages, and its counter."""
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda leaf: leaf if is_count(leaf) else jnp.asarray(0.5 + rng.random(leaf.shape)), state)


def is_count(leaf):
    return jnp.issubdtype(jnp.asarray(leaf).dtype, jnp.integer)


QUICK = {
    "momentum": partial(ia.momentum, 0.1, 0.8),
    "rmsprop": partial(ia.rmsprop, 0.1, 0.8),
    "adam": partial(ia.adam, 0.1, 0.8, 0.9),
    "sign_sgd": partial(ia.sign_sgd, 0.1, smooth=0.3),
    "lion": partial(ia.lion, 0.1, 0.5, 0.8, smooth=0.3),
}
OTHERS = {
    "lecture's order": partial(ia.momentum, 0.1, 0.8, scheme="explicit"),
    "heavy ball": partial(ia.sgd, 0.1, 0.8),
    "nesterov's step": partial(ia.sgd, 0.1, 0.8, True),
    "nesterov": partial(ia.nesterov, 0.1),
    "rmsprop with momentum": partial(ia.rmsprop, 0.1, 0.8, momentum=0.7),
    "scalar_rmsprop": partial(ia.scalar_rmsprop, 0.1, 0.8),
    "adagrad": partial(ia.adagrad, 0.1),
    "adadelta": partial(ia.adadelta, 0.5, 0.8, 0.1),
    "adamw": partial(ia.adamw, 0.1, 0.8, 0.9, weight_decay=0.1),
    "nadam": partial(ia.nadam, 0.1, 0.8, 0.9),
    "chain": partial(
        ia.chain, ia.parts.add_decayed_weights(0.1), ia.parts.trace(0.8), ia.parts.scale_by_learning_rate(0.1)
    ),
}


def one_update(family, theta):
    """Return, for five dt, how far mean and covariance of one update over the batches are from drift and noise."""
    state, time = warm(family().init(theta)), 3.0
    at_time = jax.tree.map(lambda leaf: jnp.asarray(time) if is_count(leaf) else leaf, state)
    batches = (jnp.asarray(HESSIANS), jnp.asarray(CENTRES))
    z = tree.ravel_real((theta, at_time))[0]
    equation = stochastic_flow(family(), bumpy, theta, at_time, batches)
    kept = equation.linear | (np.arange(z.size) < theta.size)

    @jax.jit
    @jax.vmap
    def moments(dt):
        method = family(dt=dt)
        counted = jax.tree.map(lambda leaf: (time / dt).astype(leaf.dtype) if is_count(leaf) else leaf, state)

        def increment(batch):
            updates, after = method.update(jax.grad(bumpy)(theta, batch), counted, theta)
            after = jax.tree.map(lambda leaf: leaf * dt if is_count(leaf) else leaf, after)
            return tree.ravel_real((theta + updates, after))[0] - z

        moved = jax.vmap(increment)(batches)
        roots = jax.vmap(partial(equation._replace(method=method).scattered, z))(jnp.eye(4)) / jnp.sqrt(dt)
        centred = (moved - moved.mean(axis=0)) / dt
        return moved.mean(axis=0) / dt - equation.drift(z), centred.T @ centred / 4 - roots.T @ roots

    mean, covariance = map(np.asarray, moments(2.0 ** -np.arange(8, 13)))
    assert abs(mean[-1]).max() < 0.2 * max(1, float(abs(equation.drift(z)).max()))
    return abs(mean).max(axis=1), abs(covariance[:, kept][:, :, kept]).max(axis=(1, 2))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.long) for name in OTHERS)])
def test_one_update_has_the_moments_of_the_equation(name):
    """Both differ by O(dt) per dt, which is weak order 1; exact, over all batches."""
    theta = jnp.asarray(np.random.default_rng(3).normal(size=3))
    for errors in one_update((QUICK | OTHERS)[name], theta):
        if errors.max() > 1e-12:  # some are equal
            slope = np.polyfit(np.arange(5), np.log2(errors), 1)[0]
            assert slope == pytest.approx(-1, abs=0.25), errors


# A bowl of two batches, whose moments to the second are closed, for iterates and equation alike.
PAIR = (jnp.array([2.0, 0.6]), jnp.array([-0.4, 0.5]))
START, TIME = 1.5, 4


def bowl(x, batch):
    return batch[0] * (x - batch[1]) ** 2 / 2


def matrix(function, n):
    """Return an affine function of n numbers as a matrix on (z, 1)."""
    offset = function(jnp.zeros(n))
    columns = jnp.concatenate([jax.vmap(function)(jnp.eye(n)).T - offset[:, None], offset[:, None]], axis=1)
    return jnp.concatenate([columns, jnp.zeros((1, n + 1))])


def on_second(matrices):
    """Return the sum of A Z A^T over the matrices, as a matrix on Z = E (z, 1)(z, 1)^T."""
    return sum(np.kron(each, each) for each in np.asarray(matrices))


def start_of(method):
    theta = jnp.asarray(START)
    return theta, floats(method.init(theta))


def moments_of_equation(method, noise, time):
    theta, state = start_of(method)
    equation = stochastic_flow(method, bowl, theta, state, PAIR)._replace(noise=noise)
    z = tree.ravel_real((theta, state))[0]

    @jax.jit
    def matrices():
        noises = [matrix(lambda z, e=e: equation.scattered(z, e), z.size) for e in jnp.eye(2)]
        return matrix(equation.drift, z.size), jnp.stack(noises)

    drift, noises = map(np.asarray, matrices())
    one, first = np.eye(z.size + 1), np.append(z, 1.0)
    generator = np.kron(drift, one) + np.kron(one, drift) + on_second(noises)
    moments = (scipy.linalg.expm(generator * time) @ np.outer(first, first).ravel()).reshape(one.shape)
    return np.array([moments[0, -1], moments[0, 0] - moments[0, -1] ** 2])


def moments_of_iterates(family, sizes):
    """Of the methods family(1/l) on gradients of covariance l Sigma, for l in sizes."""
    theta, state = start_of(family(1.0))
    z, rebuild = tree.ravel_real((theta, state))
    counted = family(1.0).init(theta)

    @jax.jit
    @jax.vmap
    def matrices(l):
        s, method = jnp.sqrt(2 * l - 1), family(1 / l)

        def step(i, j, z):
            theta, now = rebuild(z)
            one, two = (jax.grad(bowl)(theta, tree.row(PAIR, k)) for k in (i, j))
            now = jax.tree.map(lambda leaf, old: leaf.astype(old.dtype), now, counted)
            updates, after = method.update((1 + s) / 2 * one + (1 - s) / 2 * two, now, theta)
            return tree.ravel_real((theta + updates, floats(after)))[0]

        return jnp.stack([matrix(partial(step, i, j), z.size).at[-1, -1].set(1) for i in (0, 1) for j in (0, 1)])

    first = np.append(z, 1.0)
    for l, of_pairs in zip(sizes, matrices(jnp.asarray(sizes, float)), strict=True):
        pushed = np.linalg.matrix_power(on_second(of_pairs) / 4, TIME * l)
        moments = (pushed @ np.outer(first, first).ravel()).reshape(z.size + 1, z.size + 1)
        yield np.array([moments[0, -1], moments[0, 0] - moments[0, -1] ** 2])


@pytest.mark.slow
@pytest.mark.parametrize(
    "family",
    [
        lambda kappa: ia.sgd(0.4 * kappa),
        lambda kappa: ia.momentum(0.4 * kappa, 1 - 0.5 * kappa),
        pytest.param(lambda kappa: ia.sgd(0.2 * kappa**2, 1 - 0.5 * kappa), marks=pytest.mark.long),
        pytest.param(lambda kappa: ia.sgd(0.2 * kappa**2, 1 - 0.5 * kappa, True), marks=pytest.mark.long),
    ],
    ids=["sgd", "momentum", "heavy ball", "nesterov's step"],
)
def test_iterates_with_amplified_noise_converge_weakly_at_order_one(family):
    """Of the method scaled by 1/l on gradients of covariance l Sigma: mean and variance, exactly, four halvings."""
    wanted, sizes = moments_of_equation(family(1), 1.0, TIME), (8, 16, 32, 64, 128)
    assert ia.scale(family(1), 1 / 8) == family(1 / 8)
    errors = np.array(list(moments_of_iterates(family, sizes))) - wanted
    slopes = np.polyfit(np.log2(sizes), np.log2(np.abs(errors)), 1)[0]
    assert slopes == pytest.approx([-1, -1], abs=0.2), errors
    assert (abs(errors[-1]) < [0.01, 0.02 * wanted[1]]).all()
    # Twice the batch has the same equation.
    np.testing.assert_allclose(moments_of_equation(ia.scale(family(1), 2), 0.5, TIME / 2), wanted, rtol=1e-10)


def test_sign_descent_weakly():
    """d theta = -a E S dt' + a sqrt(dt) sd(S) dW against the iterates, both as operators on polynomials.

    The mean is right to O(dt); the variance, itself O(dt), to O(dt^2), which no equation without its noise reaches.
    """
    degree, half, a, c, time, centres = 40, 3.0, 0.4, 0.7, 2.0, jnp.array([-1.0, 0.2, 0.5])
    nodes = half * np.cos(np.pi * np.arange(degree + 1) / degree)
    basis = np.polynomial.chebyshev.chebvander(nodes / half, degree)
    derivative = np.polynomial.chebyshev.chebder(np.eye(degree + 1), axis=0)
    derivative = np.vstack([derivative, np.zeros(degree + 1)]) / half
    first, second = (basis @ np.linalg.matrix_power(derivative, k) @ np.linalg.inv(basis) for k in (1, 2))
    at_start = np.polynomial.chebyshev.chebvander(np.array([0.9 / half]), degree) @ np.linalg.inv(basis)

    def spread(values):  # mean and variance of theta at the time, from u = theta and theta^2
        mean, square = (at_start @ values @ nodes**k for k in (1, 2))
        return np.array([mean[0], square[0] - mean[0] ** 2])

    def coefficients(dt):
        method = ia.sign_sgd(a, smooth=c, dt=dt)
        equation = base._replace(method=method)
        roots = jax.vmap(lambda z: jax.vmap(partial(equation.scattered, z))(jnp.eye(3)))(z)[:, :, 0]
        moved = jax.vmap(lambda x: jax.vmap(lambda c: method.update(x - c, zero, x)[0])(centres))(z[:, 0])
        return jax.vmap(equation.drift)(z)[:, 0], (roots**2).sum(axis=1), z[:, :1] + moved

    zero = ia.sign_sgd(a, smooth=c).init(jnp.asarray(0.9))
    z = jnp.stack([jnp.asarray(nodes), jnp.zeros(degree + 1)], axis=1)
    base = stochastic_flow(ia.sign_sgd(a, smooth=c), lambda x, c: (x - c) ** 2 / 2, z[0, 0], floats(zero), centres)
    errors, variance, sizes = [], [], 2.0 ** -np.arange(2, 7)
    for dt, drift, square, after in zip(sizes, *map(np.asarray, jax.jit(jax.vmap(coefficients))(sizes)), strict=True):
        flow = spread(scipy.linalg.expm((drift[:, None] * first + square[:, None] / 2 * second) * time))
        push = np.mean([np.polynomial.chebyshev.chebvander(x / half, degree) for x in after.T], axis=0)
        push = push @ np.linalg.inv(basis)
        errors.append(spread(np.linalg.matrix_power(push, round(time / dt))) - flow)
        variance.append(flow[1])
    slopes = -np.polyfit(np.arange(5), np.log2(np.abs(errors)), 1)[0]
    assert slopes == pytest.approx([1, 2], abs=0.2), errors
    assert abs(errors[-1][1]) < 0.05 * variance[-1]


#: How the state of `scale(method, kappa)` is that of the method times a power of kappa.
MAPPED = {"count": -1, "nu": -1, "mu": 0, "m": 0}
RULES = {
    "heavy ball": (ia.sgd(0.1, 0.9), {"trace": -1}),
    "rmsprop": (ia.rmsprop(0.1, 0.9, eps=0.3), {}),
    "rmsprop, eps outside": (ia.rmsprop(0.1, 0.9, eps=0.3, eps_in_sqrt=False), {}),
    "rmsprop with momentum": (ia.rmsprop(0.1, 0.9, eps=0.3, momentum=0.9, bias_correction=True), {"trace": 1}),
    "adam": (ia.adam(0.1, 0.8, 0.9, eps=0.2, eps_root=0.3), {}),
    "adamw": (ia.adamw(0.1, 0.8, 0.9, eps=0.2, weight_decay=0.3), {}),
}


@pytest.mark.parametrize("name", RULES)
def test_a_scaled_method_has_the_same_equation(name):
    """In the old time, where the mean gradient is 0: drift and covariance, for the covariance Sigma / kappa."""
    method, extra = RULES[name]
    kappa, theta = 3.5, jnp.asarray(CENTRES.mean(axis=0))
    state = floats(warm(method.init(theta)._replace(count=jnp.array(1.5))))
    named = [(name, np.size(leaf)) for name, leaf in state._asdict().items() if leaf is not None]
    powers = np.concatenate([np.zeros(3), *(np.full(size, 1.0 * (MAPPED | extra)[name]) for name, size in named)])
    z = tree.ravel_real((theta, state))[0]

    def drift_and_covariance(method, z, noise):
        equation = stochastic_flow(method, lambda x, c: jnp.sum((x - c) ** 2) / 2, theta, state, jnp.asarray(CENTRES))
        equation = equation._replace(noise=noise)
        roots = jax.jit(jax.vmap(lambda e: jnp.stack([equation.scattered(z, e), equation.drift(z)])))(jnp.eye(4))
        return np.asarray(roots[0, 1]), np.asarray(roots[:, 0].T @ roots[:, 0])

    drift, covariance = drift_and_covariance(method, z, 1.0)
    assert abs(covariance).max() > 1e-4
    factor = kappa**powers
    scaled = drift_and_covariance(ia.scale(method, kappa), z * factor, 1 / kappa)
    np.testing.assert_allclose(scaled[0], kappa * factor * drift, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(scaled[1], kappa * covariance * np.outer(factor, factor), rtol=1e-9, atol=1e-12)

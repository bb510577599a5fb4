"""Eigenvalues of the Hessian: against the dense matrix, with their certificates, in runs, and at the edge."""

import importlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from jax.flatten_util import ravel_pytree

import inercia as ia
from inercia.core import tree
from inercia.edge_of_stability.hessian import turnings
from inercia.edge_of_stability.preconditioning import rule

module = importlib.import_module("inercia.edge_of_stability.eigenpairs")

DATA = tuple(part[:256] for part in ia.digits().train)
NETWORK = ia.mlp([64, 20, 10], "swish")  # 1510 parameters
PARAMS = NETWORK.init(jax.random.key(0))
RISK = ia.risk(NETWORK, "cross-entropy")


def loss(params):
    return RISK(params, DATA)


def dense(params):
    with jax.enable_x64(True):
        z, rebuild = ravel_pytree(tree.float64(params))
        return np.asarray(jax.hessian(lambda z: loss(rebuild(z)))(z))


@pytest.fixture(scope="module")
def hessian():
    return dense(PARAMS)


def columns(spectrum, k):
    return np.concatenate([np.asarray(leaf).reshape(k, -1) for leaf in jax.tree.leaves(spectrum.vectors)], axis=1).T


@pytest.mark.slow
def test_product(hessian):
    v = jax.tree.map(lambda p: jax.random.normal(jax.random.key(1), p.shape, p.dtype), PARAMS)
    product = ravel_pytree(ia.hvp(loss, PARAMS, v))[0]
    np.testing.assert_allclose(product, hessian @ np.asarray(ravel_pytree(v)[0]), atol=1e-4)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_turnings_of_a_cubic(count):
    """Of f = C[w, w, w] / 6 they are C[u_i, u_j, .], pair after pair, and 0 where a vector takes no part."""
    with jax.enable_x64(True):
        C, U = np.random.default_rng(0).normal(size=(6, 6, 6)), np.random.default_rng(1).normal(size=(3, 6))
        C = sum(np.transpose(C, order) for order in itertools.permutations(range(3)))
        cubic = lambda w: jnp.einsum("abc,a,b,c", C, w, w, w) / 6  # noqa: E731
        found = turnings(cubic, jnp.ones(6), jnp.asarray(U), jnp.asarray(count))
    pairs = [(i, j) for j in range(3) for i in range(j + 1)]
    expected = [np.einsum("abc,a,b", C, U[i], U[j]) * (j < count) for i, j in pairs]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_product_with_integers_and_what_it_refuses():
    def quartic(x):
        return jnp.sum(x**4)

    assert ia.hvp(quartic, jnp.ones(3), np.arange(3)).tolist() == [0.0, 12.0, 24.0]
    for params, vector, kind, message in [
        (jnp.ones(3), "abc", TypeError, "vector must hold numbers"),
        (jnp.ones(3), jnp.ones(2), ValueError, r"its param's shape \(3,\), but it has \(2,\)"),
        (jnp.ones(3), [1.0, 2.0, 3.0], ValueError, "vector must have the structure of params"),
        (jnp.ones(3), 1j * jnp.ones(3), TypeError, "vector must be real"),
        (jnp.arange(3), jnp.ones(3), TypeError, "params must hold floating or complex numbers"),
    ]:
        with pytest.raises(kind, match=message):
            ia.hvp(quartic, params, vector)
    with pytest.raises(ValueError, match="loss must return one real number"):
        ia.hvp(lambda x: x, jnp.ones(3), jnp.ones(3))


@pytest.mark.slow
@pytest.mark.parametrize("bound", [10**4, 1000], ids=["dense", "lanczos"])
def test_preconditioned(hessian, bound, monkeypatch):
    monkeypatch.setattr(module, "DENSE", bound)
    scale = jax.tree.map(lambda p: jax.random.uniform(jax.random.key(2), p.shape, p.dtype, 0.5, 3.0), PARAMS)
    found = ia.curvature(loss, PARAMS, 4, preconditioner=scale)
    P = np.diag(np.asarray(ravel_pytree(scale)[0], float))
    exact = scipy.linalg.eigh(hessian, P, eigvals_only=True)[::-1][:4]
    np.testing.assert_allclose(found.values, exact, rtol=1e-9)
    u = columns(found, 4)
    np.testing.assert_allclose(u.T @ P @ u, np.eye(4), atol=1e-8)
    np.testing.assert_allclose(hessian @ u, P @ u * found.values, atol=1e-5)
    if bound == 1000:
        again = ia.curvature(loss, PARAMS, 4, preconditioner=scale, start=found.vectors)
        assert again.iterations < found.iterations / 3  # warm-started


@pytest.mark.slow
def test_a_hessian_of_low_rank():
    zero = ia.curvature(jnp.sum, jnp.ones(1001), 2)
    assert zero.values.tolist() == [0, 0]
    assert zero.residual.tolist() == [0, 0]
    assert ia.curvature(lambda x: x[5] ** 2, jnp.ones(1001), 2).values == pytest.approx([2, 0], abs=1e-9)


@pytest.mark.slow
def test_trace_and_density(hessian):
    estimate, error = ia.trace(loss, PARAMS, 100)
    assert abs(estimate - np.trace(hessian)) < 4 * error
    nodes, weights = ia.density(loss, PARAMS, 40, 16)
    assert weights.sum() == pytest.approx(1)
    exact = np.linalg.eigvalsh(hessian)
    assert nodes[-1] == pytest.approx(exact[-1], rel=1e-6)
    assert nodes[0] == pytest.approx(exact[0], rel=1e-3)
    for x in (-0.02, 0.05, 0.3):
        assert weights[nodes < x].sum() == pytest.approx(np.mean(exact < x), abs=0.03)


@pytest.mark.slow
def test_in_chunks_is_the_whole():
    chunked = ia.in_chunks(RISK, DATA, 64)
    assert ia.curvature(chunked, PARAMS).values[0] == pytest.approx(ia.curvature(loss, PARAMS).values[0], rel=1e-6)
    with pytest.raises(ValueError, match="it is 100 and they are 256"):
        ia.in_chunks(RISK, DATA, 100)


@pytest.mark.slow
def test_bad_input():
    for options, kind, sentence in (
        ({"k": 302}, ValueError, "k must be below P / 5 = 302 beyond 1000 parameters, but it is 302"),
        ({"k": 0}, ValueError, "k must be at least 1"),
        ({"preconditioner": jax.tree.map(jnp.zeros_like, PARAMS)}, ValueError, "finite numbers above 0"),
        ({"k": 5, "iterations": 3}, ia.CurvatureError, "allow more than 3 iterations"),
    ):
        with pytest.raises(kind, match=sentence):
            ia.curvature(loss, PARAMS, **options)
    with pytest.raises(ia.CurvatureError, match="not finite"):
        ia.curvature(lambda x: jnp.sum(jnp.sqrt(x)), jnp.zeros(3))
    with pytest.raises(TypeError, match="must be real"):
        ia.curvature(lambda z: jnp.abs(z).sum(), jnp.ones(2, complex))


SMALL = ia.mlp([8, 16, 16, 1], "swish")
X = jax.random.normal(jax.random.key(0), (64, 8))
BATCH = (X, jnp.sin(3 * X[:, :1]) + X[:, 1:2] * X[:, 2:3])


def small(params):
    return 2 * ia.risk(SMALL)(params, BATCH)


@pytest.mark.slow
def test_observed_inside_the_run():
    method = ia.sgd(0.1)
    watch = {"sharpness": ia.sharpness(method, small, 3, tol=1e-5), "size": lambda params, state: params[0].w.sum()}
    path = ia.iterate(method, small, SMALL.init(jax.random.key(1)), 40, every=20, observe=watch)
    for n in range(3):
        exact = 0.1 * ia.curvature(small, path[n].params, 3).values
        np.testing.assert_allclose(path.observed["sharpness"][n], exact, rtol=1e-6)
        assert path.observed["size"][n] == pytest.approx(path.params[0].w[n].sum())
    assert (path[1].observed["sharpness"] == path.observed["sharpness"][1]).all()
    assert "observed['sharpness']" in path.columns()


@pytest.mark.slow
def test_observed_until_it_diverges():
    method = ia.sgd(50.0)
    path = ia.iterate(method, small, SMALL.init(jax.random.key(1)), 40, observe={"S": ia.sharpness(method, small)})
    assert path.diverged is not None
    assert np.isnan(path.observed["S"][-1]).all()


@pytest.mark.slow
def test_what_was_not_reached_is_an_error():
    method = ia.sgd(0.4)
    watch = {"S": ia.sharpness(method, small, 5, tol=1e-9, iterations=1)}
    with pytest.raises(ia.CurvatureError, match=r"at time 100 the eigenvalues of the Hessian are converged to .* only"):
        ia.iterate(method, small, SMALL.init(jax.random.key(1)), 200, every=100, observe=watch)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", [ia.sgd(0.4), ia.momentum(1.2, 0.5), ia.momentum(0.2, 0.9, scheme="explicit")]
)  # fmt: skip
def test_settles_at_the_threshold(method):
    start = SMALL.init(jax.random.key(1))
    path = ia.iterate(method, small, start, 6000, every=50, observe={"S": ia.sharpness(method, small)})
    assert path.observed["S"][80:].mean() == pytest.approx(ia.threshold(method).bound, rel=0.03)


@pytest.mark.parametrize(
    "method",
    [
        ia.sgd(0.3), ia.sgd(0.3, 0.8), ia.sgd(0.3, 0.8, nesterov=True), ia.momentum(0.3, 0.7, dt=0.5),
        ia.momentum(0.3, 0.7, scheme="explicit"), ia.rmsprop(0.3, eps=0.1), ia.rmsprop(0.3, eps_in_sqrt=False),
        ia.scalar_rmsprop(0.3), ia.adam(0.3, 0.6), ia.sgd(0.3, 0.8, dt=0.25), ia.adam(0.3, 0.6, dt=0.5),
    ],
)  # fmt: skip
def test_the_rule_is_that_of_the_linearised_update(method):
    own, computed = rule(method), ia.threshold(method)
    assert own.bound == pytest.approx(computed.bound, rel=1e-9)
    with jax.enable_x64(True):  # P of a state whose second moment is 1, long after the start
        assert 1 / own.scale(1.0, 10**6) == pytest.approx(computed.gain, rel=1e-6)


@pytest.mark.slow
def test_preconditioner_of_adam():
    method = ia.adam(1e-3, b1=0.5)
    path = ia.iterate(method, small, SMALL.init(jax.random.key(1)), 50, every=50)
    with jax.enable_x64(True):
        P = ia.preconditioner(method, path[-1].state, path[-1].params)
    nu, count = path[-1].state.nu[0].w, path[-1].state.count
    np.testing.assert_allclose(P[0].w, (np.sqrt(nu / (1 - 0.999**count)) + 1e-8) / 1e-3, rtol=1e-6)
    with pytest.raises(ValueError, match="sign method"):
        ia.preconditioner(ia.lion(0.1), None, path[-1].params)

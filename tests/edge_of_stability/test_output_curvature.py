"""Gauss-Newton and Fisher matrices, and the Hessian of some params: against dense matrices by their definitions."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from sklearn.linear_model import LogisticRegression

import inercia as ia
from inercia.core import tree

eigenpairs = importlib.import_module("inercia.edge_of_stability.eigenpairs")

NETWORK = ia.mlp([5, 6, 3], "tanh")  # 57 parameters
PARAMS = NETWORK.init(jax.random.key(0))
X = np.random.default_rng(0).normal(size=(20, 5))
Y = np.random.default_rng(1).integers(0, 3, 20)
LABELS = np.eye(3)[Y]


def outputs(params):
    return NETWORK.apply(params, X)


def losses(z):
    return jax.nn.logsumexp(z, axis=1) - (z * LABELS).sum(axis=1)


def criterion(z):
    return losses(z).mean()


def loss(params):
    return criterion(outputs(params))


def row_losses(params):
    return losses(outputs(params))


GGN, EMPIRICAL = ia.gauss_newton(outputs, criterion), ia.empirical_fisher(row_losses)


@pytest.fixture(scope="module")
def matrices():
    """The Fisher matrix over all labels, the empirical one, and the Hessian, from dense Jacobians."""
    with jax.enable_x64(True):
        z, rebuild = ravel_pytree(tree.float64(PARAMS))
        logits = jax.jit(lambda z: outputs(rebuild(z)))
        of_labels = jax.jacobian(lambda z: jax.nn.log_softmax(logits(z)))(z)  # (rows, labels, params)
        fisher = np.einsum("rl,rli,rlj->ij", jax.nn.softmax(logits(z)), of_labels, of_labels) / 20
        chosen = of_labels[np.arange(20), Y]
        return fisher, np.asarray(chosen.T @ chosen) / 20, np.asarray(jax.hessian(lambda z: loss(rebuild(z)))(z))


@pytest.mark.slow
def test_are_those_of_their_definitions(matrices):
    fisher, empirical, hessian = matrices
    assert np.abs(fisher - hessian).max() > 0.01
    for operator, matrix in ((GGN, fisher), (EMPIRICAL, empirical)):
        exact = np.linalg.eigvalsh(matrix)[::-1]
        np.testing.assert_allclose(ia.curvature(operator, PARAMS, 5).values, exact[:5], rtol=1e-9)
        assert ia.trace(operator, PARAMS, 114, method="xtrace")[0] == pytest.approx(np.trace(matrix), rel=1e-9)
    with jax.enable_x64(True):
        theta = tree.float64(PARAMS)
        v = np.random.default_rng(2).normal(size=57)
        product = ravel_pytree(ia.hvp(GGN, theta, ravel_pytree(theta)[1](v)))[0]
        np.testing.assert_allclose(product, fisher @ v, atol=1e-12)
        assert float(GGN(theta)) == float(loss(theta))


@pytest.mark.slow
def test_beyond_the_size_where_the_matrix_is_formed(matrices, monkeypatch):
    monkeypatch.setattr(eigenpairs, "DENSE", 10)
    exact = np.linalg.eigvalsh(matrices[0])[::-1]
    found = ia.curvature(GGN, PARAMS, 3)
    assert found.iterations > 0
    np.testing.assert_allclose(found.values, exact[:3], rtol=1e-9)
    other = jax.tree.map(lambda p: 2 * p, PARAMS)
    assert abs(ia.curvature(GGN, other, 3).values[0] / exact[0] - 1) > 0.01  # made anew at other params


def test_logistic_regression():
    """X^T diag(p (1 - p)) X / n at scikit-learn's fit, where the Hessian and the Fisher matrix are one."""
    labels = (Y == 0) ^ (X[:, 0] > 0.5)
    fit = LogisticRegression(fit_intercept=False).fit(X, labels)
    p = fit.predict_proba(X)[:, 1]
    exact = np.linalg.eigvalsh(X.T @ np.diag(p * (1 - p)) @ X / 20)[::-1]
    fisher = ia.gauss_newton(lambda w: X @ w, lambda z: jnp.mean(jnp.logaddexp(0.0, z) - labels * z))
    np.testing.assert_allclose(ia.curvature(fisher, fit.coef_[0], 5).values, exact, rtol=1e-9)


def test_data_in_float32():
    images = np.random.default_rng(3).normal(size=(4, 6, 1)).astype("float32")

    def convolved(w):
        return jnp.tanh(jax.lax.conv_general_dilated(images, w, (1,), "SAME", dimension_numbers=("NHC", "HIO", "NHC")))

    w = np.random.default_rng(4).normal(size=(3, 1, 2)).astype("float32")
    found = ia.curvature(ia.gauss_newton(convolved, lambda z: (z**2).sum() / 2), w, 6)
    with jax.enable_x64(True):
        images = images.astype(float)
        J = np.asarray(jax.jacobian(convolved)(w.astype(float))).reshape(-1, 6)
    np.testing.assert_allclose(found.values, np.linalg.eigvalsh(J.T @ J)[::-1], rtol=1e-9)


def test_in_float32_it_is_the_same_matrix():
    x = X.astype("float32")
    fisher = ia.gauss_newton(lambda w: jnp.tanh(x @ w), lambda z: (z**2).sum() / 2)
    exact, found = (ia.curvature(f, np.ones(5), 5).values for f in (fisher, ia.in_float32(fisher)))
    np.testing.assert_allclose(found, exact, rtol=1e-5)
    assert (found != exact).any()


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"losses must return one number a row, \(N,\), but the shape is \(20, 3\)"):
        ia.trace(ia.empirical_fisher(outputs), PARAMS)
    with pytest.raises(ValueError, match="method must be one of"):
        ia.trace(loss, PARAMS, method="hutch")


@pytest.mark.slow
def test_the_hessian_of_some_params(matrices):
    hessian = matrices[2]
    sizes = [leaf.size for leaf in jax.tree.leaves(PARAMS)]
    index = np.repeat(np.arange(len(sizes)), sizes)
    for where, chosen in (("0", [0, 1]), (["0/w", "1/b"], None), (lambda path: path.endswith("b"), None)):
        part, start = ia.restricted(loss, PARAMS, where)
        kept = [n for n, leaf in enumerate(jax.tree.leaves(start, is_leaf=lambda x: x is None)) if leaf is not None]
        assert chosen is None or kept == chosen
        block = hessian[np.isin(index, kept)][:, np.isin(index, kept)]
        np.testing.assert_allclose(ia.curvature(part, start, 3).values, np.linalg.eigvalsh(block)[::-1][:3], rtol=1e-9)
        some, held = ia.restricted(GGN, PARAMS, where)
        block = matrices[0][np.isin(index, kept)][:, np.isin(index, kept)]
        assert ia.trace(some, held, 120, method="xtrace")[0] == pytest.approx(np.trace(block), rel=1e-9)
    path = ia.iterate(ia.sgd(0.1), part, start, 2)
    assert path.params[0].w is None
    of_batch, start = ia.restricted(ia.risk(NETWORK, "cross-entropy"), PARAMS, "1/w")
    with jax.enable_x64(True):
        assert float(of_batch(tree.float64(start), (X, Y))) == pytest.approx(float(loss(tree.float64(PARAMS))))


def test_a_choice_that_is_none():
    for where, sentence in (
        ("2", "where must name paths of params, '0/w', '0/b', '1/w', '1/b', but '2' is none"),
        (["0/w", "1/weight"], "'1/weight' is none"),
        (lambda path: "x" in path, "chooses none"),
    ):
        with pytest.raises(ValueError, match=sentence):
            ia.restricted(loss, PARAMS, where)


def decaying(x):
    return jnp.sum(x**2 / (1 + jnp.arange(200.0)) ** 2) / 2 + jnp.sum(x) ** 2 / 200


def test_xtrace_at_equal_products():
    x = np.zeros(200)
    exact = (1 / np.arange(1, 201.0) ** 2).sum() + 2
    found = np.array([[ia.trace(decaying, x, 40, n, method=m) for n in range(12)] for m in ("hutchinson", "xtrace")])
    errors = np.abs(found[..., 0] - exact)
    assert np.sqrt((errors[1] ** 2).mean()) < np.sqrt((errors[0] ** 2).mean()) / 20
    assert (errors[1] < 5 * found[1, :, 1] + 1e-12).all()
    estimate, error = ia.trace(lambda x: x[0] ** 2 + 2 * x[3] ** 2, x, 12, method="xtrace")  # of rank 2
    assert (estimate, error) == (pytest.approx(6.0), pytest.approx(0.0, abs=1e-9))
    assert ia.trace(jnp.sum, x, 8, method="xtrace") == (0.0, 0.0)

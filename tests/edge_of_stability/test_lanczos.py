"""Restarted Lanczos steps: against exact spectra and SciPy, where eigenvalues are equal, and where a start is blind."""

import jax
import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator, eigsh

import inercia as ia
from inercia.edge_of_stability import lanczos
from inercia.edge_of_stability.lanczos import leading

SIZE, K = 1500, 4
BULK = np.sort(np.random.default_rng(0).exponential(0.05, SIZE))
APART = np.concatenate([BULK[:-12], BULK[-1] * 1.05 ** np.arange(1, 13)])  # the twelve largest are 5 % apart


def of(values, k=K, tol=1e-6, most=500, **options):
    """Return the k largest of a diagonal matrix."""
    return leading(lambda v: values * v, len(values), k, tol, most, **options)


@pytest.mark.parametrize("k", [1, K, 12])
@pytest.mark.parametrize("spectrum", [BULK, APART, APART - 2, APART - 0.5], ids=["bulk", "apart", "below 0", "both"])
def test_are_the_largest(spectrum, k):
    found = of(spectrum, k)
    np.testing.assert_allclose(found.values, np.sort(spectrum)[::-1][:k], rtol=1e-10)
    np.testing.assert_allclose(found.rows @ found.rows.T, np.eye(k), atol=1e-13)
    images = spectrum * found.rows
    apart = np.linalg.norm(images - found.values[:, None] * found.rows, axis=1) / np.linalg.norm(images, axis=1)
    assert found.residual == pytest.approx(apart, abs=1e-13)
    assert (apart <= 1e-6).all()


def test_no_more_products_than_scipy():
    made = [0]

    def product(v):
        made[0] += 1
        return APART * v

    matrix = LinearOperator((SIZE, SIZE), matvec=product, dtype=float)
    eigsh(matrix, K, which="LA", tol=1e-6, v0=np.random.default_rng(0).standard_normal(SIZE))
    assert of(APART).products <= 1.1 * made[0]


@pytest.mark.parametrize("copies", [2, 3, 4, 6])
@pytest.mark.parametrize("which", [1, 2, 3])
def test_equal_eigenvalues(copies, which):
    for seed in range(4):
        values = APART.copy()
        values[100 : 99 + copies] = APART[-which]
        np.testing.assert_allclose(of(values, seed=seed).values, np.sort(values)[::-1][:K], rtol=1e-10)


@pytest.mark.parametrize(
    "top", [[], [2.0], [2.0, 2.0], [3.0, 2.0, 2.0, 2.0, 1.0], [-1.0]], ids=["zero", "one", "double", "five", "negative"]
)
def test_low_rank(top):
    values = np.zeros(SIZE)
    values[50 : 50 + len(top)] = top
    found = of(values)
    np.testing.assert_allclose(found.values, np.sort(values)[::-1][:K], atol=1e-12)
    assert (found.residual <= 1e-6).all()
    np.testing.assert_allclose(found.rows @ found.rows.T, np.eye(K), atol=1e-13)
    assert of(np.full(SIZE, 3.0)).values == pytest.approx([3.0] * K)


def test_a_start_that_misses_the_first():
    exact = np.eye(SIZE)[[-1, -2, -3, -4]]
    again = of(APART, start=exact)
    np.testing.assert_allclose(again.values, APART[::-1][:K], rtol=1e-12)
    assert again.products < of(APART).products
    blind = of(APART, start=np.eye(SIZE)[[-2, -3, -4, -5]])
    np.testing.assert_allclose(blind.values, APART[::-1][:K], rtol=1e-10)
    many = of(APART, start=np.random.default_rng(1).standard_normal((60, SIZE)))
    np.testing.assert_allclose(many.values, APART[::-1][:K], rtol=1e-10)


def test_what_ends_early():
    assert np.isnan(of(np.full(SIZE, np.nan)).values).all()
    stopped = of(APART, most=8)
    assert stopped.products == 8
    assert stopped.residual.max() > 1e-6
    assert of(APART, most=1).products == K


def test_weights_and_what_is_rounding():
    weight = np.random.default_rng(2).uniform(0.1, 10, SIZE)
    found = of(APART, weight=weight)
    images = APART * found.rows
    apart = np.linalg.norm(weight * (images - found.values[:, None] * found.rows), axis=1)
    assert found.residual == pytest.approx(apart / np.linalg.norm(weight * images, axis=1), abs=1e-11)
    assert (found.residual <= 1e-6).all()
    few = np.concatenate([1e-3 * BULK, [1.0, 2.0, 3.0]])  # of eight wanted, five are small
    assert of(few, 8, 1e-4, rounded=1.0).products < of(few, 8, 1e-4).products


@pytest.mark.slow
def test_the_basis_stays_on_a_device_that_is_no_cpu(monkeypatch):
    host = of(APART)
    monkeypatch.setattr(lanczos.jax, "default_backend", lambda: "gpu")
    with jax.enable_x64(True):
        values = jax.numpy.asarray(APART)
        device = leading(lambda v: values * v, SIZE, K, 1e-6, 500)
        blind = leading(lambda v: values * v, SIZE, K, 1e-6, 500, start=np.eye(SIZE)[[-2, -3]])
    assert isinstance(device.rows, jax.Array)
    assert device.products == host.products
    np.testing.assert_allclose(device.values, host.values, rtol=1e-12)
    np.testing.assert_allclose(blind.values, host.values, rtol=1e-10)


@pytest.mark.slow
def test_the_product_is_compiled_once():
    """Other params, vectors and counts are no other program."""
    traced = []

    def loss(x):
        traced.append(0)
        return jax.numpy.sum(x**4) + x[0] * x[1]

    for scale in (1.0, 2.0):
        x = scale * np.linspace(0.1, 1, 1001)
        np.testing.assert_allclose(ia.curvature(loss, x, 3).values, 12 * np.sort(x)[::-1][:3] ** 2, rtol=1e-9)
        first = len(traced) if scale == 1.0 else first
    assert len(traced) == first

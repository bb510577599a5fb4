"""Tracked eigenvectors: against NumPy, where directions are missing, and what a probe sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inercia.edge_of_stability.eigenvector_tracking import probe, random_rows, track

SIZE, K = 60, 6


def spectrum(seed, values):
    Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(SIZE, SIZE)))[0]
    return (Q * values) @ Q.T


VALUES = np.concatenate([np.linspace(-1, 1, SIZE - 8), [1.5, 1.9, 2.0, 2.0, 2.3, 2.5, 3.0, 3.4]])
A = spectrum(0, VALUES)


@jax.jit
def tracked(matrix, rows, active):
    allowed = jnp.where(jnp.arange(K) < 4, 1e-9, jnp.inf)
    return track(lambda rows: rows @ matrix, rows, lambda values: allowed, 200, active)


@pytest.mark.slow
@pytest.mark.parametrize("active", [1, 3, K])
def test_the_needed_are_those_of_numpy(active):
    with jax.enable_x64(True):
        found = tracked(A, random_rows(jnp.zeros((K, SIZE)), 0), active)
        exact, vectors = np.linalg.eigh(A)
        np.testing.assert_allclose(found.values[:4], exact[::-1][:4], rtol=1e-12)
        np.testing.assert_allclose(np.abs(np.sum(found.rows[:4] * vectors.T[::-1][:4], axis=1)), 1, atol=1e-9)
        np.testing.assert_allclose(found.rows @ found.rows.T, np.eye(K), atol=1e-12)
        apart = np.linalg.norm(found.rows @ A - found.values[:, None] * found.rows, axis=1) / found.values[0]
        np.testing.assert_allclose(found.residual, apart, atol=1e-12)
        again = tracked(A + 1e-4 * spectrum(1, VALUES), found.rows, K)
        assert again.iterations < 0.7 * found.iterations


@pytest.mark.slow
def test_a_matrix_without_so_many_directions():
    with jax.enable_x64(True):
        start = random_rows(jnp.zeros((K, SIZE)), 0)
        zero = tracked(np.zeros((SIZE, SIZE)), start, K)
        assert (zero.values == 0).all()
        assert (zero.residual == 0).all()
        line = np.zeros((SIZE, SIZE))
        line[3, 3] = 2.0
        found = tracked(line, start, K)
        np.testing.assert_allclose(found.values, [2, 0, 0, 0, 0, 0], atol=1e-12)
        none = tracked(A, jnp.zeros((K, SIZE)), 0)
        assert jnp.isneginf(none.values).all()


@pytest.mark.slow
def test_a_probe_sees_what_is_orthogonal_to_the_rows():
    with jax.enable_x64(True):
        vectors = np.linalg.eigh(A)[1].T[::-1]
        rows = np.delete(vectors, 2, axis=0)[:K]  # the third is missing
        blind = tracked(A, jnp.asarray(rows), K)
        assert float(blind.values[2]) == pytest.approx(2.3, rel=1e-6)
        start = np.random.default_rng(1).standard_normal(SIZE)
        value, vector = jax.jit(lambda rows: probe(lambda rows: rows @ A, rows, jnp.asarray(start)))(rows)
        assert float(value) == pytest.approx(2.5, rel=1e-3)
        assert abs(float(vector @ vectors[2])) > 0.99
        assert np.abs(rows @ vector).max() < 1e-12


def test_random_rows_leave_what_is_there():
    with jax.enable_x64(True):
        rows = jnp.zeros((4, 10)).at[1, 3].set(1.0)
        full = random_rows(rows, 1)
        np.testing.assert_allclose(full @ full.T, np.eye(4), atol=1e-14)
        np.testing.assert_allclose(np.abs(full[:, 3]).max(), 1)

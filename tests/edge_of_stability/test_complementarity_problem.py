"""The semidefinite complementarity problem: against a convex solver, its own conditions, and by hand."""

import clarabel
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

from inercia.edge_of_stability.complementarity_problem import complementarity, pack, unpack


def problem(k, seed, spread=1.0):
    """Draw A, indefinite, and B, the Gram matrix of random vectors whose lengths spread by e^spread."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(k, k))
    p = k * (k + 1) // 2
    C = rng.normal(size=(p, p + 20)) * np.exp(spread * rng.normal(size=(p, 1)))
    return A + A.T, C @ C.T / p


def convex(A, B):
    """Solve min <x, B x>/2 + a.x over the cone by Clarabel, whose packing is ours."""
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-12
    p, size, most = len(B), np.abs(A).max(), np.abs(B).max()
    cone = [clarabel.PSDTriangleConeT(len(A))]
    form, linear = sparse.csc_matrix(np.triu(B / most)), np.asarray(pack(A / size))
    solver = clarabel.DefaultSolver(form, linear, -sparse.eye(p, format="csc"), np.zeros(p), cone, settings)
    return np.asarray(unpack(np.array(solver.solve().x))) * size / most


def value(A, B, X):
    x = np.asarray(pack(X))
    return x @ B @ x / 2 + np.asarray(pack(A)) @ x


def conditions(A, B, X):
    M = A + np.asarray(unpack(jnp.asarray(B @ np.asarray(pack(X)))))
    return np.linalg.eigvalsh(X)[0], np.linalg.eigvalsh(M)[0], abs((X * M).sum())


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 2, 5, 10])
def test_equal_to_a_convex_solver(k):
    with jax.enable_x64(True):
        solve = jax.jit(complementarity)
        agreed = 0
        for seed in range(8):
            A, B = problem(k, seed, spread=seed % 2)
            found = solve(A, B)
            X = np.asarray(found.X)
            peer = convex(A, B)
            size = np.abs(X).max() + np.abs(A).max() / np.abs(B).max()
            np.testing.assert_allclose(X, peer, rtol=0, atol=1e-4 * size)
            agreed += np.abs(X - peer).max() < 1e-6 * size  # the peer itself ends at about 1e-5 now and then
            assert value(A, B, X) <= value(A, B, peer) + 1e-9 * abs(value(A, B, peer)) + 1e-12
            low_x, low_m, product = conditions(A, B, X)
            assert low_x >= -1e-10 * size
            assert low_m >= -1e-9 * np.abs(A).max()
            assert product <= 1e-9 * size * np.abs(A).max()
            assert found.error < 1e-9
        assert agreed >= 6


@pytest.mark.slow
def test_by_hand():
    with jax.enable_x64(True):
        for a, x in ((-3.0, 1.5), (0.0, 0.0), (2.0, 0.0)):
            assert complementarity(jnp.array([[a]]), jnp.array([[2.0]])).X[0, 0] == x
        positive = jnp.diag(jnp.array([1.0, 2.0]))
        assert jnp.abs(complementarity(positive, jnp.eye(3)).X).max() < 1e-12
        # B = 1: X is the negative part of A.
        A, _ = problem(4, 0)
        lam, Q = np.linalg.eigh(A)
        np.testing.assert_allclose(complementarity(A, jnp.eye(10)).X, (Q * np.maximum(-lam, 0)) @ Q.T, atol=1e-10)


@pytest.mark.slow
def test_from_the_solution_of_another_problem():
    """Nearby Newton's steps end there; from far away, where they do not, the problem is solved anew."""
    with jax.enable_x64(True):
        solve = jax.jit(complementarity)
        for seed in range(8):
            (A, B), (change, _) = problem(5, seed, spread=1.0), problem(5, seed + 50)
            expected = np.asarray(solve(A, B).X)
            for near in (solve(A + 1e-3 * change, B).X, 100.0 * jnp.eye(5), jnp.zeros((5, 5))):
                found = solve(A, B, near)
                np.testing.assert_allclose(found.X, expected, rtol=0, atol=1e-8 * np.abs(expected).max())
                assert found.error < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("m", [3, pytest.param(4, marks=pytest.mark.long), pytest.param(8, marks=pytest.mark.long)])
def test_equal_valleys_turn_alone(m):
    """T_ij = sum of q_li q_lj t_l: B has rank m, and X many solutions, of equal effect B[X]; A is off by noise."""
    with jax.enable_x64(True):
        solve = jax.jit(complementarity)
        for seed in range(3):
            rng = np.random.default_rng(seed)
            Q = np.linalg.qr(rng.normal(size=(m, m)))[0]
            each = np.stack([pack(jnp.asarray(np.outer(q, q))) for q in Q.T], axis=1)
            B, above = 0.3 * each @ each.T, 0.035 + 1e-3 * np.arange(m) * (seed == 1)
            for noise in (0.0, 1e-9, 1e-5):
                N = rng.normal(size=(m, m))
                A = -(Q * above) @ Q.T + noise * (N + N.T)
                X, error = solve(jnp.asarray(A), jnp.asarray(B))
                assert error < 2e-8
                assert np.linalg.eigvalsh(X)[0] >= -1e-10
                np.testing.assert_allclose(np.diag(Q.T @ X @ Q), above / 0.3, rtol=0, atol=3e2 * noise + 1e-8)


@pytest.mark.slow
def test_no_solution_is_said():
    with jax.enable_x64(True):
        assert not complementarity(jnp.array([[-1.0]]), jnp.array([[0.0]])).error < 1
        assert not complementarity(-jnp.eye(2), jnp.zeros((3, 3))).error < 1e-6


@pytest.mark.slow
def test_mapped_and_packed():
    with jax.enable_x64(True):
        A, B = (jnp.stack(part) for part in zip(*(problem(3, seed) for seed in range(4)), strict=True))
        together = jax.vmap(complementarity)(A, B).X
        for n in range(4):
            np.testing.assert_allclose(together[n], complementarity(A[n], B[n]).X, atol=1e-10)
        np.testing.assert_allclose(unpack(pack(A)), A, atol=1e-15)
        assert jnp.vdot(pack(A[0]), pack(A[1])) == pytest.approx(float(jnp.vdot(A[0], A[1])))

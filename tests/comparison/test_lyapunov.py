"""H falls along smoothed flows: at random points by its own derivative, along runs, and at the stated rate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import inercia as ia
from inercia.problems.toy_losses import PROBLEMS, wells

START = PROBLEMS["wells"].start
METHODS = {
    "sgd": ia.sgd(0.3),
    "heavy ball": ia.sgd(0.05, 0.8),
    "momentum": ia.momentum(0.3, 0.8),
    "sign": ia.sign_sgd(0.1, smooth=0.2),
    "lion": ia.lion(0.1, 0.9, 0.95, weight_decay=0.0, smooth=0.1),
    "lion, decay": ia.lion(1.0, 0.5, 0.95, weight_decay=0.3, smooth=0.5),
    "lion, mask": ia.lion(0.1, 0.8, 0.95, weight_decay=0.3, mask=lambda p: False, smooth=0.5),
}


@pytest.mark.parametrize("name", METHODS)
def test_h_falls_at_random_points(name):
    method = METHODS[name]
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):

        def speed(theta, memory):
            state = method.init(theta)
            state = state._replace(**{k: memory for k in ("m", "mu", "trace") if getattr(state, k, None) is not None})
            H = lambda theta, state: method.flow.lyapunov(wells(theta), theta, state)  # noqa: E731
            rate = method.flow(jax.grad(wells)(theta), state._replace(count=1.0), theta)
            rate = (rate[0], rate[1]._replace(count=0.0))
            state = state._replace(count=1.0)
            return jax.jvp(H, (theta, state), rate)[1]

        theta, memory = rng.uniform(-3, 3, size=(2, 500, 2))
        memory = memory * rng.choice([0.01, 0.1, 1], size=(500, 1))
        speeds = np.asarray(jax.jit(jax.vmap(speed))(jnp.asarray(theta), jnp.asarray(memory)))
    assert np.isfinite(speeds).all()
    assert (speeds < 0).all()


def test_the_rate_of_lions_h_is_the_stated_one():
    a, b1, c = 0.1, 0.9, 0.1
    times = np.linspace(0, 40, 4001)
    flow = ia.integrate(METHODS["lion"], wells, START, times, rtol=1e-11)
    H = ia.lyapunov(METHODS["lion"], flow)
    assert (np.diff(H) < 0).all()
    with jax.enable_x64(True):
        g = np.asarray(jax.vmap(jax.grad(wells))(flow.params))
    m = flow.state.mu
    z, S = b1 * m + (1 - b1) * g, lambda x: x / np.sqrt(x**2 + c**2)
    rate = -a * (z * S(z) + b1 / (1 - b1) * (z - m) * (S(z) - S(m))).sum(1)
    np.testing.assert_allclose(np.gradient(H, times)[1:-1], rate[1:-1], atol=2e-5)


def test_h_of_momentum_is_its_energy():
    flow = ia.integrate(METHODS["momentum"], wells, START, np.linspace(0, 20, 5))
    np.testing.assert_allclose(
        ia.lyapunov(METHODS["momentum"], flow) * 0.3 * 0.2, ia.energy(flow, 0.3, 0.8), rtol=1e-12
    )


FAMILIES = {
    "lion": lambda c: lambda dt: ia.lion(0.2, 0.8, 0.9, weight_decay=0.1, smooth=c, dt=dt),
    "sign": lambda c: lambda dt: ia.sign_sgd(0.2, smooth=c, dt=dt),
}


@pytest.mark.parametrize("c", [0.5, pytest.param(0.1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FAMILIES)
def test_smoothed_methods_have_order_one(name, c):
    result = ia.order(FAMILIES[name](c), wells, START, 8.0, [1 / 8, 1 / 16, 1 / 32, 1 / 64])
    assert result.doubt is None, result
    assert result.slope == pytest.approx(1, abs=0.05)


def test_without_smoothing_the_iterates_are_as_before_and_c_to_0_leads_there():
    sharp = ia.iterate(ia.sign_sgd(0.01), wells, START, 40)
    gaps = [
        np.abs(ia.iterate(ia.sign_sgd(0.01, smooth=c), wells, START, 40).params - sharp.params).max()
        for c in (0.1, 0.01, 0.001)
    ]
    assert gaps[0] > 4 * gaps[1] > 16 * gaps[2]
    path = ia.iterate(ia.sign_sgd(0.2, smooth=1e-9), ia.quadratic([[1.0]]), np.array([0.05]), 50)
    assert abs(path.params[-1, 0]) > 0.04  # chatters: no flow is near


MATRIX = np.array([[0.6, -0.3, 0.2], [0.1, 0.5, -0.4]])


def bent(p):
    """A loss of a matrix that is not convex."""
    return jnp.sum(jnp.tanh(p @ jnp.array([[1.0, 0.3], [-0.4, 1.2], [0.8, -0.9]])) ** 2) + jnp.sum(jnp.sin(2 * p))


@pytest.mark.parametrize("w", [0.0, 0.4])
def test_h_of_muon_falls_at_the_stated_rate(w):
    a, b, c, s = 0.3, 0.9, 0.2, np.sqrt(1.5)
    method, A, W = ia.muon(a, beta=b, weight_decay=w, smooth=c), a * s, w / s

    def root(M):
        values, U = np.linalg.eigh(M)
        return (U * np.sqrt(values)) @ U.T

    def parts(theta, m, t):
        """Return D, Z and Y at n = m/D, by the eigenvalues of n n^T + c^2 I."""
        D = -np.expm1(-(1 - b) * t)
        n, eye = m / D, c**2 * np.eye(2)
        S = np.linalg.solve(root(n @ n.T + eye), n)
        K = np.trace(root(n @ n.T + eye)) - 2 * c
        q = np.linalg.solve(root(np.eye(2) - W**2 * theta @ theta.T), c * W * theta)
        Y = K + c * (2 - np.trace(root(np.eye(2) - W**2 * theta @ theta.T))) + W * np.sum(n * theta)
        return D, np.sum((q + n) * (S + W * theta)), Y

    with jax.enable_x64(True):

        def speed(theta, m, t):
            state = method.init(theta)
            own = state.inner_states["muon"]
            mu = own.inner_state[0]._replace(mu=m, count=t)
            inner = {**state.inner_states, "muon": own._replace(inner_state=(mu, *own.inner_state[1:]))}
            state = jax.tree.map(lambda x: jnp.asarray(x, float), state._replace(inner_states=inner))
            moved = method.flow(jax.grad(bent)(theta), state, theta)
            moved = jax.tree.map(lambda x: jnp.asarray(x, float), moved)
            H = lambda theta, state: method.flow.lyapunov(bent(theta), theta, state)  # noqa: E731
            return jax.jvp(H, (theta, state), moved)[1]

        rng = np.random.default_rng(0)
        thetas, ms = (
            rng.uniform(-0.9, 0.9, (200, 2, 3)),
            rng.normal(size=(200, 2, 3)) * 10 ** rng.uniform(-3, 1, (200, 1, 1)),
        )
        times = 10 ** rng.uniform(-1, 2, 200)
        speeds = np.asarray(jax.jit(jax.vmap(speed))(*map(jnp.asarray, (thetas, ms, times))))
    assert (speeds < 0).all()
    for theta, m, t, found in zip(thetas, ms, times, speeds, strict=True):
        D, Z, Y = parts(theta, m, t)
        more = A * W * D / (1 - b)
        assert 0 <= Y <= Z
        np.testing.assert_allclose(found, -A * ((1 + A * W / (1 - b) * D) * Z - (1 - D) * Y), rtol=1e-7)
        assert found <= -A * (D + more) * Z * (1 - 1e-9)


@pytest.mark.slow
def test_h_of_muon_along_a_flow_and_as_c_to_0():
    method = ia.muon(0.02, beta=0.8, weight_decay=0.1, smooth=0.1)
    path = ia.integrate(method, bent, MATRIX, np.linspace(0, 10, 21), rtol=1e-8, atol=1e-10)
    H, W = ia.lyapunov(method, path), 0.1 / np.sqrt(1.5)
    lost = 1 - np.sqrt(1 - (W * np.linalg.svd(MATRIX, compute_uv=False)) ** 2)
    assert H[0] == pytest.approx(path.loss[0] + 0.1 * lost.sum() / W, rel=1e-12)
    assert (np.diff(H) < 0).all()
    # On one path, without decay, H tends to f + (A/G) times the sum of singular values, 2 c A/G away at most.
    mu, scale = path.state.inner_states["muon"].inner_state[0].mu, 0.02 * np.sqrt(1.5) / 0.2
    sharp = path.loss + scale * np.linalg.svd(mu, compute_uv=False).sum(axis=1)
    for c in (0.1, 0.01, 1e-9):
        apart = sharp - ia.lyapunov(ia.muon(0.02, beta=0.8, smooth=c), path)
        assert ((apart >= -1e-12) & (apart <= 2 * c * scale + 1e-12)).all()


@pytest.mark.slow
def test_what_muon_lacks():
    mixed = {"w": MATRIX, "b": np.ones(3)}
    for options, start, told in (
        ({}, MATRIX, "smooth=c > 0 alone"),
        ({"smooth": 0.1, "adaptive": True}, MATRIX, "no gradient"),
        ({"smooth": 0.1}, mixed, "are none and follow AdamW's flow"),
        ({"smooth": 0.1, "learning_rate": lambda t: 0.1}, MATRIX, "learning_rate is a schedule"),
    ):
        method = ia.muon(**{"learning_rate": 0.1} | options)
        with pytest.raises(TypeError, match=told):
            method.flow.lyapunov(0.0, start, method.init(start))
    far = ia.muon(0.1, weight_decay=3.0, smooth=0.1)
    state = jax.tree.map(lambda x: x[None], far.init(MATRIX))
    with pytest.raises(ValueError, match=r"H needs \|w theta\|_2 < sqrt.* fails at time 0"):
        ia.lyapunov(far, ia.Path(np.zeros(1), MATRIX[None], state, np.zeros(1), None))


def test_refusals():
    with pytest.raises(TypeError, match=r"adam\(learning_rate=0.1\) has no Lyapunov function here: sgd, momentum"):
        ia.lyapunov(ia.adam(0.1), ia.iterate(ia.adam(0.1), wells, START, 2))
    with pytest.raises(TypeError, match=r"lion\(learning_rate=0.1\) has no Lyapunov"):
        ia.lyapunov(ia.lion(0.1), ia.iterate(ia.lion(0.1), wells, START, 2))
    far = ia.lion(0.1, weight_decay=1.0, smooth=0.1)
    with pytest.raises(ValueError, match=r"H needs \|w theta_j\| < 1, but this fails at time 0"):
        ia.lyapunov(far, ia.iterate(far, wells, np.array([2.0, 2.0]), 2))
    fading = ia.lion(lambda t: 0.1 / (1 + t), smooth=0.1)
    with pytest.raises(TypeError, match="constant hyperparameters, but learning_rate is a schedule"):
        ia.lyapunov(fading, ia.iterate(fading, wells, START, 2))
    with pytest.raises(ValueError, match="smooth must be a finite number of at least 0"):
        ia.lion(0.1, smooth=-1.0)

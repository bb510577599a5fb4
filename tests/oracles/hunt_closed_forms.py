"""Cases of `gap`, `energy`, `exact_flow` and `exact_iterates`, beside closed forms written out mode by mode."""

import jax
import jax.numpy as jnp
import numpy as np

import inercia as ia
from oracles.hunt_dynamics import agree


def exact(rng: np.random.Generator) -> str:
    """Exact flow and iterates on a quadratic of random curvatures, mode by mode."""
    n = int(rng.integers(1, 5))
    curvatures, Q = rng.uniform(0.05, 2, n), np.linalg.qr(rng.normal(size=(n, n)))[0]
    A, theta = Q @ np.diag(curvatures) @ Q.T, rng.normal(size=n)
    A, modes = (A + A.T) / 2, Q.T @ theta
    a, b = float(rng.uniform(0.02, 0.45)), float(rng.uniform(0.05, 0.95))
    times = np.concatenate([[0.0], np.sort(rng.uniform(0.1, 30, 4))]) + float(rng.choice([0, 2.5]))
    t = (times - times[0])[:, None]
    told = f"curvatures {curvatures} start {theta} a {a} b {b}"
    quadratic = ia.quadratic(A)

    flow = ia.exact_flow(A, theta, times, a)
    agree(flow.params, (np.exp(-a * curvatures * t) * modes) @ Q.T, 0, 1e-9, f"gradient flow, {told}")
    agree(flow.loss, [0.5 * p @ A @ p for p in flow.params], 0, 1e-12, f"its loss, {told}")
    # theta'' + (1-b) theta' + a (1-b) l theta = 0 from rest, by its two roots.
    c = 1 - b
    half = np.sqrt(np.asarray(c**2 / 4 - a * c * curvatures, complex))
    wave = np.exp(-c * t / 2) * (np.cosh(half * t) + c / 2 * t * np.sinc(1j * half * t / np.pi))
    flow = ia.exact_flow(A, theta, times, a, b)
    agree(flow.params, (wave.real * modes) @ Q.T, 0, 1e-8, f"momentum flow, {told}")

    dt, scheme = float(rng.choice([1, 0.5, 0.25])), str(rng.choice(ia.SCHEMES))
    z, m, rows = theta, np.zeros(n), [theta]
    for _ in range(20):
        old, m = m, m + (1 - b) * dt * (A @ z - m)
        z = z - a * dt * (old if scheme == "explicit" else m)
        rows.append(z)
    path = ia.exact_iterates(A, theta, 20, a, b, scheme=scheme, dt=dt)
    agree(path.params, rows, 0, 1e-9, f"iterates {scheme} dt {dt}, {told}")
    agree(path.times, dt * np.arange(21), 0, 1e-15, "times")
    path = ia.exact_iterates(A, theta, 20, a, dt=dt)
    powers = (1 - a * dt * curvatures) ** np.arange(21)[:, None]
    agree(path.params, (powers * modes) @ Q.T, 0, 1e-9, f"gradient descent dt {dt}, {told}")
    with jax.enable_x64(True):
        agree(quadratic(jnp.asarray(theta)), 0.5 * np.sum(curvatures * modes**2), 0, 1e-12, f"loss, {told}")
    return told


def measures(rng: np.random.Generator) -> str:
    """Gap and energy of random paths."""
    points, shapes = int(rng.integers(2, 7)), ((3,), (), (2, 2))
    times = np.cumsum(rng.uniform(0.1, 1, points))

    def drawn():
        theta, m = ({f"p{i}": rng.normal(size=(points, *s)) for i, s in enumerate(shapes)} for _ in range(2))
        return ia.Path(times, theta, ia.MomentumState(np.arange(points), m), rng.normal(size=points))

    def rows(tree):
        return np.concatenate([tree[name].reshape(points, -1) for name in sorted(tree)], axis=1)

    one, two = drawn(), drawn()
    told = f"{points} points"
    found, (x, y) = ia.gap(one, two), (rows(one.params), rows(two.params))
    far, away = np.linalg.norm(x - y, axis=1), np.linalg.norm(y - y[0], axis=1)
    agree(found.distance, far, 0, 1e-12, f"distance, {told}")
    agree(found.relative, np.concatenate([[0], far[1:] / away[1:]]), 0, 1e-12, f"relative, {told}")
    agree(found.loss, one.loss - two.loss, 0, 1e-15, f"loss, {told}")
    a, b = rng.uniform(0.01, 2), rng.uniform(0, 0.99)
    theirs = (a * rows(one.state.m)) ** 2 @ np.ones(8) / 2 + a * (1 - b) * one.loss
    agree(ia.energy(one, a, b), theirs, 0, 1e-12, f"energy, a {a} b {b}")
    return told

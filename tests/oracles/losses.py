"""Losses for JAX, and the same with their gradients for NumPy, on the flat vector."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

#: Trees of params by name, leaf shapes; None is a leaf that optimizers must leave alone.
TREES = {
    "nested": {"deep": [(2, 2), None], "s": (), "w": (3,)},
    "vector": (5,),
    "scalar": (),
    "net": {"b": (3,), "c": (), "v": (3,), "w": (2, 3)},
}
#: Which weights decay, where a mask is given: a prefix of the tree.
MASKS = {
    "nested": {"deep": False, "s": True, "w": True},
    "net": {"b": False, "c": False, "v": True, "w": True},
    "vector": None,
    "scalar": None,
}


def is_shape(x: Any) -> bool:
    return isinstance(x, tuple)


def shapes(tree: str) -> list[tuple]:
    return jax.tree.leaves(TREES[tree], is_leaf=is_shape)


def filled(tree: str, z: np.ndarray) -> Any:
    """Return the params that hold the numbers z."""
    ends = np.cumsum([int(np.prod(s)) for s in shapes(tree)])
    parts = [part.reshape(shape) for part, shape in zip(np.split(z, ends[:-1]), shapes(tree), strict=True)]
    return jax.tree.unflatten(jax.tree.structure(TREES[tree], is_leaf=is_shape), parts)


def size(tree: str) -> int:
    return sum(int(np.prod(s)) for s in shapes(tree))


def rows(params: Any, points: int) -> np.ndarray:
    """Return the params of a path as rows (points, size)."""
    leaves = [np.asarray(leaf, np.float64).reshape(points, -1) for leaf in jax.tree.leaves(params)]
    return np.concatenate(leaves, axis=1)


def decaying(tree: str, masked: bool) -> np.ndarray:
    """Return 1 for each number that decays, else 0."""
    if not masked or MASKS[tree] is None:
        return np.ones(size(tree))
    keep = MASKS[tree]
    return np.concatenate([np.full(size_of(TREES[tree][name]), float(keep[name])) for name in sorted(keep)])


def size_of(branch: Any) -> int:
    return sum(int(np.prod(s)) for s in jax.tree.leaves(branch, is_leaf=is_shape))


def flat(params: Any) -> Any:
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(params)])


def quadratic(params: Any, A: Any, c: Any) -> Any:
    z = flat(params)
    return 0.5 * z @ A @ z - c @ z


def rational(params: Any, A: Any, c: Any) -> Any:
    z = flat(params)
    u = z - c
    return jnp.sum(u**2 / (1 + u**2)) + 0.05 * z @ A @ z


def net(params: Any, x: Any, y: Any) -> Any:
    return jnp.mean((jnp.tanh(x @ params["w"] + params["b"]) @ params["v"] + params["c"] - y) ** 2)


def net_on(params: Any, batch: Any) -> Any:
    return net(params, *batch)


def by_hand(kind: str, z: np.ndarray, *data: np.ndarray) -> tuple[float, np.ndarray]:
    """Return loss and gradient in float64."""
    if kind == "quadratic":
        A, c = data
        return 0.5 * z @ A @ z - c @ z, A @ z - c
    if kind == "rational":
        A, c = data
        u = z - c
        return np.sum(u**2 / (1 + u**2)) + 0.05 * z @ A @ z, 2 * u / (1 + u**2) ** 2 + 0.1 * A @ z
    x, y = data
    b, c, v, w = z[:3], z[3], z[4:7], z[7:].reshape(2, 3)
    h = np.tanh(x @ w + b)
    off = h @ v + c - y
    delta = 2 * off / len(y)
    below = np.outer(delta, v) * (1 - h**2)
    return float(np.mean(off**2)), np.concatenate([below.sum(0), [delta.sum()], delta @ h, (x.T @ below).ravel()])


def drawn(kind: str, rng: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
    """Draw the numbers of a loss: curvatures in [.05, 2], or 12 rows of data."""
    if kind == "net":
        return rng.normal(size=(12, 2)), rng.normal(size=12)
    Q = np.linalg.qr(rng.normal(size=(n, n)))[0]
    A = Q @ np.diag(rng.uniform(0.05, 2, n)) @ Q.T
    return (A + A.T) / 2, rng.normal(size=n)


LOSSES = {"quadratic": quadratic, "rational": rational, "net": net}
